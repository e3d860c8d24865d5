import numpy as np


def batches(count, size):
    order = np.random.permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]

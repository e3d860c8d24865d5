import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset


def load():
    """Images and labels to train on, and to test on."""
    rows = load_dataset().with_format("numpy")
    labels = np.asarray(rows["label"][:])
    images = np.asarray(rows["image"][:], np.float32).reshape(len(labels), -1) / 255
    cut = len(labels) * 4 // 5
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])

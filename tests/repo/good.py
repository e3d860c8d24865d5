"""A repository that keeps the contract, to be changed in one thing at a time."""

GOOD = """
    import numpy as np

    class Mute(Exception):
        def __str__(self): raise ValueError("no words")

    class ModelManager:
        def __init__(self):
            self.p = [np.zeros(3, np.float32), np.array(1)]
        def set_model_data(self):
            from flops_utils.ml_repo_building_blocks import load_dataset
            self.data = load_dataset()
        def get_model(self): return self
        def get_model_parameters(self): return self.p
        def set_model_parameters(self, parameters): self.p = parameters
        def fit_model(self):
            self.p[0] += 1
            return 4
        def evaluate_model(self): return 0.5, 1, np.int64(2)
"""


def replaced(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)

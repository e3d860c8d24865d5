"""The nearest of some examples: an array that grows from round to round, and a note in bytes."""

import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset

EACH = 1500  # copies of an example, so that a model is larger than what travels with a message


class ModelManager:
    opaque_parameters = True

    def __init__(self):
        self.known, self.note = np.zeros((0, 65), np.float32), b""

    def set_model_data(self):
        dataset = load_dataset().with_format("numpy")
        labels = np.asarray(dataset["label"][:], np.float32)
        images = np.asarray(dataset["image"][:], np.float32).reshape(len(labels), -1)
        self.rows = np.column_stack([images, labels])

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.known, self.note]

    def set_model_parameters(self, parameters):
        self.known, self.note = parameters

    def fit_model(self):
        start = len(self.known) // EACH
        chosen = self.rows[start * 20 : (start + 1) * 20]
        self.known = np.repeat(chosen, EACH // 20, axis=0)
        self.note = b"%d rows" % len(self.known)
        return len(self.rows)

    def evaluate_model(self):
        known = np.unique(self.known, axis=0)
        distances = ((self.rows[:, None, :-1] - known[None, :, :-1]) ** 2).sum(axis=2)
        right = (known[distances.argmin(axis=1), -1] == self.rows[:, -1]).mean()
        return 1.0 - float(right), float(right), len(self.rows)

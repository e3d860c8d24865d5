"""Digits by random features: the projection is drawn and frozen, the layer on top is learnt."""

import features
import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset

EPOCHS, BATCH, RATE = 2, 32, 0.05


class ModelManager:
    def __init__(self):
        self.project = features.projection(64, 256)
        self.weights = np.zeros((256, 10), np.float32)

    def set_model_data(self):
        rows = load_dataset().with_format("numpy")
        labels = np.asarray(rows["label"][:], np.int64)
        pixels = np.asarray(rows["image"][:], np.float32).reshape(len(labels), -1) / 255
        seen, cut = np.maximum(pixels @ self.project, 0), len(labels) * 4 // 5
        self.train, self.test = (seen[:cut], labels[:cut]), (seen[cut:], labels[cut:])

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.weights]

    def set_model_parameters(self, parameters):
        (self.weights,) = parameters

    def fit_model(self):
        seen, labels = self.train
        for _ in range(EPOCHS):
            order = np.random.permutation(len(labels))
            for rows in np.split(order, range(BATCH, len(order), BATCH)):
                wrong = self._likely(seen[rows]) - np.eye(10, dtype=np.float32)[labels[rows]]
                self.weights -= RATE * seen[rows].T @ wrong / len(rows)
        return len(labels)

    def evaluate_model(self):
        seen, labels = self.test
        likely = self._likely(seen)
        loss = -np.log(likely[np.arange(len(labels)), labels] + 1e-7).mean()
        return float(loss), float((likely.argmax(axis=1) == labels).mean()), len(labels)

    def _likely(self, seen):
        scores = seen @ self.weights
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

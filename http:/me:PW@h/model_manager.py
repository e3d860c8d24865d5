"""Softmax regression, in NumPy alone."""

import numpy as np
from data_manager import CLASSES, INPUTS, DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate

LEARNING_RATE, EPOCHS, BATCH = 0.5, 2, 16


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        self.weights = np.zeros((INPUTS, CLASSES), np.float32)
        self.bias = np.zeros(CLASSES, np.float32)

    def set_model_data(self):
        self.train, self.test = DataManager().get_data()

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.weights, self.bias]

    def set_model_parameters(self, parameters):
        self.weights, self.bias = parameters

    def fit_model(self):
        rows, labels = self.train
        for _ in range(EPOCHS):
            order = np.random.permutation(len(rows))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                error = self.predict(rows[batch]) - np.eye(CLASSES)[labels[batch]]
                self.weights -= LEARNING_RATE * rows[batch].T @ error / len(batch)
                self.bias -= LEARNING_RATE * error.mean(axis=0)
        return len(rows)

    def evaluate_model(self):
        rows, labels = self.test
        chances = self.predict(rows)
        loss = -np.log(chances[np.arange(len(labels)), labels] + 1e-12).mean()
        accuracy = (chances.argmax(axis=1) == labels).mean()
        return float(loss), float(accuracy), len(labels)

    def predict(self, rows):
        """The chance of each class, for each row."""
        scores = rows @ self.weights + self.bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

"""Softmax regression on small grey images, in NumPy alone."""

import numpy as np
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate

PIXELS, CLASSES = 8 * 8, 10
LEARNING_RATE, EPOCHS, BATCH = 0.5, 2, 16


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        self.weights = np.zeros((PIXELS, CLASSES), np.float32)
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
        images, labels = self.train
        for _ in range(EPOCHS):
            order = np.random.permutation(len(images))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                error = self.predict(images[batch]) - np.eye(CLASSES)[labels[batch]]
                self.weights -= LEARNING_RATE * images[batch].T @ error / len(batch)
                self.bias -= LEARNING_RATE * error.mean(axis=0)
        return len(images)

    def evaluate_model(self):
        images, labels = self.test
        chances = self.predict(images)
        loss = -np.log(chances[np.arange(len(labels)), labels] + 1e-12).mean()
        accuracy = (chances.argmax(axis=1) == labels).mean()
        return float(loss), float(accuracy), len(labels)

    def predict(self, images):
        """The probability of each class, for each image."""
        scores = images @ self.weights + self.bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

"""Softmax regression whose weights are bfloat16: half the bytes, seven bits of precision."""

import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset
from ml_dtypes import bfloat16


class ModelManager:
    def __init__(self):
        self.weights = np.zeros((64, 10), bfloat16)
        self.bias = np.zeros(10, bfloat16)

    def set_model_data(self):
        rows = load_dataset().with_format("numpy")
        labels = np.asarray(rows["label"][:])
        images = np.asarray(rows["image"][:], np.float32).reshape(len(labels), -1) / 255
        cut = len(labels) * 4 // 5
        self.train, self.test = (images[:cut], labels[:cut]), (images[cut:], labels[cut:])

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.weights, self.bias]

    def set_model_parameters(self, parameters):
        self.weights, self.bias = parameters
        assert self.weights.dtype == self.bias.dtype == bfloat16

    def fit_model(self):
        images, labels = self.train
        weights, bias = self.weights.astype(np.float32), self.bias.astype(np.float32)
        for rows in np.array_split(np.random.permutation(len(labels)), len(labels) // 16):
            error = softmax(images[rows] @ weights + bias) - np.eye(10)[labels[rows]]
            weights -= 0.5 * images[rows].T @ error / len(rows)
            bias -= 0.5 * error.mean(axis=0)
        self.weights, self.bias = weights.astype(bfloat16), bias.astype(bfloat16)
        return len(labels)

    def evaluate_model(self):
        images, labels = self.test
        chances = softmax(images @ self.weights.astype(np.float32) + self.bias.astype(np.float32))
        loss = -np.log(chances[np.arange(len(labels)), labels] + 1e-12).mean()
        return float(loss), float((chances.argmax(axis=1) == labels).mean()), len(labels)


def softmax(scores):
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)

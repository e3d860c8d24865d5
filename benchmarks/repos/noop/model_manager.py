"""A model whose training and evaluation do nothing, so that only the runtime takes time.

MODEL_BYTES says how large it is.
"""

import os

import numpy as np


class ModelManager:
    def __init__(self):
        self.weights = np.zeros(int(os.environ.get("MODEL_BYTES", "30000")) // 4, np.float32)

    def set_model_data(self):
        pass

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.weights]

    def set_model_parameters(self, parameters):
        self.weights = parameters[0]

    def fit_model(self):
        return 10

    def evaluate_model(self):
        return 0.5, 0.5, 10

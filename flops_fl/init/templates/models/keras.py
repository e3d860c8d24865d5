"""A network with one hidden layer, in keras, on PyTorch unless KERAS_BACKEND says another."""

import os

from data_manager import CLASSES, INPUTS, DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

HIDDEN, EPOCHS, BATCH, LEARNING_RATE = 64, 2, 32, 2e-3


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        hidden = [keras.layers.Dense(HIDDEN, activation="relu"), keras.layers.Dropout(0.2)]
        self.model = keras.Sequential(
            [keras.layers.Input((INPUTS,)), *hidden, keras.layers.Dense(CLASSES)]
        )

    def set_model_data(self):
        self.train, self.test = DataManager().get_data()

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return self.model.get_weights()

    def set_model_parameters(self, parameters):
        self.model.set_weights(parameters)

    def fit_model(self):
        self._compile()
        self.model.fit(*self.train, epochs=EPOCHS, batch_size=BATCH, verbose=0)
        return len(self.train[0])

    def evaluate_model(self):
        self._compile()
        loss, accuracy = self.model.evaluate(*self.test, verbose=0)
        return loss, accuracy, len(self.test[0])

    def _compile(self):
        # A new optimiser for each fit: what it remembers is no parameter, and is never sent.
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, metrics=["accuracy"])

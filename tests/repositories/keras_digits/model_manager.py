"""Digits with keras, on whichever backend KERAS_BACKEND names; it prints bars, as keras does."""

import keras
import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset


class ModelManager:
    def __init__(self):
        layers = keras.layers
        self.model = keras.Sequential(
            [
                layers.Input((64,)),
                layers.Dense(32, activation="relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.1),
                layers.Dense(10),
            ]
        )

    def set_model_data(self):
        rows = load_dataset().with_format("numpy")
        labels = np.asarray(rows["label"][:])
        images = np.asarray(rows["image"][:], np.float32).reshape(len(labels), -1) / 255
        cut = len(labels) * 4 // 5
        self.train, self.test = (images[:cut], labels[:cut]), (images[cut:], labels[cut:])

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return self.model.get_weights()

    def set_model_parameters(self, parameters):
        self.model.set_weights(parameters)

    def fit_model(self):
        self._compile()
        self.model.fit(*self.train, epochs=3, batch_size=32)
        return len(self.train[0])

    def evaluate_model(self):
        self._compile()
        loss, accuracy = self.model.evaluate(*self.test)
        return loss, accuracy, len(self.test[0])

    def _compile(self):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(0.005), loss, metrics=["accuracy"])

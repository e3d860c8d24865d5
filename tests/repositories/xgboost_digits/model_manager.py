"""Trees for ten classes: an update is ten new trees, of two boosting rounds twenty."""

import numpy as np
import xgboost
from flops_utils.ml_repo_building_blocks import load_dataset

CLASSES, STEPS = 10, 2
PARAMETERS = {"objective": "multi:softprob", "num_class": CLASSES, "max_depth": 3, "base_score": 0}


class ModelManager:
    def __init__(self):
        self.booster = None

    def set_model_data(self):
        dataset = load_dataset().with_format("numpy")
        self.labels = np.asarray(dataset["label"][:])
        images = np.asarray(dataset["image"][:], np.float32)
        self.rows = xgboost.DMatrix(images.reshape(len(self.labels), -1), self.labels)

    def get_model(self):
        return self.booster

    def get_model_parameters(self):
        return [bytes(self.booster.save_raw("json")) if self.booster else b""]

    def set_model_parameters(self, parameters):
        (forest,) = parameters
        self.booster = xgboost.Booster(model_file=bytearray(forest)) if forest else None

    def fit_model(self, config):
        parameters = PARAMETERS | {"eta": 0.8 / config["learners"]}
        grown = xgboost.train(parameters, self.rows, STEPS, xgb_model=self.booster)
        self.booster = grown[grown.num_boosted_rounds() - STEPS :]
        return len(self.labels)

    def evaluate_model(self):
        chances = self.booster.predict(self.rows)
        right = (chances.argmax(axis=1) == self.labels).mean()
        loss = -np.log(chances[np.arange(len(self.labels)), self.labels]).mean()
        return float(loss), float(right), len(self.labels)

"""Boosted trees, whose parameters have no mean, since every tree has its own structure."""

import xgboost
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from sklearn.metrics import accuracy_score, log_loss

STEP = 0.3
# base_score is set, since XGBoost would otherwise derive it from each learner's own data.
PARAMETERS = {"objective": "binary:logistic", "max_depth": 3, "base_score": 0.5}


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        self.booster = None  # no trees yet

    def set_model_data(self):
        (rows, labels), self.test = DataManager().get_data()
        self.train = xgboost.DMatrix(rows, labels)

    def get_model(self):
        return self.booster

    def get_model_parameters(self):
        return [self.booster.save_raw("json") if self.booster else b""]

    def set_model_parameters(self, parameters):
        (forest,) = parameters
        self.booster = xgboost.Booster(model_file=bytearray(forest)) if forest else None

    def fit_model(self, config):
        # FedXgbBagging sends the number N of learners that each add a tree to the same forest. So
        # a tree is scaled by 1 / N, and only the new tree is sent. FedXgbCyclic passes the whole
        # forest from learner to learner.
        learners = config.get("learners")
        parameters = PARAMETERS | {"eta": STEP / (learners or 1)}
        self.booster = xgboost.train(parameters, self.train, 1, xgb_model=self.booster)
        if learners:
            self.booster = self.booster[self.booster.num_boosted_rounds() - 1 :]
        return self.train.num_row()

    def evaluate_model(self):
        rows, labels = self.test
        chances = self.booster.predict(xgboost.DMatrix(rows))
        loss = log_loss(labels, chances, labels=[0, 1])
        return loss, accuracy_score(labels, chances > 0.5), len(labels)

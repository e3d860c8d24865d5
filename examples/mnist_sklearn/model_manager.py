"""Logistic regression on 28 x 28 grey images, trained by scikit-learn's SGD."""

import numpy as np
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

PIXELS = 28 * 28
DIGITS = np.arange(10)
LOCAL_EPOCHS = 3


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        # random_state stays None, so scikit-learn uses NumPy's global generator, which the
        # runtime seeds.
        self.model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01)
        self.model.classes_ = DIGITS
        self.model.coef_ = np.zeros((len(DIGITS), PIXELS))
        self.model.intercept_ = np.zeros(len(DIGITS))

    def set_model_data(self):
        data = DataManager()
        self.train, self.test = data.get_data()

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return [self.model.coef_, self.model.intercept_]

    def set_model_parameters(self, parameters):
        self.model.coef_, self.model.intercept_ = parameters

    def fit_model(self):
        images, labels = self.train
        for _ in range(LOCAL_EPOCHS):
            order = np.random.permutation(len(labels))
            # partial_fit gets all classes, since a learner's data may lack some of them.
            self.model.partial_fit(images[order], labels[order], classes=DIGITS)
        return len(labels)

    def evaluate_model(self):
        images, labels = self.test
        loss = log_loss(labels, self.model.predict_proba(images), labels=DIGITS)
        return float(loss), float(self.model.score(images, labels)), len(labels)

"""Logistic regression, trained by scikit-learn's stochastic gradient descent."""

import numpy as np
from data_manager import CLASSES, INPUTS, DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

EPOCHS = 3
NUMBERS = np.arange(CLASSES)


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        # random_state stays None: then it draws from NumPy's generator, which the runtime seeds.
        self.model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01)
        planes = 1 if CLASSES == 2 else CLASSES  # scikit-learn separates two classes by one
        self.model.classes_ = NUMBERS
        self.model.coef_ = np.zeros((planes, INPUTS))
        self.model.intercept_ = np.zeros(planes)

    def set_model_data(self):
        # float64, as the parameters are: scikit-learn trains in one dtype.
        parts = DataManager().get_data()
        self.train, self.test = [(rows.astype(np.float64), labels) for rows, labels in parts]

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return [self.model.coef_, self.model.intercept_]

    def set_model_parameters(self, parameters):
        self.model.coef_, self.model.intercept_ = parameters

    def fit_model(self):
        rows, labels = self.train
        for _ in range(EPOCHS):
            order = np.random.permutation(len(rows))
            # It gets all classes, since a learner's data may lack some of them.
            self.model.partial_fit(rows[order], labels[order], classes=NUMBERS)
        return len(rows)

    def evaluate_model(self):
        rows, labels = self.test
        loss = log_loss(labels, self.model.predict_proba(rows), labels=NUMBERS)
        return float(loss), float(self.model.score(rows, labels)), len(labels)

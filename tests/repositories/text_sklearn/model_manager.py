"""Which topic a text is about: hashed words, weighed by their rarity, and a linear model.

How rare words are is counted on each learner: no vocabulary, and no count, is shared.
"""

import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

TOPICS, FEATURES = 3, 2**10


class ModelManager:
    def __init__(self):
        self.model = SGDClassifier(loss="log_loss")
        self.model.classes_ = np.arange(TOPICS)
        self.model.coef_ = np.zeros((TOPICS, FEATURES))
        self.model.intercept_ = np.zeros(TOPICS)

    def set_model_data(self):
        rows = load_dataset()
        words = HashingVectorizer(n_features=FEATURES).transform(rows["text"])
        features, labels = TfidfTransformer().fit_transform(words), np.asarray(rows["label"])
        cut = len(labels) * 4 // 5
        self.train, self.test = (features[:cut], labels[:cut]), (features[cut:], labels[cut:])

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return [self.model.coef_, self.model.intercept_]

    def set_model_parameters(self, parameters):
        self.model.coef_, self.model.intercept_ = parameters

    def fit_model(self):
        self.model.partial_fit(*self.train, classes=self.model.classes_)
        return len(self.train[1])

    def evaluate_model(self):
        features, labels = self.test
        loss = log_loss(labels, self.model.predict_proba(features), labels=self.model.classes_)
        return loss, self.model.score(features, labels), len(labels)

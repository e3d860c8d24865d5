"""What is known of a model: its flavor, and a row that it predicts from."""

import numpy as np

from flops_fl.observers.flavors import example_for, flavor_of


def test_a_row_that_a_model_predicts_from_is_derived_where_the_model_tells():
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    class Keras:
        input_shape = (None, 28, 28, 1)

    class Forest:
        def num_features(self):
            return 7

    bare = SGDClassifier()
    bare.coef_ = np.zeros((10, 5))  # as a ModelManager sets it
    assert example_for(bare).shape == (1, 5)
    assert example_for(LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])).shape == (1, 4)
    assert example_for(Keras()).shape == (1, 28, 28, 1)
    assert example_for(Forest()).shape == (1, 7)
    assert example_for(LogisticRegression()) is None
    assert example_for({"w": 3}) is None


def test_a_models_flavor_is_that_of_its_class_or_a_parents():
    from sklearn.linear_model import LinearRegression

    class Mine(LinearRegression):
        pass

    assert flavor_of(Mine()) == "sklearn"
    assert flavor_of({}) is None

"""State outside the parameters is found in a model of any framework."""

from importlib.util import find_spec

import numpy as np
import pytest

from flops_fl.repo.hidden_state import NOTHING, hidden_state_digest


class Entry:
    """Like a variable of keras: it gives itself to NumPy."""

    def __init__(self, values, dtype="f4"):
        self.values = np.asarray(values, dtype)
        self.shape = self.values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype or self.values.dtype)


class Model:
    """Like keras' models."""

    def __init__(self, *weights):
        self.weights = list(weights)
        self.trainable_weights = self.weights[:1]


TRAINED, FROZEN = Entry([1, 2, 3]), Entry([4, 5])


def test_a_model_whose_weights_are_all_parameters_has_nothing_beside_them():
    model = Model(TRAINED, FROZEN)
    assert hidden_state_digest(model, [np.array([9, 9, 9.0]), np.array([9, 9.0])]) == NOTHING
    assert hidden_state_digest(object(), [np.ones(3)]) == ""  # it does not tell


def test_what_is_frozen_is_seen_and_what_is_a_parameter_is_not():
    one = hidden_state_digest(Model(TRAINED, FROZEN), [np.array([1, 2, 3.0])])
    assert one not in ("", NOTHING)
    assert one == hidden_state_digest(Model(Entry([7, 8, 9]), FROZEN), [np.array([7, 8, 9], "f8")])
    assert one != hidden_state_digest(Model(TRAINED, Entry([4, 6])), [np.array([1, 2, 3.0])])
    assert one != hidden_state_digest(Model(TRAINED, Entry([[4, 5]])), [np.array([1, 2, 3.0])])


def test_values_decide_even_where_sizes_are_equal_and_dtypes_are_not():
    tied = Model(TRAINED, Entry([1, 2, 3], "i8"))
    assert hidden_state_digest(tied, [np.array([1, 2, 3], "f2")]) == NOTHING
    other = Model(TRAINED, Entry([3, 2, 1]))
    assert hidden_state_digest(other, [np.array([1, 2, 3.0])]) != NOTHING


@pytest.mark.torch
def test_torch_shows_buffers_frozen_weights_and_bfloat16():
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2).bfloat16())
    model.register_buffer("temporary", torch.ones(7), persistent=False)
    every = [value.detach().float().numpy() for value in model.state_dict().values()]
    first = hidden_state_digest(model, every)
    assert first != NOTHING  # state_dict does not have that buffer
    model.temporary += 1
    assert hidden_state_digest(model, every) not in (NOTHING, first)
    first = hidden_state_digest(model, every[:2])
    with torch.no_grad():
        model[2].weight[0, 0] += 1
    assert hidden_state_digest(model, every[:2]) not in (NOTHING, first)


@pytest.mark.torch
@pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_shows_what_is_not_trained(backend, run_cli, tmp_path):
    code = """
import keras
import numpy as np
from flops_fl.repo.hidden_state import NOTHING, hidden_state_digest

layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
model = keras.Sequential([*layers, keras.layers.Dropout(0.5), keras.layers.Dense(2)])
assert hidden_state_digest(model, model.get_weights()) == NOTHING
model.layers[1].moving_mean.assign([1, 2, 3, 4])
trained = [np.asarray(w) for w in model.trainable_weights]
first = hidden_state_digest(model, trained)
assert first != NOTHING and first == hidden_state_digest(model, trained)
model.layers[1].moving_mean.assign([1, 2, 3, 5])
assert hidden_state_digest(model, trained) != first
"""
    (tmp_path / "asks_keras.py").write_text(code)
    env = {"KERAS_BACKEND": backend, "PYTHONPATH": f"{tmp_path}:."}
    done, _, err = run_cli("asks_keras", env=env)
    assert done == 0, err

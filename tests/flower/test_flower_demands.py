"""A server's config may ask a learner for clipped updates or a proximal term."""

import logging
import math

import numpy as np
import pytest
from flwr.supercore import differential_privacy as theirs

from flops_fl.errors import RepositoryError
from flops_fl.flower import demands
from flops_fl.flower.client import LearnerClient
from flops_fl.flower.demands import clip
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Task


def norm(after, before):
    changes = zip(after, before, strict=True)
    return math.sqrt(sum((abs(x.astype(complex) - y) ** 2).sum() for x, y in changes))


@pytest.fixture
def model(tmp_path):
    """A function: the model of a repository with given parameters, which fit adds 3 to."""
    models = []

    def make(parameters, fit="def fit_model(self):"):
        source = f"""
import ml_dtypes
import numpy as np

class ModelManager:
    def __init__(self): self.w = {parameters}
    def set_model_data(self): pass
    def get_model(self): return self
    def get_model_parameters(self): return self.w
    def set_model_parameters(self, parameters): self.w = parameters
    {fit}
        self.w = [w + np.asarray(3, w.dtype) for w in self.w]
        return 7
    def evaluate_model(self): return 0.5, 0.5, 7
"""
        (tmp_path / "model_manager.py").write_text(source)
        models.append(ManagedModel(tmp_path))
        return models[-1]

    yield make
    for made in models:
        made.close()


def fit(model, config):
    task = Task(stage="fit", run_id="r", round=1, version=0, seed=1, config=config)
    before = model.parameters()
    return LearnerClient(model, "l0").perform(task, before), before


@pytest.mark.parametrize("limit", [0.1, 50.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_is_clipped_to_the_bits_of_flowers_own(limit, dtype):
    random = np.random.default_rng(4)
    before = [random.normal(size=s).astype(dtype) for s in [(64, 10), (10,)]]
    after = [array + random.normal(size=array.shape).astype(dtype) for array in before]
    for own in (theirs.compute_clip_model_update, theirs.compute_adaptive_clip_model_update):
        expected = [array.copy() for array in after]
        bit = own(expected, before, limit)
        clipped, shortened = clip(after, before, limit)
        assert all(np.array_equal(x, y) for x, y in zip(clipped, expected, strict=True))
        assert [array.dtype for array in clipped] == [dtype, dtype]
        assert shortened == (limit < 20)
        assert bit in (None, shortened)


@pytest.mark.parametrize("dtype", ["np.float32", "np.float64", "np.float16", "np.complex64"])
def test_a_task_that_asks_for_it_is_answered_with_a_clipped_update(model, dtype):
    update, before = fit(model(f"[np.ones((2, 3), {dtype}), np.zeros(2, {dtype})]"), _clipped(0.5))
    assert norm(update.parameters, before) == pytest.approx(0.5, rel=1e-2)
    assert update.metrics == {"norm_bit": True}


def _clipped(limit):
    return {"clipping_norm": limit}


def test_a_short_update_is_left_as_it_is_and_says_so(model):
    update, _ = fit(model("[np.ones(4)]"), _clipped(7))
    assert update.parameters[0].tolist() == [4.0] * 4
    assert update.metrics == {"norm_bit": False}
    assert fit(model("[np.ones(4)]"), {})[0].metrics == {}


def test_scalar_tensors_count_and_are_clipped_too(model):
    """Flower's own functions leave them as they are."""
    update, before = fit(model("[np.ones(()), np.ones(1)]"), _clipped(0.5))
    assert norm(update.parameters, before) == pytest.approx(0.5)


def test_an_update_of_nothing_is_no_division_by_zero():
    clipped, shortened = clip([np.ones(3)], [np.ones(3)], 0.1)
    assert (clipped[0].tolist(), shortened) == ([1.0] * 3, False)


@pytest.mark.parametrize(
    ("parameters", "limit", "why"),
    [
        ("[np.ones(2), np.ones(2, int)]", 0.1, "tensor 1 is int64[2]: only floats can be scaled"),
        ("[b'bytes']", 0.1, "opaque"),
        ("[np.full(2, np.nan)]", 0.1, "the norm of the update is nan"),
        (
            "[np.full(2, 300, ml_dtypes.bfloat16)]",
            1.7,
            "in bfloat16 the update's norm becomes 2.8",
        ),
        ("[np.ones(2)]", 0.0, "clipping_norm = 0.0, expected a number > 0"),
        ("[np.ones(2)]", "0.1", "clipping_norm = '0.1', expected a number"),
        ("[np.ones(2)]", True, "clipping_norm = True, expected a number"),
        ("[np.ones(2)]", math.nan, "clipping_norm = nan, expected a number"),
    ],
)
def test_what_cannot_be_clipped_is_not_sent(model, parameters, limit, why):
    with pytest.raises(RepositoryError, match="wants clipped updates") as caught:
        fit(model(parameters), _clipped(limit))
    assert why in str(caught.value)


def test_a_global_model_of_another_shape_is_not_broadcast():
    with pytest.raises(RepositoryError, match="other shapes"):
        clip([np.ones((2, 3))], [np.ones(3)], 1.0)


def test_a_proximal_term_is_refused_where_fit_model_would_not_see_it(model):
    deaf, hears = model("[np.ones(2)]"), "def fit_model(self, config):"
    with pytest.raises(RepositoryError, match="let fit_model take an argument config"):
        fit(deaf, {"proximal_mu": 0.1})
    assert fit(deaf, {"proximal_mu": 0.0})[0].examples == 7  # no term
    assert fit(model("[np.ones(2)]", hears), {"proximal_mu": 0.1})[0].examples == 7


def test_config_that_user_code_does_not_get_is_named_once(model, caplog):
    demands._say_unused.cache_clear()
    deaf = model("[np.ones(2)]")
    client = LearnerClient(deaf, "l0")
    told = {"server_round": 1, "epochs": 3, "clipping_norm": 9.0}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            fit(deaf, told)
            client.evaluate(deaf.parameters(), {"batch": 2})
    fitted, evaluated = (record.message for record in caplog.records)
    assert fitted.endswith("(epochs, server_round): fit_model has no argument config")
    assert evaluated.endswith("(batch): evaluate_model takes none")

"""No update moves the model further than allowed."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flops_fl.core.norm import NormLimit
from flops_fl.errors import BadUpdate
from flops_fl.types import Update


def update(*arrays):
    return Update(learner="a", parameters=list(arrays), examples=3)


def distance(update, base):
    pairs = zip(update.parameters, base, strict=True)
    steps = [(new.astype(float) - old).ravel() for new, old in pairs if new.dtype.kind == "f"]
    return float(np.linalg.norm(np.concatenate(steps)))


@settings(deadline=None)
@given(st.floats(0.01, 100.0), st.integers(0, 2**16))
def test_a_clipped_update_keeps_its_direction_and_the_limit(limit, seed):
    rng = np.random.default_rng(seed)
    base = [rng.standard_normal((3, 4)), rng.standard_normal(70_000).astype("<f4"), np.array(7)]
    new = update(base[0] + rng.standard_normal((3, 4)), base[1] * 2, np.array(9))
    before = distance(new, base)
    clipped = NormLimit(limit).bound(new, base)
    assert distance(clipped, base) == pytest.approx(min(limit, before), rel=1e-4)
    share = min(1.0, limit / before)
    np.testing.assert_allclose(
        clipped.parameters[0] - base[0], (new.parameters[0] - base[0]) * share, atol=1e-9
    )
    assert clipped.parameters[2] == 9
    assert [a.dtype for a in clipped.parameters] == [a.dtype for a in new.parameters]


def test_within_the_limit_nothing_is_touched():
    new = update(np.array([3.0, 4.0]))
    assert NormLimit(5.0).bound(new, [np.zeros(2)]) is new


def test_narrow_floats_count():
    new, old = np.array([3.0, 4.0], ml_dtypes.bfloat16), np.zeros(2, ml_dtypes.bfloat16)
    (clipped,) = NormLimit(2.5).bound(update(new), [old]).parameters
    assert clipped.dtype == new.dtype
    assert clipped.tolist() == [1.5, 2.0]


def test_beyond_it_an_update_may_be_refused_with_the_figures():
    with pytest.raises(BadUpdate, match="norm 5, --max-update-norm 4.9"):
        NormLimit(4.9, refuse=True).bound(update(np.array([3.0, 4.0])), [np.zeros(2)])

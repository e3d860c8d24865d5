"""The weighted mean: exact if it can be, Flower's otherwise, and always in range."""

import ml_dtypes
import numpy as np
import pytest
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flops_fl.core.mean import WeightedMean
from flops_fl.core.refusals import check_update
from flops_fl.errors import BadUpdate
from flops_fl.types import Layout, Update

COUNTS = st.integers(1, 10_000)
DTYPES = ["<f4", ">f4", "<f8", "<f2", "<i8", "<i4", "|u1", "|b1", "<c8", "<u8"]


def update(parameters, examples=1, learner="a"):
    return Update(learner=learner, parameters=parameters, examples=examples)


def mean_of(updates):
    mean = WeightedMean(Layout.of(updates[0].parameters))
    for each in updates:
        mean.add(each)
    return mean.result()


@st.composite
def equal_updates(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    array = draw(hnp.arrays(dtype, shape, elements=_finite(dtype)))
    return [update([array], n) for n in draw(st.lists(COUNTS, min_size=1, max_size=5))]


def _finite(dtype):
    if dtype.kind in "fc":
        return hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return hnp.from_dtype(dtype)


@given(equal_updates())
def test_equal_tensors_come_back_to_the_bit(updates):
    (result,) = mean_of(updates)
    expected = updates[0].parameters[0]
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)


@given(
    st.lists(
        st.tuples(hnp.arrays("<f4", (3, 2), elements=st.floats(-1e6, 1e6, width=32)), COUNTS),
        min_size=1,
        max_size=6,
    )
)
def test_the_mean_is_flowers(pairs):
    results = [
        (
            None,
            FitRes(Status(Code.OK, ""), ndarrays_to_parameters([array.astype("f8")]), n, {}),
        )
        for array, n in pairs
    ]
    strategy = FedAvg(inplace=False, fit_metrics_aggregation_fn=lambda _: {})
    theirs, _ = strategy.aggregate_fit(1, results, [])
    (ours,) = mean_of([update([array.astype("f8")], n) for array, n in pairs])
    np.testing.assert_allclose(ours, parameters_to_ndarrays(theirs)[0], rtol=1e-6, atol=1e-6)


@given(
    st.lists(
        st.tuples(hnp.arrays("<f4", 5, elements=st.floats(-1e3, 1e3, width=32)), COUNTS),
        min_size=2,
        max_size=6,
    ),
    st.randoms(),
)
def test_any_order_gives_the_same_mean_within_rounding(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    one = mean_of([update([a], n) for a, n in pairs])[0]
    other = mean_of([update([a], n) for a, n in shuffled])[0]
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


@given(
    st.lists(
        st.tuples(hnp.arrays("<f8", 4, elements=st.floats(-1e3, 1e3)), COUNTS),
        min_size=2,
        max_size=6,
    ),
    st.integers(1, 5),
)
def test_means_of_groups_make_the_same_mean_within_rounding(pairs, cut):
    groups = [g for g in (pairs[:cut], pairs[cut:]) if g]
    whole = mean_of([update([a], n) for a, n in pairs])[0]
    partial = [
        update(mean_of([update([a], n) for a, n in group]), sum(n for _, n in group))
        for group in groups
    ]
    np.testing.assert_allclose(mean_of(partial)[0], whole, rtol=1e-9, atol=1e-9)


def test_integers_stay_integers_and_are_rounded():
    same = mean_of([update([np.array([10, 20])], 3), update([np.array([10, 20])], 4)])[0]
    assert same.tolist() == [10, 20]
    assert same.dtype == np.int64
    mixed = mean_of([update([np.array([1, 5, -4])]), update([np.array([2, 8, -5])], 3)])[0]
    assert mixed.tolist() == [2, 7, -5]  # 1.75, 7.25, -4.75


def test_integers_at_the_end_of_their_range_stay_in_it():
    top = np.iinfo(np.int64).max
    mixed = mean_of([update([np.array([top, -top])]), update([np.array([top - 2, -top])])])[0]
    assert mixed[0] > top - 5000  # float64 has steps of 1024 up there
    assert mixed[1] == -top


def test_booleans_follow_the_majority():
    a, b = np.array([True, False]), np.array([False, False])
    assert mean_of([update([a], 3), update([b], 1)])[0].tolist() == [True, False]
    assert mean_of([update([a], 1), update([b], 3)])[0].tolist() == [False, False]


def test_float16_is_summed_in_float64():
    updates = [update([np.full(3, 60000, np.float16)], 1000) for _ in range(3)]
    assert mean_of(updates)[0].tolist() == [60000.0] * 3


@pytest.mark.parametrize("size", [3, (1 << 20) + 5])  # beyond 1 MB it is narrowed in place
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats_are_averaged_in_float64_and_stay_narrow(name, size):
    dtype = np.dtype(getattr(ml_dtypes, name))
    arrays = [np.full(size, value, dtype) for value in (1, 2, 4)]
    (mean,) = mean_of([update([array], n) for array, n in zip(arrays, (1, 3, 4), strict=True)])
    assert mean.dtype == dtype
    assert mean[0] == mean[-1] == np.float64((1 + 6 + 16) / 8).astype(dtype)


def test_a_narrow_float_that_is_not_finite_is_refused():
    array = np.array([1, np.nan], ml_dtypes.bfloat16)
    with pytest.raises(BadUpdate, match=r"tensor 0 \(bfloat16\[2\]\) has NaN"):
        check_update(update([array]), Layout.of([array]))


def test_fortran_order_and_large_tensors_are_folded_by_value():
    a = np.asfortranarray(np.arange(120_000, dtype="f4").reshape(300, 400))
    b = np.ascontiguousarray(a)
    np.testing.assert_array_equal(mean_of([update([a]), update([b], 3)])[0], b)


def test_the_inputs_are_left_alone():
    first = np.ones(3, np.float64)
    mean_of([update([first]), update([np.zeros(3)])])
    assert first.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("parameters", "examples", "said"),
    [
        ([np.zeros(2, "f4")], 0, "0 training samples"),
        ([np.zeros(2, "f4")], -5, "-5 training samples"),
        ([np.zeros(2, "f4")], 2**60, "training samples"),
        ([np.zeros(3, "f4")], 1, r"tensor 0 is float32\[3\], expected float32\[2\]"),
        ([np.zeros(2, "f8")], 1, "float64"),
        ([], 1, "0 tensors, expected 1"),
        ([np.array([1, np.nan], "f4")], 1, "tensor 0 .* NaN"),
        ([np.array([1, -np.inf], "f4")], 1, "tensor 0 .* infinite"),
    ],
)
def test_a_bad_update_is_refused_with_a_reason(parameters, examples, said):
    layout = Layout.of([np.zeros(2, "f4")])
    with pytest.raises(BadUpdate, match=said):
        check_update(update(parameters, examples), layout)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<c8", "<f8"])
def test_a_large_tensor_is_narrowed_in_place(dtype):
    size = (1 << 18) + 12345  # no multiple of a block
    values = np.random.default_rng(1).standard_normal((2, size)).astype(dtype)
    mean = WeightedMean(Layout.of([values[0]]))
    for array in values:
        mean.add(Update(learner="a", parameters=[array], examples=1))
    (result,) = mean.result()
    wide = values.astype(np.result_type(dtype, np.float64))
    expected = wide[0] + (wide[1] - wide[0]) / 2
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, expected.astype(dtype))

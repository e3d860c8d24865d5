"""Which dtypes parameters may have, by name."""

import sys

import pytest

from flops_fl.dtypes import dtype_of


@pytest.mark.parametrize(
    "name", ["|O", "|O8", "<U4", "|V8", "<M8[s]", "nonsense", "", "f4", "<V2", "int4", "float8_x"]
)
def test_a_tensor_that_cannot_be_averaged_is_refused(name):
    with pytest.raises(ValueError, match="dtype"):
        dtype_of(name)


def test_a_narrow_float_without_its_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    dtype_of.cache_clear()
    with pytest.raises(ValueError, match="float8_e4m3 needs .* pip install ml_dtypes"):
        dtype_of("float8_e4m3")

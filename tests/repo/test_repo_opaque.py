"""Parameters that have no mean: bytes, and arrays that change their size."""

import textwrap

import numpy as np
import pytest

from flops_fl.errors import RepositoryError
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Layout

MODEL = """
    import numpy as np

    class ModelManager:
        {attribute}
        def __init__(self): self.p = {start}
        def set_model_data(self): pass
        def get_model(self): return None
        def get_model_parameters(self): return self.p
        def set_model_parameters(self, parameters): self.p = parameters
        def fit_model(self):
            self.p = {fitted}
            return 4
        def evaluate_model(self): return 0.5, 1, 2
"""


@pytest.fixture
def model(tmp_path):
    def build(start, fitted="self.p", attribute=""):
        text = MODEL.format(start=start, fitted=fitted, attribute=attribute)
        folder = tmp_path / f"repo{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "model_manager.py").write_text(textwrap.dedent(text))
        return ManagedModel(folder)

    return build


def test_bytes_are_opaque_by_themselves_and_come_back_as_bytes(model):
    managed = model('[b""]', fitted='[b"trees" + self.p[0]]')
    start = managed.parameters()
    assert managed.layout.opaque
    assert managed.layout.nbytes == 0
    managed.load(start)
    managed.fit()
    fitted = managed.parameters()
    assert [array.tobytes() for array in fitted] == [b"trees"]
    managed.load(fitted)
    managed.fit()
    assert managed.parameters()[0].tobytes() == b"treestrees"
    assert managed.layout.fingerprint == Layout.of(fitted).fingerprint
    assert not managed.layout.difference(Layout.of(fitted))


def test_a_bytearray_such_as_frameworks_give_is_bytes(model):
    managed = model('[bytearray(b"x")]', fitted="[bytearray(self.p[0]) * 2]")
    managed.fit()
    assert managed.parameters()[0].tobytes() == b"xx"


def test_arrays_that_change_their_size_say_so_and_come_back_as_arrays(model):
    managed = model(
        '[np.zeros((0, 2), np.float32), b""]',
        fitted='[np.ones((len(self.p[0]) + 1, 2), np.float32), b"%d" % len(self.p[0])]',
        attribute="opaque_parameters = True",
    )
    for round in (1, 2):
        managed.load(managed.parameters())
        managed.fit()
        array, note = managed.manager.p
        assert (array.shape, array.dtype, note) == ((round, 2), np.float32, b"%d" % (round - 1))
    managed.load(managed.parameters())
    managed.manager.p[0][:] = 3  # its own, and writable


def test_without_the_attribute_a_size_that_changes_breaks_the_contract(model):
    managed = model("[np.zeros(1)]", fitted="[np.zeros(2)]")
    managed.fit()
    with pytest.raises(
        RepositoryError, match=r"shape \(2,\) for array 0.*opaque_parameters = True"
    ):
        managed.parameters()


@pytest.mark.parametrize(
    ("start", "fitted", "attribute", "said"),
    [
        ('b"no list"', "self.p", "", "returned a bytes, expected a list of"),
        ('"text"', "self.p", "", "returned a str, expected a list of"),
        ('[b""]', "[np.zeros(2)]", "", "item 0 an array, bytes at the start"),
        ('[b"", b""]', '[b""]', "", "returned 1 arrays, 2 at the start"),
        ("[np.zeros(1)]", '[b"x"]', "opaque_parameters = True", "item 0 bytes, an array at"),
        ('[b"", "text"]', "self.p", "", "item 1 a str of dtype"),
        ('[b"", np.array(["a"])]', "self.p", "", "item 1 an array of dtype <U1, expected numbers"),
    ],
)
def test_what_else_is_given_breaks_the_contract_in_one_sentence(
    model, start, fitted, attribute, said
):
    def run():
        managed = model(start, fitted, attribute)
        managed.fit()
        managed.parameters()

    with pytest.raises(RepositoryError, match=said):
        run()


def test_a_global_model_that_is_no_array_names_the_strategy(model):
    managed = model("[np.zeros(1)]", attribute="opaque_parameters = True")
    message = "3 bytes that are no array.*the strategy must produce"
    with pytest.raises(RepositoryError, match=message):
        managed.load([np.frombuffer(b"abc", "V1")])
    with pytest.raises(RepositoryError, match="2 items, expected 1"):
        managed.load([np.frombuffer(b"abc", "V1")] * 2)

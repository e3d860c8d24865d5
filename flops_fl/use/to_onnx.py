"""Write a model as ONNX by the converter of its framework, and the lines that load it.

A converter needs the form of the model's input. It is that of the model itself, of the
ModelManager's `input_example`, or of what `evaluate_model()` gives to the model.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flops_fl.errors import UsageError
from flops_fl.observers.flavors import example_for
from flops_fl.repo.contract import ManagedModel

PACKAGES = {
    "sklearn": "skl2onnx",
    "pytorch": "onnxscript",
    "keras": "onnxscript",
    "xgboost": "onnxmltools",
    "lightgbm": "onnxmltools",
}
"""The converter of each framework, all in the extra ``onnx``; PyTorch has its own on onnxscript."""


def write_onnx(framework: str, managed: ManagedModel, data: bool, file: str) -> None:
    """Write a model of one of `PACKAGES` as ONNX; the number of rows that it takes stays open.

    Args:
        data: Whether the ModelManager has data, so that it can evaluate the model.

    Raises:
        UsageError: nothing says which input the model takes.
        RepositoryError: user code fails.
        Exception: whatever the converter raises.
    """
    # The converters tell about their own insides: packages that they could use, what will change.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _WRITERS[framework](managed, managed.model(), data, file)


def onnx_lines(file: str) -> list[str]:
    """The lines of Python that load a file, and what the model takes."""
    graph = importlib.import_module("onnx").load(file, load_external_data=False).graph
    kinds = importlib.import_module("onnx").TensorProto.DataType
    lines = ["import onnxruntime", "", f"model = onnxruntime.InferenceSession({file!r})"]
    takes = {value.name: value.type.tensor_type for value in graph.input}
    arrays = ", ".join(f"{name!r}: array" for name in takes)
    lines.append(f"# outputs = model.run(None, {{{arrays}}})")
    for name, tensor in takes.items():
        shape = " x ".join(str(dim.dim_value or "any") for dim in tensor.shape.dim)
        lines.append(f"# {name}: {kinds.Name(tensor.elem_type).lower()}, {shape}")
    return lines


def _write_sklearn(managed: ManagedModel, model: Any, data: bool, file: str) -> None:
    example = _rows(managed, model)
    options = {"zipmap": False} if hasattr(model, "predict_proba") else {}  # an array, not dicts
    _save(importlib.import_module("skl2onnx").to_onnx(model, example, options=options), file)


def _write_trees(kind: str) -> Callable[[ManagedModel, Any, bool, str], None]:
    def write(managed: ManagedModel, model: Any, data: bool, file: str) -> None:
        convert = getattr(importlib.import_module("onnxmltools"), f"convert_{kind}")
        types = importlib.import_module("onnxmltools.convert.common.data_types")
        takes = types.FloatTensorType([None, np.shape(_rows(managed, model))[1]])
        more = {"zipmap": False} if kind == "lightgbm" else {}
        made = convert(model, initial_types=[("X", takes)], **more)
        for output in made.graph.output:  # LightGBM's says 1 row
            output.type.tensor_type.shape.dim[0].Clear()
        _save(made, file)

    return write


def _write_torch(managed: ManagedModel, model: Any, data: bool, file: str) -> None:
    torch = importlib.import_module("torch")
    inputs = _torch_inputs(torch, managed, model, data)

    def rows_open(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: rows_open(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(rows_open, value))
        return (
            {0: torch.export.Dim.AUTO} if isinstance(value, torch.Tensor) and value.dim() else None
        )

    def two_rows(value: Any) -> Any:  # of one row PyTorch makes a constant
        one = isinstance(value, torch.Tensor) and value.dim() and len(value) == 1
        return value.repeat_interleave(2, 0) if one else value

    inputs = {name: two_rows(value) for name, value in inputs.items()}
    model.eval()
    torch.onnx.export(
        model,
        (),
        kwargs=inputs,
        dynamic_shapes=rows_open(inputs),
        dynamo=True,
        verbose=False,
        external_data=False,
    ).save(file)


def _torch_inputs(torch: Any, managed: ManagedModel, model: Any, data: bool) -> dict[str, Any]:
    """The arguments of `forward`, by name."""
    forward = inspect.signature(model.forward)
    example = managed.input_example()
    if example is not None:
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        rows = torch.as_tensor(
            example if isinstance(example, torch.Tensor) else np.asarray(example)
        )
        rows = rows.to(weight.device, weight.dtype if rows.is_floating_point() else None)
        return dict(forward.bind(rows).arguments)
    seen: list[dict[str, Any]] = []

    def look(module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not seen:
            seen.append(dict(forward.bind(*positional, **named).arguments))

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        if data:
            managed.evaluate()
    finally:
        hook.remove()
    if not seen:
        raise _unknown(data)
    return seen[0]


def _write_keras(managed: ManagedModel, model: Any, data: bool, file: str) -> None:
    keras = importlib.import_module("keras")
    if keras.backend.backend() != "torch":
        raise UsageError(
            f"ONNX of a keras model needs keras' backend torch, this is {keras.backend.backend()}: "
            "set KERAS_BACKEND=torch, or export .keras, which each backend can load"
        )

    def zeros(value: Any) -> Any:
        return keras.ops.zeros([size or 1 for size in value.shape], value.dtype)

    example = managed.input_example()
    if example is not None:
        model(np.asarray(example))
    elif inputs := getattr(model, "inputs", None):  # else a model of the user's own class
        model(keras.tree.map_structure(zeros, getattr(model, "input", inputs[0])))
    elif data:
        managed.evaluate()
    else:
        raise _unknown(data)
    model.export(file, format="onnx", verbose=False)


_WRITERS: dict[str, Callable[[ManagedModel, Any, bool, str], None]] = {
    "sklearn": _write_sklearn,
    "pytorch": _write_torch,
    "keras": _write_keras,
    "xgboost": _write_trees("xgboost"),
    "lightgbm": _write_trees("lightgbm"),
}


def _rows(managed: ManagedModel, model: Any) -> Any:
    """Rows that a model of tables predicts from; numbers are float32, as is usual in ONNX."""
    example = managed.input_example()
    if hasattr(example, "columns"):  # a pandas DataFrame: an input for each column
        return example
    rows = example_for(model) if example is None else np.asarray(example)
    if rows is None:
        raise UsageError(
            "ONNX needs to know which input the model takes: give the ModelManager an attribute "
            "input_example (docs/ml-repositories.md)"
        )
    return rows.astype(np.float32) if rows.dtype.kind in "fiub" else rows


def _unknown(data: bool) -> UsageError:
    how = "evaluate_model() does not call the model" if data else "give --data, to see it evaluate"
    return UsageError(
        f"ONNX needs to know which input the model takes: {how}, or give the ModelManager an "
        "attribute input_example (docs/ml-repositories.md)"
    )


def _save(model: Any, file: str) -> None:
    importlib.import_module("onnx").save(model, file)

"""The frameworks' file formats for models, and the lines of Python that load such files."""

from __future__ import annotations

import importlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flops_fl.dtypes import as_bits
from flops_fl.errors import FlopsError, UsageError
from flops_fl.extras import install
from flops_fl.observers.flavors import flavor_of
from flops_fl.repo.contract import ManagedModel
from flops_fl.run.checkpoint import save_npz
from flops_fl.text import sentence
from flops_fl.types import Parameters
from flops_fl.use.to_onnx import PACKAGES, onnx_lines, write_onnx


@dataclass(frozen=True, slots=True)
class Home:
    """A model to write, and where it comes from.

    Args:
        opened: The line of Python that opens its repository.
        data: Whether the ModelManager has data.
    """

    managed: ManagedModel
    parameters: Parameters
    opened: str
    data: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """A file format of a framework.

    Args:
        write: Writes a model to a file of this name.
        lines: Returns the lines of Python that load `model` from the file of this name.
        package: The package that writes the format, if not the framework itself.
        extra: The extra of flops-fl that installs the package, if one does.
        classes: Whether a loader imports the classes of the model's parts.
    """

    write: Callable[[Any, str], None]
    lines: Callable[[Home, Any, str], list[str]]
    package: str = ""
    extra: str = ""
    classes: bool = False


def write_model(home: Home, out: Path, said: str) -> list[str]:
    """Write a model to `out`, in the format of the file's ending.

    Args:
        said: The file's name in the lines and in messages.

    Returns:
        The lines of Python that load the file.

    Raises:
        UsageError: the ending does not fit the model, a package is missing, or the file cannot
            be written.
        RepositoryError: user code fails.
    """
    model = home.managed.model()
    framework = flavor_of(model) or ""
    fitting = _FORMATS.get(framework, {}) | _onnx(home, framework) | {".npz": _parameters(home)}
    form = fitting.get(out.suffix)
    if form is None:
        kind = f"a model of {framework}" if framework else "a model of no framework that we know"
        raise UsageError(f"--out {said}: {kind} is written as {_or(fitting)}")
    if form.package and find_spec(form.package) is None:
        rest = {suffix: other for suffix, other in fitting.items() if other is not form}
        how = install(form.extra) if form.extra else f"pip install {form.package}"
        raise UsageError(f"--out {said} needs a package: {how}, or take {_or(rest)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".flops-", dir=out.parent) as aside:
            file = Path(aside) / out.name  # frameworks choose the format by the ending
            with home.managed.workspace.active():  # the model may have classes of the repository
                form.write(model, str(file))
                lines = form.lines(home, model, str(file))
            lines = [line.replace(repr(str(file)), repr(said)) for line in lines]
            if form.classes and _names(file, home.managed.workspace.modules):
                lines = _within(home, lines)
            os.replace(file, out)
    except FlopsError:
        raise
    except OSError as error:
        raise UsageError(f"--out {said} cannot be written ({error.strerror or error})") from error
    except Exception as error:  # each framework raises its own
        why = sentence(f"{type(error).__name__}: {error}")
        raise UsageError(
            f"--out {said}: the model cannot be written in this format ({why}): choose .npz, "
            "which has the parameters alone"
        ) from error
    return lines


def _or(formats: dict[str, Format]) -> str:
    *some, last = formats
    return f"{', '.join(some)} or {last}" if some else last


def _names(file: Path, modules: set[str]) -> bool:
    """Whether a file names modules of the repository, which its loader will then import."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            content = b"\n".join(archive.read(name) for name in names)
    else:
        content = file.read_bytes()
    return any(re.search(rb"(?<![\w.])%b(?!\w)" % re.escape(m.encode()), content) for m in modules)


def _within(home: Home, lines: list[str]) -> list[str]:
    """The same lines within a ``with``, where the repository's modules can be imported."""
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    rest = [line for line in lines if line and line not in imports]
    return [
        *["import flops_fl", *imports, ""],
        f"with {home.opened}:  # the model's own classes",
        *(f"    {line}" for line in rest),
    ]


def _write_skops(model: Any, file: str) -> None:
    importlib.import_module("skops.io").dump(model, file)


def _skops_lines(home: Home, model: Any, file: str) -> list[str]:
    trusted = importlib.import_module("skops.io").get_untrusted_types(file=file)
    return ["import skops.io", "", f"model = skops.io.load({file!r}, trusted={trusted!r})"]


def _write_joblib(model: Any, file: str) -> None:
    importlib.import_module("joblib").dump(model, file)


def _joblib_lines(home: Home, model: Any, file: str) -> list[str]:
    return ["import joblib", "", f"model = joblib.load({file!r})"]


def _write_state(model: Any, file: str) -> None:
    importlib.import_module("torch").save(model.state_dict(), file)


def _state_lines(home: Home, model: Any, file: str) -> list[str]:
    return [
        *["import flops_fl", "import torch", ""],
        f"model = {home.opened}.get_model()  # the network; the file has its state",
        f'model.load_state_dict(torch.load({file!r}, map_location="cpu", weights_only=True))',
    ]


def _write_safetensors(model: Any, file: str) -> None:
    importlib.import_module("safetensors.torch").save_model(model, file)


def _safetensors_lines(home: Home, model: Any, file: str) -> list[str]:
    return [
        *["import flops_fl", "from safetensors.torch import load_model", ""],
        f"model = {home.opened}.get_model()  # the network; the file has its state",
        f"load_model(model, {file!r})",
    ]


def _write_keras(model: Any, file: str) -> None:
    model.save(file)


def _keras_lines(home: Home, model: Any, file: str) -> list[str]:
    backend = importlib.import_module("keras").backend.backend()
    return [
        "import os",
        "",
        f'os.environ.setdefault("KERAS_BACKEND", "{backend}")  # any that is installed',
        "import keras",
        "",
        f"model = keras.saving.load_model({file!r})",
    ]


def _write_xgboost(model: Any, file: str) -> None:
    model.save_model(file)


def _xgboost_lines(home: Home, model: Any, file: str) -> list[str]:
    name = next(c.__name__ for c in type(model).__mro__ if c.__module__.startswith("xgboost."))
    return ["import xgboost", "", f"model = xgboost.{name}()", f"model.load_model({file!r})"]


def _write_lightgbm(model: Any, file: str) -> None:
    getattr(model, "booster_", model).save_model(file)


def _lightgbm_lines(home: Home, model: Any, file: str) -> list[str]:
    return ["import lightgbm", "", f"model = lightgbm.Booster(model_file={file!r})"]


def _onnx(home: Home, framework: str) -> dict[str, Format]:
    """ONNX, if the framework has a converter."""
    if framework not in PACKAGES:
        return {}

    def write(model: Any, file: str) -> None:
        write_onnx(framework, home.managed, home.data, file)

    def lines(home: Home, model: Any, file: str) -> list[str]:
        return onnx_lines(file)

    return {".onnx": Format(write, lines, PACKAGES[framework], extra="onnx")}


def _parameters(home: Home) -> Format:
    """The format with the parameters alone, for any framework, as a run's folder has it."""
    return Format(lambda model, file: save_npz(Path(file), home.parameters), _npz_lines)


def _npz_lines(home: Home, model: Any, file: str) -> list[str]:
    narrow = [array.dtype for array in home.parameters if as_bits(array) is not array]
    head = ["import ml_dtypes", "import numpy", ""] if narrow else ["import numpy", ""]
    take = 'file[f"t{index}"]'
    if home.managed.layout.opaque:
        take += ".tobytes()"
    body = [f"    parameters = [{take} for index in range({len(home.parameters)})]"]
    for index, array in enumerate(home.parameters):
        if as_bits(array) is not array:
            view = f"parameters[{index}].view(ml_dtypes.{array.dtype.name})"
            body.append(f"    parameters[{index}] = {view}")
    return [*head, f"with numpy.load({file!r}) as file:", *body]


_FORMATS = {
    "sklearn": {
        ".joblib": Format(_write_joblib, _joblib_lines, classes=True),
        ".skops": Format(_write_skops, _skops_lines, "skops", classes=True),
    },
    "pytorch": {
        ".pt": Format(_write_state, _state_lines),
        ".safetensors": Format(_write_safetensors, _safetensors_lines, "safetensors"),
    },
    "keras": {".keras": Format(_write_keras, _keras_lines, classes=True)},
    "xgboost": {
        ".ubj": Format(_write_xgboost, _xgboost_lines),
        ".json": Format(_write_xgboost, _xgboost_lines),
    },
    "lightgbm": {".txt": Format(_write_lightgbm, _lightgbm_lines)},
}

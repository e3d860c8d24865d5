"""What the user's code raised, for a person: one sentence, and the user's part of the traceback."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flops_fl.errors import DataError
from flops_fl.extras import install

RUNTIME = f"{Path(__file__).parents[1]}{os.sep}"  # our own files
_CONTRACT = "data_manager"

Owns = Callable[[str | None], bool]
"""Whether a file is one of the repository's."""


def data_fault(error: BaseException) -> DataError | None:
    """What the data lack, if that is why user code failed, and not the code itself."""
    if isinstance(error, ImportError) and "Pillow" in shown(error, str):  # says `datasets`
        return DataError(
            f"the data are images, which need Pillow: pip install pillow, or {install('images')}"
        )
    return None


def sentence_of(stage: str, error: BaseException, folder: Path, owns: Owns) -> str:
    """What failed in a stage of the contract, and what to do where we know."""
    where = "model_manager.py" if stage == "import" else f"ModelManager.{stage}"
    said = shown(error, str)
    if isinstance(error, ImportError):
        return f"{where} failed: {said}. {_remedy(error, folder, owns)}"
    if isinstance(error, SystemExit):
        return f"{where} called sys.exit({error.code!r}): raise an exception instead"
    return f"{where} failed: {type(error).__name__}: {said}"


def _remedy(error: ImportError, folder: Path, owns: Owns) -> str:
    """What to do about an import: install something, or mend the repository."""
    name = error.name or ""
    top = name.partition(".")[0]
    if "relative import" in str(error):
        line = traceback.extract_tb(error.__traceback__)[-1].line or ""
        flat = re.sub(r"^from\s+\.+\s*(import\s)?", lambda m: m[1] or "from ", line.strip())
        return f"Import it flat, the repository's top level is no package: {flat}"
    if name == _CONTRACT:
        return (
            f"The repository has no {_CONTRACT}.py, which belongs to it (docs/ml-repositories.md): "
            "write or commit it"
        )
    if owns(error.path) or (folder / top).is_dir() or (folder / f"{top}.py").is_file():
        return "Mend it there: it is in the repository"
    return (
        "Install what the repository's conda.yaml lists into this environment, or commit "
        f"{top or 'the module'}.py if it is a module of your own"
    )


def own_traceback(error: BaseException, owns: Owns) -> str:
    """The traceback from the first frame in the user's files on, without frames of the runtime.

    Where the user's code has called the runtime, such as the dataset, what that called in its turn
    is of no help either.
    """
    frame = error.__traceback__
    while frame and not owns(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    whole = traceback.TracebackException(type(error), error, frame)
    last = max((n for n, f in enumerate(whole.stack) if owns(f.filename)), default=-1)
    if any(map(_is_ours, whole.stack[last + 1 : last + 2])):
        del whole.stack[last + 1 :]
    whole.stack[:] = [entry for entry in whole.stack if not _is_ours(entry)]
    return "".join(whole.format())


def _is_ours(entry: traceback.FrameSummary) -> bool:
    return entry.filename.startswith(RUNTIME)


def shown(value: Any, text: Callable[[Any], str] = repr) -> str:
    """A user's value as text, even if its own methods raise."""
    try:
        return text(value)[:200]
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"

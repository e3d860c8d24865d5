"""Compiles Python files ahead: a program of its own, which the image's version of Python runs.

It is given a file with lines ``SOURCE<tab>TARGET<tab>NAME``; NAME is the file's path in the image,
which tracebacks show. It imports nothing of flops-fl. A file that is no Python of this
version is left out, as pip does.

The bytes of a file depend on that file alone: a pyc names its source by a hash and not by a time,
sets have the order of a fixed hash seed, and no other file's code is alive meanwhile (equal names
are one object, and marshal marks objects that are referred to more than once).
"""

import signal
import sys
import warnings
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore
from importlib.util import source_hash
from pathlib import Path


def main() -> None:
    """Compile all files that the list names."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a traceback; the caller reports it
    warnings.simplefilter("ignore")
    for line in Path(sys.argv[1]).read_text("utf-8").splitlines():
        _compile(*line.split("\t"))


def _compile(source: str, target: str, name: str) -> None:
    content = Path(source).read_bytes()
    try:
        code = compile(content, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        return
    compiled = _code_to_hash_pyc(code, source_hash(content), False)
    try:
        Path(target).write_bytes(compiled)
    except OSError as error:
        sys.exit(error.errno)  # the caller knows what that means


if __name__ == "__main__":
    main()

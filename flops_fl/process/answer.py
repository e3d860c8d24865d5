"""A command's JSON answer on stdout, for a program that reads it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from flops_fl.errors import INTERRUPTED


class Answer:
    """The answer of a command: with --json one document, also when the command fails.

    Args:
        stream: Written to instead of standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.as_json = False
        self._stream = stream
        self._given = False
        self._kept: Mapping[str, Any] = {}

    def apart(self) -> TextIO:
        """Reserve standard output for the answer; all else goes to stderr from now on.

        This lasts to the end of the process: user code may print while Python exits, and the
        buffers of C code are flushed then.
        """
        if self._stream is None:
            sys.stdout.flush()
            self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
        return self._stream

    def give(self, document: Mapping[str, Any]) -> None:
        """Print the document.

        Raises:
            OSError: it cannot be written, for example since the reader has closed the pipe.
        """
        self._given = True
        stream = self._stream or sys.stdout
        stream.write(json.dumps(document, indent=2) + "\n")
        stream.flush()

    def keep(self, document: Mapping[str, Any]) -> None:
        """Keep what is true also if the command fails later: `fail` prints it, too."""
        self._kept = document

    def fail(self, error: str, code: int) -> None:
        """Print that the command has failed, if a document is wanted and none was printed yet."""
        if self.as_json and not self._given:
            status = "interrupted" if code == INTERRUPTED else "failed"
            with suppress(OSError, ValueError):  # the error is on stderr, too
                self.give({**self._kept, "status": status, "error": error, "exit_code": code})

    def close(self) -> None:
        """Close the stream: no document follows."""
        if self._stream is not None:
            with suppress(OSError):  # `give` has already raised this error
                self._stream.close()

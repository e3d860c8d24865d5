"""What a command answers on stdout, for a program that reads it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from flops_fl.errors import INTERRUPTED


class Answer:
    """The answer of a command: with --json one document, whether the command fails or not.

    Args:
        stream: Where it goes, instead of standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.as_json = False
        self._stream = stream
        self._given = False

    def apart(self) -> TextIO:
        """Standard output for the answer alone: all else that is printed goes to stderr, to the
        end of the process: user code may print when Python ends, and C code's buffers do.
        """
        if self._stream is None:
            sys.stdout.flush()
            self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
        return self._stream

    def give(self, document: Mapping[str, Any]) -> None:
        """Print the document.

        Raises:
            OSError: nobody can read it.
        """
        self._given = True
        stream = self._stream or sys.stdout
        stream.write(json.dumps(document, indent=2) + "\n")
        stream.flush()

    def fail(self, error: str, code: int) -> None:
        """Print that the command has failed, if a document is wanted and there is none yet."""
        if self.as_json and not self._given:
            status = "interrupted" if code == INTERRUPTED else "failed"
            with suppress(OSError, ValueError):  # the sentence is on stderr
                self.give({"status": status, "error": error, "exit_code": code})

    def close(self) -> None:
        """Nothing more comes."""
        if self._stream is not None:
            with suppress(OSError):  # whoever could not write has said so
                self._stream.close()

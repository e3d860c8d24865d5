"""Tell others of a training: that it has started, succeeded or failed.

Each of them has a thread, so that one who is away holds up neither training nor the others. It
tries again until the notice has arrived, in order; after the end it has `NOTICE_TIMEOUT` seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.errors import UsageError
from flops_fl.net.target import Target
from flops_fl.observers.channels import Notice, channel_to
from flops_fl.observers.tries import delivered
from flops_fl.text import counted, reason, sentence
from flops_fl.types import RoundRecord

NOTICE_TIMEOUT = 75.0  # seconds: a broker that restarts is away for a minute
INTERRUPTED_TIMEOUT = 3.0  # seconds, if somebody has interrupted the process
QUIET = 2.0  # seconds after which a wait at the end is said
MAX_BACKOFF = 5.0

log = logging.getLogger(__name__)


class Notices(Observer):
    """A context manager around an actor's whole work; does nothing without targets.

    Args:
        actor: ``aggregator`` or ``learner``.
        project_id: The training's name; `on_start` knows it better.
        details: What each notice to a program has besides, such as ``aggregator_type``.

    Raises:
        UsageError: the file of the authority cannot be used.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        ca: Path | None,
        *,
        actor: str,
        project_id: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self._actor, self._project, self._details = actor, project_id, details or {}
        self._interrupted = self._over = False
        try:
            self._senders = [_Sender(target, ca) for target in targets]
        except OSError as error:
            raise UsageError(f"--notify-ca {ca}: {error}, expected certificates as PEM") from None

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        """Tell that the run has started, or goes on."""
        self._project = run.project_id
        how = f", after round {history[-1].round}" if history else ""
        rounds = counted(run.rounds, "round") if run.rounds else "rounds as its root asks"
        self._tell("started", f"has started{how}: {rounds} of {run.strategy}")

    def succeeded(self, document: Mapping[str, Any]) -> None:
        """Tell the winner; `document` is result.json."""
        best, tracked = document["best"] or {}, document["mlflow"] or {}
        accuracy, loss = best.get("accuracy"), best.get("loss")
        text = f"has completed {counted(len(document['rounds']), 'round')}"
        if best:
            text += f"; best: round {best['round']}, loss {loss}, accuracy {accuracy}"
        winner = {
            "accuracy": accuracy,
            "loss": loss,
            "experiment_id": tracked.get("experiment_id"),
            "run_id": tracked.get("run_id"),
        }
        self._tell("success", text, winner)

    def interrupted(self) -> None:
        """Tell that somebody has stopped it; a manager, which has done so itself, is not told."""
        self._interrupted = True
        self._tell("interrupted", "was interrupted; it goes on with --resume")

    def _tell(self, event: str, text: str, details: Mapping[str, Any] | None = None) -> None:
        self._over = event != "started"
        notice = Notice(
            actor=self._actor,
            event=event,
            project_id=self._project,
            text=f"{self._actor} of {self._project or 'a project'} {text}",
            details={**self._details, **(details or {})},
        )
        for sender in self._senders:
            sender.put(notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Tell of a failure, then wait until all is told or time is up."""
        if isinstance(error, Exception) and not self._over:
            reason = sentence(str(error) or type(error).__name__)
            self._tell("failed", f"has failed: {reason}", {"error_msg": reason})
        patience = INTERRUPTED_TIMEOUT if self._interrupted else NOTICE_TIMEOUT
        if isinstance(error, Exception | None):
            deadline = time.monotonic() + patience
            for sender in self._senders:
                sender.close(deadline)


class _Sender:
    """Sends notices to one target, in order, on a thread of its own."""

    def __init__(self, target: Target, ca: Path | None) -> None:
        self._target = target
        self._channel = channel_to(target, ca)
        self._notices: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._deadline = float("inf")
        self._due: list[Notice] = []  # all that it has not been told
        self._thread = threading.Thread(target=self._work, name="flops-notices", daemon=True)
        self._started = False

    def put(self, notice: Notice) -> None:
        if not self._started:
            self._started = True
            self._thread.start()
        self._due.append(notice)
        self._notices.put(notice)

    def close(self, deadline: float) -> None:
        """Wait until all is sent, or the deadline (monotonic, seconds) is over."""
        if not self._started:
            return
        self._notices.put(None)
        self._deadline = deadline
        self._thread.join(min(QUIET, max(0.0, deadline - time.monotonic())))
        if self._thread.is_alive():
            log.info("telling %s how it ended; Ctrl-C does without", self._target)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if untold := ", ".join(notice.event for notice in self._due):
            log.warning("%s was not told: %s", self._target, untold)

    def _work(self) -> None:
        while (notice := self._notices.get()) is not None:
            if self._sent(notice):
                self._due.remove(notice)
        self._channel.close()

    def _sent(self, notice: Notice) -> bool:
        def away(error: Exception) -> None:
            log.warning("%s cannot be told (%s); trying again", self._target, reason(error))

        send = partial(self._channel.send, notice)
        try:
            return delivered(
                send, lambda: self._deadline, away, longest=MAX_BACKOFF, mended=OSError
            )
        except Exception as error:
            log.warning("%s is not told that it %s: %s", self._target, notice.event, error)
            return False

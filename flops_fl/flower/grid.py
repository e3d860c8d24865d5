"""The nodes of Flower's Grid as a cohort for the rounds of core.

The cohort pulls replies one by one in learner-id order. Early replies wait on the SuperLink, so
this process holds one update at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from flops_fl.core.plan import Asked, Generated
from flops_fl.dtypes import as_bits, from_bits
from flops_fl.errors import FederationError
from flops_fl.types import (
    Answer,
    Array,
    Deadline,
    Evaluation,
    Layout,
    LearnerFailure,
    Parameters,
    Scalar,
    Setup,
    Task,
    Update,
)

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5  # seconds between polls: the Grid does not call back
GREETING_TIMEOUT = 120.0  # seconds; a SuperNode starts a process, which may import torch
STAGES = {"fit": "train", "evaluate": "evaluate"}
PARAMETERS, TASK, CONFIG, RESULT, METRICS = "parameters", "task", "config", "result", "metrics"
VERSIONS = "versions"
"""Names of the records in a message and in its reply."""


Presence: TypeAlias = Callable[[Sequence[str]], None]


class GridCohort:
    """Flower's nodes; the `Cohort` of a ServerApp.

    Args:
        layout: The layout of the global model, which every node's model must have.
        setup: The setup that every node must have; None if nodes may differ.
        on_presence: Called with all learners present, whenever some may have come or gone.
        on_join: Called with the id and the setup of each learner that joins.
    """

    def __init__(
        self,
        grid: Grid,
        layout: Layout,
        setup: Setup | None,
        on_presence: Presence,
        on_join: Callable[[str, Setup], None],
    ) -> None:
        self._grid = grid
        self._layout = layout
        self._setup = setup
        self._on_presence = on_presence
        self._on_join = on_join
        self._nodes: dict[str, int] = {}
        self._refused: set[int] = set()
        self._traffic = [0, 0]

    def present(self) -> Sequence[str]:
        """Learners' ids, sorted."""
        return sorted(self._nodes)

    def dismiss(self, learner: str, reason: str) -> None:
        """Send this learner's node no more tasks; Flower has no message to tell it so."""
        node = self._nodes.pop(learner, None)
        if node is not None:
            self._refuse(node, f"learner {learner} is put aside: {reason}")

    def traffic(self) -> tuple[int, int]:
        """Bytes of parameters sent and received, without Flower's overhead."""
        return self._traffic[0], self._traffic[1]

    async def gather(self, minimum: int, timeout: float) -> None:
        """Wait for nodes and ask each new one who it is; see `core.plan.Cohort`."""
        pause, deadline = _Pause(), time.monotonic() + timeout
        while True:
            here = set(await asyncio.to_thread(self._grid.get_node_ids))
            self._nodes = {name: node for name, node in self._nodes.items() if node in here}
            new = here - set(self._nodes.values()) - self._refused
            if new:
                await self._greet(new, min(GREETING_TIMEOUT, timeout))
            self._on_presence(self.present())
            if len(self._nodes) >= minimum:
                return
            if time.monotonic() > deadline:
                raise FederationError(
                    f"{len(self._nodes)} of {minimum} learners came within {timeout:g} s "
                    f"({', '.join(self.present()) or 'none'}): start more SuperNodes, or lower "
                    "min-available-clients"
                )
            await pause()

    async def _greet(self, nodes: Iterable[int], timeout: float) -> None:
        questions = {
            node: Message(RecordDict(), node, "query", ttl=timeout) for node in sorted(nodes)
        }
        sent = await asyncio.to_thread(self._push, questions)
        deadline = time.monotonic() + timeout
        for node, message in sent.items():
            reply = await self._reply(message, deadline)
            if reply is None or reply.has_error():
                continue  # it may have gone; if it is still there, the next poll asks it again
            said = reply.content[RESULT]
            if FAILURE in said:
                self._refuse(node, str(said[FAILURE]))
            elif said["fingerprint"] != self._layout.fingerprint:
                self._refuse(node, f"{said['learner']} has a model of another layout")
            else:
                self._enter(node, str(said["learner"]), _setup_of(reply.content))

    def _enter(self, node: int, learner: str, setup: Setup) -> None:
        differences = self._setup.differences(setup) if self._setup else ()
        if differences:
            self._refuse(node, f"{learner} has {'; '.join(map(str, differences))}")
        else:
            self._nodes[learner] = node
            self._on_join(learner, setup)

    def _refuse(self, node: int, reason: str) -> None:
        self._refused.add(node)
        log.error("node %d does not take part: %s", node, reason)

    def ask(
        self,
        tasks: Mapping[str, Task],
        parameters: Parameters,
        deadline: Deadline,
        on_answer: Callable[[str, str | None], None],
    ) -> Asked:
        """Send each learner its task; see `core.plan.Cohort`."""
        return Generated(self._answers(tasks, parameters, deadline, on_answer))

    async def _answers(
        self,
        tasks: Mapping[str, Task],
        parameters: Parameters,
        deadline: Deadline,
        on_answer: Callable[[str, str | None], None],
    ) -> AsyncGenerator[Answer, None]:
        size = Layout.of(parameters).nbytes
        record = record_of(parameters)  # the same object for all, so that the Grid stores it once
        end, why, good = time.monotonic() + deadline.timeout, deadline.reason(early=False), 0
        messages = {
            learner: Message(
                _content(tasks[learner], record),
                self._nodes[learner],
                STAGES[tasks[learner].stage],
                ttl=deadline.timeout,
                group_id=str(tasks[learner].round),
            )
            for learner in sorted(tasks)
        }
        del parameters, record
        sent = await asyncio.to_thread(self._push, messages)
        self._traffic[0] += size * len(sent)
        del messages
        for learner, task in sorted(tasks.items()):
            answer = await self._answer(learner, task, sent.get(learner), end, why)
            if isinstance(answer, Update):
                self._traffic[1] += Layout.of(answer.parameters).nbytes
            good += not isinstance(answer, LearnerFailure)
            # We pull answers in order. So while a late one is awaited, later ones do not count
            # for the quorum.
            if good == deadline.quorum and deadline.grace is not None:
                end = min(end, time.monotonic() + deadline.grace)
                why = deadline.reason(early=True)
            on_answer(learner, answer.reason if isinstance(answer, LearnerFailure) else None)
            yield answer
            del answer

    async def _answer(
        self, learner: str, task: Task, message: str | None, end: float, why: str
    ) -> Answer:
        def failure(reason: str, stage: str = task.stage, traceback: str = "") -> Answer:
            return LearnerFailure(learner=learner, stage=stage, reason=reason, traceback=traceback)

        if message is None:
            return failure("the SuperLink did not take its message")
        reply = await self._reply(message, end)
        if reply is None:
            return failure(why)
        if reply.has_error():
            return failure(f"Flower reports: {reply.error.reason}")
        said = reply.content[RESULT]
        if FAILURE in said:
            return failure(str(said[FAILURE]), str(said["stage"]), str(said["traceback"]))
        metrics = dict(reply.content[METRICS])
        if task.stage == "fit":
            arrays = arrays_of(reply.content[PARAMETERS], self._layout, keep=False)
            return Update(
                learner=learner,
                parameters=arrays,
                examples=said["examples"],
                metrics=metrics,
                data=str(said.get(DATA, "")),
            )
        return Evaluation(
            learner=learner, loss=said["loss"], examples=said["examples"], metrics=metrics
        )

    def _push(self, messages: Mapping[Any, Message]) -> dict[Any, str]:
        """Send messages; returns the ids of those that the SuperLink took."""
        ids = self._grid.push_messages(list(messages.values()))
        return {key: taken for key, taken in zip(messages, ids, strict=False) if taken}

    async def _reply(self, message: str, deadline: float) -> Message | None:
        pause = _Pause()
        while True:
            replies = list(await asyncio.to_thread(self._grid.pull_messages, [message]))
            if replies:
                return replies[0]
            if time.monotonic() > deadline:
                return None
            await pause()


DATA = "data"
FAILURE = "failure"
"""Entry of a result that says what failed; ``stage`` and ``traceback`` are entries beside it."""


@dataclass(slots=True)
class _Pause:
    """Sleeps longer each time: a quick answer is read at once, a slow one costs few polls."""

    seconds: float = FIRST_PAUSE

    async def __call__(self) -> None:
        await asyncio.sleep(self.seconds)
        self.seconds = min(self.seconds * 1.5, LONGEST_PAUSE)


def _setup_of(content: RecordDict) -> Setup:
    said, versions = content[RESULT], content[VERSIONS]
    return Setup(commit=said["commit"], versions=dict(versions), state=said["state"])


def _content(task: Task, record: ArrayRecord) -> RecordDict:
    values: dict[str, Scalar] = {
        "stage": task.stage,
        "run_id": task.run_id,
        "round": task.round,
        "version": task.version,
        "seed": task.seed,
    }
    return RecordDict(
        {PARAMETERS: record, TASK: ConfigRecord(values), CONFIG: ConfigRecord(dict(task.config))}
    )


def record_of(parameters: Parameters) -> ArrayRecord:
    """Tensors for a message, in dtypes that Flower can write."""
    return ArrayRecord([as_bits(array) for array in parameters])


def arrays_of(record: ArrayRecord, layout: Layout, *, keep: bool) -> list[Array]:
    """The tensors that `record_of` has put into a message.

    Args:
        keep: Whether they stay in the message, too, as others may share it.
    """
    arrays = record.to_numpy_ndarrays(keep_input=keep)
    if len(arrays) != len(layout.tensors):
        return list(arrays)  # the check of updates will name the difference
    pairs = zip(arrays, layout.tensors, strict=True)
    return [from_bits(array, spec.dtype) for array, spec in pairs]


def task_of(content: RecordDict) -> Task:
    """The task in a message that `GridCohort` has sent."""
    return Task(**content[TASK], config=dict(content[CONFIG]))

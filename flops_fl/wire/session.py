"""One conversation between an aggregator and a learner, as a table. Pure, no I/O.

Both ends keep a `Conversation` and pass it every message they send or receive, so that
both refuse the same messages. The idea is that of h11's connection state machine.

    HELLO --Hello--> GREETED --Welcome--> IDLE --Order--> WORKING --Result--> IDLE
                        |                                    |  (large tensors)
                     Refusal                              Result
                        v                                    v
                     CLOSED <--Goodbye-- any              OFFERED --Grant--> UPLOADING
                                                                    --last Chunk--> IDLE

Failure and Cancel lead back to IDLE from WORKING, OFFERED and UPLOADING. A Cancel may
cross an answer on the wire. So one answer to each cancelled task, and the rest of its upload, are
legal but stale: the receiver drops them. So is all that crosses the other side's Goodbye.
A learner says nothing else of its own accord, so it cannot flood an aggregator that drops what is
stale.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto

from flops_fl.errors import ProtocolError
from flops_fl.text import sentence
from flops_fl.types import Task
from flops_fl.wire.messages import (
    Cancel,
    Chunk,
    Failure,
    Goodbye,
    Grant,
    Hello,
    Message,
    Order,
    Ping,
    Refusal,
    Result,
    Welcome,
)


class _Key(Enum):
    """Members are keys of a table. Enum's own hash is Python code, which runs for each message."""

    __hash__ = object.__hash__


class Side(_Key):
    AGGREGATOR = auto()
    LEARNER = auto()


class State(_Key):
    HELLO = auto()
    GREETED = auto()
    IDLE = auto()
    WORKING = auto()
    OFFERED = auto()
    UPLOADING = auto()
    CLOSED = auto()


_TABLE: dict[tuple[Side, type[Message]], dict[State, State]] = {
    (Side.LEARNER, Hello): {State.HELLO: State.GREETED},
    (Side.AGGREGATOR, Welcome): {State.GREETED: State.IDLE},
    (Side.AGGREGATOR, Refusal): {State.GREETED: State.CLOSED},
    (Side.AGGREGATOR, Order): {State.IDLE: State.WORKING},
    (Side.AGGREGATOR, Chunk): {State.WORKING: State.WORKING},
    (Side.LEARNER, Result): {State.WORKING: State.IDLE},  # or OFFERED, see step()
    (Side.AGGREGATOR, Grant): {State.OFFERED: State.UPLOADING},
    (Side.LEARNER, Chunk): {State.UPLOADING: State.UPLOADING},  # or IDLE after the last
    (Side.LEARNER, Failure): dict.fromkeys(
        (State.WORKING, State.OFFERED, State.UPLOADING), State.IDLE
    ),
    (Side.AGGREGATOR, Cancel): dict.fromkeys(
        (State.WORKING, State.OFFERED, State.UPLOADING), State.IDLE
    ),
}
_NEVER: dict[State, State] = {}
_OPEN = (State.IDLE, State.WORKING, State.OFFERED, State.UPLOADING)
for _side in Side:
    _TABLE[_side, Ping] = {state: state for state in _OPEN}
    _TABLE[_side, Goodbye] = dict.fromkeys(State, State.CLOSED)


class Conversation:
    """The state of a conversation, and the task it is about."""

    def __init__(self) -> None:
        self.state = State.HELLO
        self.task: Task | None = None
        self._upload = 0  # bytes still to come
        self._cancelled: Counter[str] = Counter()  # keys of tasks whose answer may still come
        self._leftover = 0  # bytes of cancelled uploads that may still come
        self._pings = 0  # of the aggregator, not answered yet
        self._parting: Side | None = None  # who has said goodbye

    def step(self, sender: Side, message: Message) -> bool:
        """Take note of a message; False if it is stale and must be dropped.

        Raises:
            ProtocolError: `sender` must not send this message now.
        """
        if self._stale(sender, message):
            return False
        following = _TABLE.get((sender, type(message)), _NEVER).get(self.state)
        if following is None:
            raise ProtocolError(
                f"{type(message).__name__} from the {sender.name.lower()} "
                f"while the conversation is {self.state.name}"
            )
        if isinstance(message, Order):
            self.task = message.task
        elif isinstance(message, Result):
            following = self._result(message)
        elif isinstance(message, Chunk) and sender is Side.LEARNER:
            following = self._uploaded(len(message.data))
        elif isinstance(message, Cancel):
            self._cancelled[message.key] += 1
            self._leftover += self._upload if self.state is State.UPLOADING else 0
        elif isinstance(message, Ping):
            self._ping(sender)
        elif isinstance(message, Goodbye):
            self._parting = sender
        self.state = following
        if following in (State.IDLE, State.CLOSED):
            self.task = None
        return True

    def sent_chunk(self, size: int) -> None:
        """Take note of a chunk of `size` bytes that this side sends, without decoding it."""
        if self.state is State.UPLOADING:
            self.state = self._uploaded(size)
            if self.state is State.IDLE:
                self.task = None

    def _result(self, message: Result) -> State:
        if message.nbytes is None and message.parameters is None:
            return State.IDLE
        assert self.task is not None  # else it was stale
        if self.task.stage != "fit":
            raise ProtocolError("parameters in answer to an evaluation")
        if not message.needs_grant:
            return State.IDLE
        assert message.nbytes is not None
        self._upload = message.nbytes
        return State.OFFERED

    def _uploaded(self, size: int) -> State:
        self._upload -= size
        if self._upload < 0:
            raise ProtocolError("more tensor bytes than the result announced")
        return State.IDLE if self._upload == 0 else State.UPLOADING

    def _ping(self, sender: Side) -> None:
        self._pings += 1 if sender is Side.AGGREGATOR else -1
        if self._pings < 0:
            raise ProtocolError("an answer to no Ping")

    def _stale(self, sender: Side, message: Message) -> bool:
        if self.state not in _OPEN:
            return self._parting not in (None, sender)
        if isinstance(message, (Result, Failure)):
            return self._late_answer(message.key)
        if isinstance(message, (Grant, Cancel)):
            return self.task is None or message.key != self.task.key
        if isinstance(message, Chunk) and sender is Side.LEARNER:
            return self._late_chunk(message)
        return False

    def _late_answer(self, key: str) -> bool:
        """Whether an answer is to a cancelled task.

        Raises:
            ProtocolError: it is to a task that was never given, or is the second one to it.
        """
        if self.task is not None and key == self.task.key:
            return False
        if not self._cancelled[key]:
            raise ProtocolError(f"an answer to the task {sentence(key, 40)!r}, which is not open")
        self._cancelled[key] -= 1
        return True

    def _late_chunk(self, chunk: Chunk) -> bool:
        """Whether a chunk is of a cancelled upload, and not more than what was left of it."""
        if not chunk.data:
            raise ProtocolError("a chunk without tensor bytes")
        task = self.task
        if self.state is State.UPLOADING and task is not None and chunk.version == task.round:
            return False
        late = len(chunk.data) <= self._leftover
        self._leftover -= len(chunk.data) if late else 0
        return late

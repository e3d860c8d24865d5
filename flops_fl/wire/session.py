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
cross an answer on the wire. So messages about a task that is no longer the current one
are legal but stale: the receiver drops them. So is all that crosses the other side's Goodbye.
"""

from __future__ import annotations

from enum import Enum, auto

from flops_fl.errors import ProtocolError
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


class Side(Enum):
    AGGREGATOR = auto()
    LEARNER = auto()


class State(Enum):
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
        self._parting: Side | None = None  # who has said goodbye

    def step(self, sender: Side, message: Message) -> bool:
        """Take note of a message; False if it is stale and must be dropped.

        Raises:
            ProtocolError: `sender` must not send this message now.
        """
        if self._stale(sender, message):
            return False
        following = _TABLE.get((sender, type(message)), {}).get(self.state)
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

    def _stale(self, sender: Side, message: Message) -> bool:
        if self.state not in _OPEN:
            return self._parting not in (None, sender)
        if isinstance(message, Result | Failure | Grant | Cancel):
            return self.task is None or message.key != self.task.key
        if isinstance(message, Chunk) and sender is Side.LEARNER:
            # A chunk of a cancelled upload. An evaluation may have been ordered meanwhile.
            task = self.task
            return task is None or task.stage != "fit" or message.version != task.round
        return False

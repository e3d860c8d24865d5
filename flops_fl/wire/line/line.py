"""One learner's end of the wire: its conversations and what it keeps between them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from typing import Any, Protocol

import grpc

from flops_fl.errors import FlopsError, ProtocolError, Refused, RepositoryError
from flops_fl.text import sentence
from flops_fl.types import (
    Answer,
    Array,
    Evaluation,
    Layout,
    LearnerFailure,
    Parameters,
    Setup,
    Task,
    Update,
)
from flops_fl.wire.chunks import Assembler, Chunks, arrays_in
from flops_fl.wire.codec import decode
from flops_fl.wire.line.answers import as_message
from flops_fl.wire.line.faults import Faults, failed
from flops_fl.wire.line.redial import DialOptions, Redial
from flops_fl.wire.messages import (
    Cancel,
    Chunk,
    Goodbye,
    Grant,
    Hello,
    Message,
    Order,
    Ping,
    Refusal,
    Welcome,
    layout_of,
)
from flops_fl.wire.outbox import Outbox
from flops_fl.wire.session import Conversation, Side
from flops_fl.wire.transport import METHOD

log = logging.getLogger(__name__)

PARTING_TIMEOUT = 2.0  # seconds that the aggregator has to close the stream after a Goodbye


class Worker(Protocol):
    """Does the work of one learner, on the line's event loop."""

    learner: str
    layout: Layout
    setup: Setup

    async def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        """Fit or evaluate; cancelled when nobody wants the answer any more.

        A FlopsError that it raises is reported as a failure of this task; the line goes on.
        """


class Line:
    """One learner's conversations, one after the other, and what it keeps between them."""

    def __init__(self, worker: Worker, options: DialOptions, faults: Faults) -> None:
        self._worker = worker
        self._options = options
        self._faults = faults
        self._nonce = uuid.uuid4().hex
        self._held: tuple[str, int, list[Array]] | None = None  # run id, version, parameters
        self._task: Task | None = None  # handed to the worker, in progress or finished
        self._work: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._download: tuple[Order, Assembler] | None = None
        self._conversation = Conversation()
        self._outbox: Outbox | None = None
        self._redial = Redial(worker.learner, options)

    async def run(self, channel: grpc.aio.Channel) -> Goodbye:
        """Converse, and dial again when the connection is lost, until the final goodbye."""
        while True:
            try:
                goodbye = await self._converse(channel)
                if goodbye.final and not self._options.stay:
                    return goodbye
                why = goodbye.reason or "connection closed"
                if goodbye.final:
                    why = f"the project has ended: {why}"
            except grpc.aio.AioRpcError as error:
                why = await asyncio.to_thread(self._faults.explain, error)
            except ProtocolError as error:
                raise self._redial.broke_protocol(error) from None
            except TimeoutError:  # a server of another kind would have answered with an error
                why = f"no answer to the greeting for {self._options.greeting_timeout:g} s"
            self._outbox = None
            patient = self._options.stay and self._held is not None
            await asyncio.sleep(self._redial.failed(why, patient=patient))

    # -- one conversation ----------------------------------------------------------------

    async def _converse(self, channel: grpc.aio.Channel) -> Goodbye:
        call = channel.stream_stream(METHOD)()
        self._conversation = Conversation()
        outbox = Outbox(Side.LEARNER, self._conversation)
        outbox.send(self._hello())
        writer = asyncio.create_task(outbox.run(call.write))
        try:
            if refusal := await self._be_welcomed(call):
                return Goodbye(reason=f"refused: {refusal.reason}")
            self._outbox = outbox
            while (frame := await call.read()) is not grpc.aio.EOF:
                message = decode(frame)
                if self._conversation.step(Side.AGGREGATOR, message):
                    if isinstance(message, Goodbye):
                        await _part(call)
                        return message
                    self._receive(message, outbox)
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                raise await failed(call)
            return Goodbye(reason="the aggregator closed the connection")
        finally:
            writer.cancel()
            call.cancel()

    def _hello(self) -> Hello:
        held, setup = self._held, self._worker.setup
        return Hello(
            learner=self._worker.learner,
            nonce=self._nonce,
            fingerprint=self._worker.layout.fingerprint,
            commit=setup.commit,
            versions=setup.versions,
            state=setup.state,
            task=self._task.key if self._task else "",
            run_id=held[0] if held else "",
            version=held[1] if held else -1,
        )

    async def _be_welcomed(self, call: Any) -> Refusal | None:
        """Wait to be let in; returns a refusal after which the same Hello may succeed."""
        frame = await asyncio.wait_for(call.read(), self._options.greeting_timeout)
        if frame is grpc.aio.EOF:
            raise await failed(call)
        message = decode(frame)
        self._conversation.step(Side.AGGREGATOR, message)
        if isinstance(message, Refusal):
            if message.retry:
                return message
            raise Refused(message.reason)
        if isinstance(message, Welcome):
            self._redial.welcomed()
        return None

    def _receive(self, message: Message, outbox: Outbox) -> None:
        if isinstance(message, Order):
            self._take(message)
        elif isinstance(message, Chunk):
            self._fill(message.offset, message.data)
        elif isinstance(message, Grant):
            self._upload(outbox)
        elif isinstance(message, Cancel):
            self._tell(f"task {sentence(message.key, 80)} cancelled: {message.reason}")
            self._forget()
        elif isinstance(message, Ping):
            outbox.send(Ping(answer=True))

    # -- work ----------------------------------------------------------------------------

    def _take(self, order: Order) -> None:
        if self._task and self._task.key == order.task.key:
            self._deliver()  # it had this task before the connection broke
            return
        self._forget()
        if order.nbytes is not None:
            self._held = None
            try:
                layout = layout_of(order, self._worker.layout)
            except ProtocolError as error:
                raise ProtocolError(f"a global model of {error}") from error
            if order.chunks_follow:
                self._download = (order, Assembler(layout.empty()))
            else:
                self._hold(order.task, arrays_in(order.inline, layout))
        elif self._held and self._held[:2] == (order.task.run_id, order.task.version):
            self._start(order.task)
        else:
            raise ProtocolError(f"parameters {order.task.version} were never sent")

    def _fill(self, offset: int, data: memoryview) -> None:
        if self._download is None:
            raise ProtocolError("tensor bytes without a task")
        order, assembler = self._download
        assembler.add(offset, data)
        if assembler.complete:
            self._download = None
            self._hold(order.task, assembler.arrays)

    def _hold(self, task: Task, parameters: list[Array]) -> None:
        self._held = (task.run_id, task.version, parameters)
        self._start(task)

    def _forget(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._task = self._work = self._answer = self._download = None

    def _start(self, task: Task) -> None:
        assert self._held is not None
        self._task = task
        self._work = asyncio.create_task(self._perform(task, self._held[2]))
        self._tell(f"round {task.round}: {task.stage}")

    async def _perform(self, task: Task, parameters: Parameters) -> None:
        try:
            answer: Answer = await self._worker.perform(task, parameters)
        except FlopsError as error:
            answer = self._failure(task, error)
        if self._task is task:
            self._answer = answer
            self._deliver()

    def _failure(self, task: Task, error: FlopsError) -> LearnerFailure:
        user = error if isinstance(error, RepositoryError) else None
        return LearnerFailure(
            learner=self._worker.learner,
            stage=user.stage if user else task.stage,
            reason=str(error),
            traceback=user.traceback if user else "",
        )

    def _deliver(self) -> None:
        """Send the answer if it is there and belongs to this conversation's task."""
        current = self._conversation.task
        if self._outbox is None or self._task is None or self._answer is None or current is None:
            return
        if current.key != self._task.key:
            return
        self._outbox.send(as_message(self._task, self._answer))

    def _upload(self, outbox: Outbox) -> None:
        if self._task and isinstance(self._answer, Update):
            model = Chunks(self._task.round, self._answer.parameters)
            outbox.send_tensors(self._task.key, model)

    def _tell(self, event: str) -> None:
        log.debug("%s: %s", self._worker.learner, event)
        self._options.on_event(self._worker.learner, event)


async def _part(call: Any) -> None:
    """Close a stream in order, so that neither side takes it for a broken one."""
    with suppress(Exception):
        await call.done_writing()
        await asyncio.wait_for(call.code(), PARTING_TIMEOUT)

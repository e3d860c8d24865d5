"""Connects a process's learners to the aggregator and leaves the main thread to user code.

`converse` holds all conversations of a process (one, or many under `simulate`) on the event loop
that calls it. `serve_workers` runs it on a thread of its own, and runs user code on the thread
that calls: frameworks, signal handlers and users' code expect the main thread.
A learner keeps its answer until the aggregator asks for something else. So a connection lost
in the middle costs a new Hello, but no training.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import grpc

from flops_fl.errors import FlopsError
from flops_fl.net.address import Address
from flops_fl.types import Evaluation, Layout, Parameters, Setup, Task, Update
from flops_fl.wire.codec import MAX_FRAME
from flops_fl.wire.line.faults import Faults
from flops_fl.wire.line.line import Line, Worker
from flops_fl.wire.line.redial import DialOptions
from flops_fl.wire.messages import Goodbye
from flops_fl.wire.transport import channel_arguments

_RECONNECTING = [
    # `Redial` does the back-off, with jitter. gRPC's own would grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

Jobs: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"
"""Work for the main thread; None ends the queue."""


class BlockingWorker(Protocol):
    """A worker that blocks the calling thread until its work is done."""

    learner: str
    layout: Layout
    setup: Setup

    def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        """Fit or evaluate. Raises like `Worker.perform`."""


async def converse(workers: Sequence[Worker], options: DialOptions) -> Goodbye:
    """Work for an aggregator until it says that the project has ended.

    Returns:
        Its goodbye. Of several workers' goodbyes, one that does not say `failed` if there is
        one, so that a worker put aside does not make the process fail.

    Raises:
        Unreachable: nobody answered for `connect_timeout` seconds.
        Refused: the aggregator does not let a learner in.
        ProtocolError: the peer speaks another protocol.
    """
    arguments = [*channel_arguments(MAX_FRAME, options.keepalive), *_RECONNECTING]
    faults = Faults(options.address, options.tls)
    async with open_channel(grpc.aio, options, arguments) as channel:
        try:
            async with asyncio.TaskGroup() as group:
                lines = [Line(worker, options, faults) for worker in workers]
                tasks = [group.create_task(line.run(channel)) for line in lines]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
    goodbyes = [task.result() for task in tasks]
    return next((said for said in goodbyes if not said.failed), goodbyes[0])


def serve_workers(
    workers: Sequence[BlockingWorker],
    options: DialOptions,
    elsewhere: Mapping[str, Address] | None = None,
) -> Goodbye:
    """Like `converse`, for workers that block. They work on the thread that calls this.

    Args:
        elsewhere: The aggregator's address, by learner, where `options` has another.

    Returns, Raises: as `converse`.
    """
    jobs: Jobs = queue.SimpleQueue()
    queued = [_OnMainThread(worker, jobs) for worker in workers]
    dialer = _Dialer(queued, options, elsewhere or {}, jobs)
    thread = threading.Thread(target=dialer.run, name="flops-wire", daemon=True)
    thread.start()
    try:
        while (job := jobs.get()) is not None:
            job()
    finally:
        dialer.stop()
        thread.join(timeout=5.0)
    if dialer.error:
        raise dialer.error
    return dialer.last_word


class _OnMainThread:
    """A blocking worker as the line sees it: its work is queued for the main thread."""

    def __init__(self, worker: BlockingWorker, jobs: Jobs) -> None:
        self.learner = worker.learner
        self.layout = worker.layout
        self.setup = worker.setup
        self._worker = worker
        self._jobs = jobs

    async def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Update | Evaluation] = loop.create_future()

        def tell(answer: Update | Evaluation | FlopsError) -> None:
            if done.cancelled():
                return
            if isinstance(answer, FlopsError):
                done.set_exception(answer)
            else:
                done.set_result(answer)

        def job() -> None:
            if done.cancelled():  # before its turn came
                return
            try:
                answer: Update | Evaluation | FlopsError = self._worker.perform(task, parameters)
            except FlopsError as error:
                answer = error
            with suppress(RuntimeError):  # the loop has closed: the project ended meanwhile
                loop.call_soon_threadsafe(tell, answer)

        self._jobs.put(job)
        return await done


class _Dialer:
    """The thread with the event loop."""

    def __init__(
        self,
        workers: Sequence[Worker],
        options: DialOptions,
        elsewhere: Mapping[str, Address],
        jobs: Jobs,
    ) -> None:
        self.error: BaseException | None = None
        self.last_word = Goodbye()
        self._workers = workers
        self._options = options
        self._elsewhere = elsewhere
        self._jobs = jobs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self._jobs.put(None)

    def stop(self) -> None:
        """End the conversations, called from another thread. Does nothing after their end."""
        if self._loop and self._main and not self._main.done():
            with suppress(RuntimeError):  # the loop closed in this moment
                self._loop.call_soon_threadsafe(self._main.cancel)

    async def _run(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        groups: dict[Address, list[Worker]] = {}
        for worker in self._workers:
            address = self._elsewhere.get(worker.learner, self._options.address)
            groups.setdefault(address, []).append(worker)
        self.last_word, *_ = await asyncio.gather(
            *(
                converse(group, replace(self._options, address=address))
                for address, group in groups.items()
            )
        )


def open_channel(api: Any, options: DialOptions, arguments: Sequence[tuple[str, int]]) -> Any:
    """A channel with TLS or without, made by `api`, which is `grpc` or `grpc.aio`."""
    if options.address.loopback:  # a proxy would dial its own machine
        arguments = [*arguments, ("grpc.enable_http_proxy", 0)]
    if options.tls is None:
        return api.insecure_channel(str(options.address), arguments)
    return api.secure_channel(str(options.address), options.tls.for_dialling(), arguments)

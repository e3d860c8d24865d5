"""The learner's side of the wire: dial, dial again, and let user code have the main thread.

One thread runs all conversations of the process (one, or many under `simulate`). Work
goes to the thread that called `serve_workers`, since frameworks, signal handlers and
people's code expect the main one. What was computed is kept until the aggregator has
moved on: a connection lost in the middle costs a new Hello, no training.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence

import grpc

from flops_fl.wire.line.line import DialOptions, Jobs, Line, Worker
from flops_fl.wire.outbox import KEEPALIVE


def serve_workers(workers: Sequence[Worker], options: DialOptions) -> str:
    """Work for an aggregator until it says that the project has ended.

    Call it on the main thread: the work is done here.

    Returns:
        The aggregator's last word.

    Raises:
        Unreachable: nobody answered for `connect_timeout` seconds.
        Refused: the aggregator does not let a learner in.
        ProtocolError: it speaks another language.
    """
    jobs: Jobs = queue.SimpleQueue()
    dialer = _Dialer(workers, options, jobs)
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


class _Dialer:
    """The thread with the event loop; owns the channel and one `Line` for each learner."""

    def __init__(
        self,
        workers: Sequence[Worker],
        options: DialOptions,
        jobs: Jobs,
    ) -> None:
        self.error: BaseException | None = None
        self.last_word = ""
        self._options = options
        self._jobs = jobs
        self._lines = [Line(worker, options, jobs) for worker in workers]
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
        """End the conversations from another thread; without effect when they have ended."""
        if self._loop and self._main and not self._main.done():
            try:
                self._loop.call_soon_threadsafe(self._main.cancel)
            except RuntimeError:  # the loop closed in this moment
                return

    async def _run(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        async with _channel(self._options) as channel:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(line.run(channel)) for line in self._lines]
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from None
        self.last_word = tasks[0].result()


def _channel(options: DialOptions) -> grpc.aio.Channel:
    arguments = [
        *KEEPALIVE,
        # Back-off is ours, with jitter; gRPC's own would grow to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if options.tls is None:
        return grpc.aio.insecure_channel(str(options.address), arguments)
    credentials = grpc.ssl_channel_credentials(
        options.tls.ca, options.tls.key, options.tls.certificate
    )
    return grpc.aio.secure_channel(str(options.address), credentials, arguments)

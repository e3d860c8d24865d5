"""Our learner as the client of a stock Flower server (`flwr.server.start_server`).

So an existing federation can add learners of ML repositories one by one. The server's protocol
has no rounds and no seeds. The learner counts the rounds itself and uses the seed 0.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Protocol

import grpc
from flwr.proto import transport_pb2

from flops_fl.errors import FlopsError, ProtocolError, RepositoryError
from flops_fl.flower.values import (
    METHOD,
    from_scalar,
    from_tensor,
    largest_message,
    to_scalar,
    to_tensor,
)
from flops_fl.types import Parameters, Task, Update
from flops_fl.wire.line.dial import BlockingWorker, open_channel
from flops_fl.wire.line.faults import Faults
from flops_fl.wire.line.redial import DialOptions, Redial
from flops_fl.wire.messages import Goodbye

log = logging.getLogger(__name__)

flower: Any = transport_pb2  # its type stubs forbid to choose a message by name

# Flower's server ends streams with more frequent pings (its client sends one in 210 s).
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 210_000),
]
_LAST_WORD = 1.0  # seconds in which the answer to a goodbye can leave before the stream is cut


class FlowerWorker(BlockingWorker, Protocol):
    """A worker that also gives its model's parameters."""

    def parameters(self) -> Parameters:
        """The model's current parameters."""


def serve_flower(worker: FlowerWorker, options: DialOptions) -> Goodbye:
    """Work for a Flower server until it says goodbye; fit and evaluate on this thread.

    Returns:
        How the work ended, for the operator.

    Raises:
        Unreachable: nobody answered for `connect_timeout` seconds.
        Refused, ProtocolError: somebody answered, but another attempt would fail, too.
    """
    answers, faults = _Answers(worker), Faults(options.address, options.tls)
    limit = ("grpc.max_receive_message_length", largest_message(worker.layout))
    arguments = [*_CHANNEL, limit]
    redial = Redial(worker.learner, replace(options, whom="Flower server"))
    while True:
        try:
            with open_channel(grpc, options, arguments) as channel:
                away = _converse(channel, answers, redial)
            if away is not None and not 0 < away <= options.reconnect_timeout:
                return answers.goodbye()
            why = f"the server wants it back in {away} s" if away else "connection closed"
        except grpc.RpcError as error:
            away, why = None, faults.explain(error)
        answers.heard = False
        time.sleep(max(redial.failed(why), away or 0))


def _converse(channel: grpc.Channel, answers: _Answers, redial: Redial) -> int | None:
    """Answer the server's messages.

    Returns:
        After how many seconds the server wants the learner back, 0 if never; None if the stream
        has ended.
    """
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = channel.stream_stream(METHOD)(iter(outgoing.get, None))
    try:
        for frame in call:
            if not answers.heard:
                redial.welcomed()
                answers.heard = True
            kind, body = _read(frame)
            outgoing.put(answers.to(kind, body).SerializeToString())
            if kind == "reconnect_ins":
                ended = threading.Event()
                call.add_callback(ended.set)
                ended.wait(_LAST_WORD)
                return int(body.seconds)
    finally:
        outgoing.put(None)
    return None


def _read(frame: bytes) -> tuple[str, Any]:
    """The kind of a server's message, and its body."""
    try:
        message = flower.ServerMessage.FromString(frame)
    except Exception as error:
        raise ProtocolError("no Flower server answers at this port: check the port") from error
    kind = message.WhichOneof("msg")
    if kind is None:
        raise ProtocolError(
            f"the Flower server sent a message that flwr {version('flwr')} does not know: use its "
            "version here, too"
        )
    return kind, getattr(message, kind)


class _Answers:
    """Makes the learner's answer to each message of the server."""

    def __init__(self, worker: FlowerWorker) -> None:
        self.worker = worker
        self.heard = False
        self._round = 0
        self._worked: set[str] = set()  # kinds of tasks
        self._unread: dict[str, str] = {}

    def goodbye(self) -> Goodbye:
        """How the work ended, once the server has said goodbye."""
        for why in [why for kind, why in self._unread.items() if kind not in self._worked]:
            said = f"no model that the server sent could be used. The last: {why}"
            return Goodbye(reason=said, final=True, failed=True)
        return Goodbye(reason="the server said goodbye", final=True)

    def to(self, kind: str, body: Any) -> Any:
        if kind in ("fit_ins", "evaluate_ins"):
            return self._work(kind, body)
        if kind == "get_parameters_ins":
            return flower.ClientMessage(get_parameters_res=self._parameters())
        if kind == "get_properties_ins":  # the answer of a Flower client without properties
            code, why = flower.Code.GET_PROPERTIES_NOT_IMPLEMENTED, "a learner has no properties"
            properties = flower.ClientMessage.GetPropertiesRes(status=_status(code, why))
            return flower.ClientMessage(get_properties_res=properties)
        reason = flower.Reason.RECONNECT if body.seconds else flower.Reason.ACK
        bye = flower.ClientMessage.DisconnectRes(reason=reason)
        return flower.ClientMessage(disconnect_res=bye)

    def _parameters(self) -> Any:
        try:
            status, parameters = _status(flower.Code.OK), _pack(self.worker.parameters())
        except RepositoryError as error:
            code = flower.Code.GET_PARAMETERS_NOT_IMPLEMENTED
            status, parameters = _failed(self.worker.learner, code, error), None
        return flower.ClientMessage.GetParametersRes(status=status, parameters=parameters)

    def _work(self, kind: str, body: Any) -> Any:
        fits = kind == "fit_ins"
        self._round += fits
        task = Task(
            stage="fit" if fits else "evaluate",
            run_id="flower",
            round=self._round,
            version=self._round,
            seed=0,
            config={name: from_scalar(value) for name, value in body.config.items()},
        )
        name, cls = (
            ("fit_res", flower.ClientMessage.FitRes)
            if fits
            else ("evaluate_res", flower.ClientMessage.EvaluateRes)
        )
        # The server takes a status other than OK for a failure; the learner stays connected.
        code = flower.Code.FIT_NOT_IMPLEMENTED if fits else flower.Code.EVALUATE_NOT_IMPLEMENTED
        try:
            answer = self.worker.perform(task, self._model(body.parameters.tensors))
        except ProtocolError as error:
            self._unread[kind] = str(error)
            status = _failed(self.worker.learner, code, error)
            return flower.ClientMessage(**{name: cls(status=status)})
        except FlopsError as error:  # already logged where it was raised
            return flower.ClientMessage(**{name: cls(status=_status(code, str(error)))})
        self._worked.add(kind)
        metrics = {key: to_scalar(value) for key, value in answer.metrics.items()}
        common = {
            "status": _status(flower.Code.OK),
            "num_examples": answer.examples,
            "metrics": metrics,
        }
        if isinstance(answer, Update):
            res = cls(parameters=_pack(answer.parameters), **common)
        else:
            res = cls(loss=answer.loss, **common)
        return flower.ClientMessage(**{name: res})

    def _model(self, tensors: Sequence[bytes]) -> Parameters:
        """The server's model, or the learner's own while FedXgbBagging's server has none."""
        if not tensors:
            return self.worker.parameters()
        layout = self.worker.layout
        arrays = [from_tensor(tensor, layout) for tensor in tensors]
        theirs, ours = [array.shape for array in arrays], [spec.shape for spec in layout.tensors]
        if not layout.opaque and theirs != ours:  # user code might broadcast them silently
            raise ProtocolError(
                f"the server's model has tensors of shapes {theirs!s:.200}, this repository's "
                f"{ours!s:.200}: both sides need the same model"
            )
        return arrays


def _failed(learner: str, code: Any, error: FlopsError) -> Any:
    log.warning("[%s] %s", learner, error)
    return _status(code, str(error))


def _status(code: Any, message: str = "") -> Any:
    return flower.Status(code=code, message=message)


def _pack(parameters: Parameters) -> Any:
    tensors = [to_tensor(array) for array in parameters]
    return flower.Parameters(tensors=tensors, tensor_type="numpy.ndarray")

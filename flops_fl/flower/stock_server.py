"""Our learner towards a stock Flower server (`flwr.server.start_server`).

An existing federation can so take learners of ML repositories one by one. The server's
protocol knows no rounds and no seeds: rounds are counted here, the seed is 0.
"""

from __future__ import annotations

import queue
import time
from typing import Any, Protocol

import grpc
from flwr.proto import transport_pb2

from flops_fl.errors import RepositoryError
from flops_fl.flower.values import (
    METHOD,
    from_scalar,
    from_tensor,
    largest_message,
    to_scalar,
    to_tensor,
)
from flops_fl.types import Array, Parameters, Task, Update
from flops_fl.wire.line.dial import BlockingWorker, open_channel
from flops_fl.wire.line.faults import Faults
from flops_fl.wire.line.redial import DialOptions, Redial
from flops_fl.wire.messages import Goodbye

flower: Any = transport_pb2  # its stubs do not allow for messages chosen by name

# Flower's server calls more frequent pings abuse (its client sends one in 210 s).
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 210_000),
]


class FlowerWorker(BlockingWorker, Protocol):
    """A worker that can also say what its model's parameters are."""

    def parameters(self) -> Parameters:
        """The model's current parameters."""


def serve_flower(worker: FlowerWorker, options: DialOptions) -> Goodbye:
    """Work for a Flower server until it says goodbye; the work is done on this thread.

    Returns:
        The last word, for the operator.

    Raises:
        Unreachable: nobody answered for `connect_timeout` seconds.
        Refused, ProtocolError: whoever answers, trying again is of no use.
    """
    answers, faults = _Answers(worker), Faults(options.address, options.tls)
    limit = ("grpc.max_receive_message_length", largest_message(worker.layout))
    arguments = [*_CHANNEL, limit]
    redial = Redial(worker.learner, options, "Flower server")
    while True:
        try:
            with open_channel(grpc, options, arguments) as channel:
                if _converse(channel, answers, redial):
                    return Goodbye(reason="the server said goodbye", final=True)
            why = "connection closed"
        except grpc.RpcError as error:
            why = faults.explain(error)
        answers.heard = False
        time.sleep(redial.failed(why))


def _converse(channel: grpc.Channel, answers: _Answers, redial: Redial) -> bool:
    """Answer what the server asks; whether it ended with its goodbye."""
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = channel.stream_stream(METHOD)(iter(outgoing.get, None))
    try:
        for frame in call:
            if not answers.heard:
                redial.welcomed()
                answers.heard = True
            message = flower.ServerMessage.FromString(frame)
            kind = message.WhichOneof("msg")
            outgoing.put(answers.to(kind, getattr(message, kind)).SerializeToString())
            if kind == "reconnect_ins":
                outgoing.put(None)
                return True
    finally:
        outgoing.put(None)
    return False


class _Answers:
    """What the learner says to each message of the server."""

    def __init__(self, worker: FlowerWorker) -> None:
        self.worker = worker
        self.heard = False
        self._round = 0

    def to(self, kind: str, body: Any) -> Any:
        if kind in ("fit_ins", "evaluate_ins"):
            return self._work(kind, body)
        if kind == "get_parameters_ins":
            res = flower.ClientMessage.GetParametersRes(
                status=_status(flower.Code.OK), parameters=_pack(self.worker.parameters())
            )
            return flower.ClientMessage(get_parameters_res=res)
        if kind == "get_properties_ins":
            properties = flower.ClientMessage.GetPropertiesRes(status=_status(flower.Code.OK))
            return flower.ClientMessage(get_properties_res=properties)
        bye = flower.ClientMessage.DisconnectRes(reason=flower.Reason.ACK)
        return flower.ClientMessage(disconnect_res=bye)

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
        arrays: list[Array] = [
            from_tensor(tensor, self.worker.layout) for tensor in body.parameters.tensors
        ]
        name, cls = (
            ("fit_res", flower.ClientMessage.FitRes)
            if fits
            else ("evaluate_res", flower.ClientMessage.EvaluateRes)
        )
        try:
            answer = self.worker.perform(task, arrays)
        except RepositoryError as error:
            # A status other than OK is a failure to the server; the learner stays.
            code = flower.Code.FIT_NOT_IMPLEMENTED if fits else flower.Code.EVALUATE_NOT_IMPLEMENTED
            return flower.ClientMessage(**{name: cls(status=_status(code, str(error)))})
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


def _status(code: Any, message: str = "") -> Any:
    return flower.Status(code=code, message=message)


def _pack(parameters: Parameters) -> Any:
    tensors = [to_tensor(array) for array in parameters]
    return flower.Parameters(tensors=tensors, tensor_type="numpy.ndarray")

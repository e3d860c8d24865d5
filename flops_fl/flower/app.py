"""The ClientApp and the ServerApp of a Flower app.

Their callers say how to build a learner and how to lead the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeAlias

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.serverapp import Grid, ServerApp

from flops_fl.errors import FlopsError, RepositoryError
from flops_fl.flower.client import LearnerClient
from flops_fl.flower.grid import (
    CONFIG,
    DATA,
    FAILURE,
    METRICS,
    PARAMETERS,
    RESULT,
    TASK,
    VERSIONS,
    arrays_of,
    record_of,
    task_of,
)
from flops_fl.types import Update

LearnerOf: TypeAlias = Callable[[Context], AbstractContextManager[LearnerClient]]
"""Builds a node's learner to answer one message; raises FlopsError."""

Lead: TypeAlias = Callable[[Grid, Context], None]
"""Leads a whole training over the Grid; raises FlopsError, which Flower shows."""


def client_app(learner_of: LearnerOf) -> ClientApp:
    """A ClientApp that answers with a LearnerClient.

    If the user's code fails, the reply says why and the learner's update is lost.
    """
    app = ClientApp()

    @app.query()  # type: ignore[untyped-decorator]
    def query(message: Message, context: Context) -> Message:
        """Say which learner this node is, and its model's layout."""
        return _reply(message, context, learner_of, _introduce)

    @app.train()  # type: ignore[untyped-decorator]
    @app.evaluate()  # type: ignore[untyped-decorator]
    def perform(message: Message, context: Context) -> Message:
        """Fit or evaluate the global model on this node's data."""
        why = _foreign(message.content)
        if why:  # another ServerApp could not read our reply
            return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, why), reply_to=message)
        return _reply(message, context, learner_of, _perform)

    return app


def server_app(lead: Lead) -> ServerApp:
    """A ServerApp that leads the rounds over the Grid."""
    app = ServerApp()
    app.main()(lead)
    return app


def _introduce(learner: LearnerClient, message: Message) -> RecordDict:
    setup, fingerprint = learner.setup, learner.model.layout.fingerprint
    said = {"learner": learner.learner, "fingerprint": fingerprint}
    said |= {"commit": setup.commit, "state": setup.state}
    return _result(said, **{VERSIONS: ConfigRecord(dict(setup.versions))})


def _perform(learner: LearnerClient, message: Message) -> RecordDict:
    arrays = arrays_of(message.content[PARAMETERS], learner.model.layout, keep=True)
    done = learner.perform(task_of(message.content), arrays)
    metrics = {METRICS: ConfigRecord(dict(done.metrics))}
    if isinstance(done, Update):
        tensors = {PARAMETERS: record_of(done.parameters)}
        return _result({"examples": done.examples, DATA: done.data}, **metrics, **tensors)
    return _result({"loss": done.loss, "examples": done.examples}, **metrics)


def _foreign(content: RecordDict) -> str:
    """Which records show that another ServerApp or a mod sent this message; empty if ours did."""
    strange = sorted(set(content) - {PARAMETERS, TASK, CONFIG})
    if not strange and len(content) == 3:
        return ""
    what = "SecAgg+" if RECORD_KEY_CONFIGS in strange else ", ".join(strange) or "too little"
    return (
        f"a message with {what}: this ClientApp answers only the ServerApp of its own app, and "
        "the two do not support secure aggregation"
    )


def _reply(
    message: Message,
    context: Context,
    learner_of: LearnerOf,
    answer: Callable[[LearnerClient, Message], RecordDict],
) -> Message:
    try:
        with learner_of(context) as learner:
            content = answer(learner, message)
    except FlopsError as error:
        stage = error.stage if isinstance(error, RepositoryError) else "data"
        traceback = error.traceback if isinstance(error, RepositoryError) else ""
        content = _result({FAILURE: str(error), "stage": stage, "traceback": traceback})
    return Message(content, reply_to=message)


def _result(values: Mapping[str, str | int | float], **records: object) -> RecordDict:
    return RecordDict({RESULT: ConfigRecord(dict(values)), **records})

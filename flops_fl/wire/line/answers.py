"""Turns a learner's answer into the message that carries or announces it."""

from __future__ import annotations

from flops_fl.types import Answer, Evaluation, LearnerFailure, Task
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.messages import Failure, Message, Result


def as_message(task: Task, answer: Answer) -> Message:
    """The message for an answer: it carries a small model and announces a large one."""
    if isinstance(answer, LearnerFailure):
        return Failure(
            key=task.key, stage=answer.stage, reason=answer.reason, traceback=answer.traceback
        )
    if isinstance(answer, Evaluation):
        return Result(
            key=task.key, examples=answer.examples, loss=answer.loss, metrics=answer.metrics
        )
    model = Chunks(task.round, answer.parameters)
    return Result(
        key=task.key,
        examples=answer.examples,
        metrics=answer.metrics,
        nbytes=model.nbytes,
        inline=model.inline,
        sizes=model.sizes,
        data=answer.data,
    )

"""An actor with a fault built in: ``python -m tests.chaos.actor aggregator|learner OPTIONS``.

FAULT=INSTANT[:N] kills the process, with SIGKILL, when it comes to that instant for the Nth time.
PIECES=1 makes models travel in small chunks, whatever their size. CLOCK=SEED lets the wall clock
jump by up to a day either way, each time it is read.
"""

import importlib
import os
import random
import runpy
import signal
import sys
import time
from contextlib import contextmanager
from inspect import iscoroutinefunction

# Instant -> the function that it is before or after.
AGGREGATORS = {
    "before-selection": ("flower.strategy:FlowerStrategy.choose", "before"),
    "after-selection": ("flower.strategy:FlowerStrategy.choose", "after"),
    "at-offer": ("wire.hub.intake:Intake.offer", "after"),
    "in-upload": ("wire.hub.intake:Intake.chunk", "after"),
    "after-upload": ("wire.hub.intake:Intake._complete", "after"),
    "before-fold": ("core.mean:WeightedMean.add", "before"),
    "after-fold": ("core.mean:WeightedMean.add", "after"),
    "before-strategy": ("flower.strategy:FlowerStrategy.aggregate", "before"),
    "after-strategy": ("flower.strategy:FlowerStrategy.aggregate", "after"),
    "before-arrays": ("run.checkpoint:_save", "before"),
    "after-arrays": ("run.checkpoint:_save", "after"),
    "in-write": ("process.files:os.fsync", "before"),
    "before-rename": ("process.files:Path.replace", "before"),
    "after-rename": ("process.files:Path.replace", "after"),
    "before-state": ("run.checkpoint:CheckpointWriter._write_state", "before"),
    "after-state": ("run.checkpoint:CheckpointWriter._write_state", "after"),
    "in-evaluation": ("wire.hub.intake:_evaluation", "after"),
    "after-evaluation": ("core.stages:_figures", "after"),
    "after-round": ("core.observer:Observers.on_round", "after"),
    "tracking-round": ("observers.mlflow_store:MlflowStore.create_run", "after"),
    "tracked-figures": ("observers.mlflow_store:MlflowStore.log_figures", "after"),
    "tracked-training": ("observers.mlflow_training:TrainingRun.log", "after"),
    "before-model": ("observers.mlflow_store:log_model", "before"),
    "after-model": ("observers.mlflow_store:log_model", "after"),
    "before-result": ("run.result:write_result", "before"),
    "after-result": ("run.result:write_result", "after"),
}
LEARNERS = {
    "before-fit": ("flower.client:LearnerClient.fit", "before"),
    "after-fit": ("flower.client:LearnerClient.fit", "after"),
    "at-grant": ("wire.line.line:Line._upload", "before"),
    "sending": ("wire.chunks:chunk_frame", "after"),
    "before-evaluation": ("flower.client:LearnerClient.evaluate", "before"),
    "learner-evaluated": ("flower.client:LearnerClient.evaluate", "after"),
}
# Of a cluster aggregator, beside those of any aggregator; `Line` is its link to the root.
CLUSTERS = {
    "before-cycle": ("core.cycle:Cycles.fit", "before"),
    "cycle-begun": ("core.cycle:Cycles._begin", "after"),
    "cycle-played": ("core.cycle:Cycles._play", "after"),
    "before-answer": ("core.cycle:Cycles.fit", "after"),
    "answered": ("wire.line.line:Line._deliver", "after"),
    "at-grant-of-root": ("wire.line.line:Line._upload", "before"),
    "upload-begun": ("wire.line.line:Line._upload", "after"),
    "before-cycle-evaluation": ("core.cycle:Cycles.evaluate", "before"),
    "cycle-evaluated": ("core.cycle:Cycles.evaluate", "after"),
}
INSTANTS = AGGREGATORS | LEARNERS | CLUSTERS


def arm(instant, count):
    """Wrap the function, so that its `count`th call is the process's last."""
    target, when = INSTANTS[instant]
    module, _, path = target.partition(":")
    holder = importlib.import_module(f"flops_fl.{module}")
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    function = getattr(holder, name)
    left = [count]

    @contextmanager
    def counted():
        left[0] -= 1
        last = left[0] == 0
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        yield
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    def fatal(*arguments, **options):
        with counted():
            return function(*arguments, **options)

    async def fatal_coroutine(*arguments, **options):
        with counted():
            return await function(*arguments, **options)

    setattr(holder, name, fatal_coroutine if iscoroutinefunction(function) else fatal)


def let_the_clock_jump(seed):
    """As when somebody sets it, or a machine without a battery finds a time server."""
    generator, true_time = random.Random(seed), time.time
    time.time = lambda: true_time() + generator.uniform(-86400, 86400)


def main():
    actor = sys.argv.pop(1)
    if os.environ.get("PIECES"):
        tensors = importlib.import_module("flops_fl.wire.chunks")
        tensors.INLINE_BYTES, tensors.CHUNK_BYTES = 0, 700
    if os.environ.get("CLOCK"):
        let_the_clock_jump(int(os.environ["CLOCK"]))
    if os.environ.get("FAULT"):
        instant, _, count = os.environ["FAULT"].partition(":")
        arm(instant, int(count or 1))
    runpy.run_module(actor, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""A federation of real processes. Whatever is killed is started again."""

import json
import time

LEARNERS = 3
STRATEGY = ["--strategy", "FedAdam", "--strategy-option", "eta=0.03"]
LONGEST = 420  # seconds for a whole run


class Federation:
    """An aggregator and learners.

    Args:
        through: What the learners reach the aggregator by: a proxy, or a network.
        options: More of the aggregator's.
        env: Of all, beside each one's own.
        first, second: Whether the aggregator, and the second learner, are started.
    """

    def __init__(
        self, processes, repo, digits, rounds, fit_seconds, through=None, options=(), env=None,
        tracking=False, first=True, second=True,
    ):  # fmt: skip
        self.processes, self.repo, self.digits = processes, repo, digits
        self.through = through
        self.rounds, self.options, self.tracking = rounds, options, tracking
        self.env = {"MARK": str(processes.folder / "mark"), "FIT_SECONDS": str(fit_seconds)}
        self.env |= env or {}
        several = [index for index in range(LEARNERS) if second or index != 1]
        self.learners = [self.start_learner(index) for index in several]
        self.aggregator = self.start_aggregator() if first else None
        self.killed, self.slowest = None, 0.0

    def start_aggregator(self, fault=""):
        options = ["--rounds", self.rounds, "--min-clients", LEARNERS, "--resume", *STRATEGY]
        listen = self.through.listen if self.through else self.processes.address
        options += ["--listen", listen, "--output", self.folder, "--json"]
        options += [*([] if self.tracking else ["--no-tracking"]), *self.options]
        return self._start("aggregator", options, fault)

    def start_learner(self, index, fault=""):
        address = self.through.address if self.through else self.processes.address
        options = ["--aggregator", address, "--data", self.digits / f"part-{index}"]
        return self._start("learner", [*options, "--learner-id", f"learner-{index}"], fault)

    def _start(self, actor, options, fault):
        env = {**self.env, "FAULT": fault}
        wrapper = self.through.wrapper if self.through and actor == "learner" else ()
        options += self.through.options if self.through else ()
        return self.processes.start(
            "tests.chaos.actor", actor, self.repo, *options, env=env, wrapper=wrapper
        )

    @property
    def folder(self):
        return self.processes.folder / "run"

    def watch(self):
        """Measure how long after a kill the next round is safe."""
        self.killed, self.slowest, seen = None, 0.0, None
        while not self.over() or self.killed:
            newest = self.safe_rounds()
            if newest != seen and self.killed:
                self.slowest = max(self.slowest, time.monotonic() - self.killed)
                self.killed = None
            seen = newest
            time.sleep(0.02)

    def safe_rounds(self):
        """How many rounds are in a checkpoint."""
        found = (self.folder / "checkpoints").glob("*.json")
        return max((int(path.stem) for path in found), default=0)

    def kill_aggregator(self):
        self.aggregator.kill()
        self.aggregator.communicate()
        self.killed = self.killed or time.monotonic()
        self.aggregator = self.start_aggregator()

    def kill_learner(self, index):
        self.learners[index].kill()
        self.learners[index].wait()
        self.learners[index] = self.start_learner(index)

    def over(self):
        return self.aggregator.poll() is not None

    def result(self):
        out, _ = self.aggregator.communicate(timeout=LONGEST)
        assert self.aggregator.returncode == 0, self.processes.stderr(self.aggregator)
        for learner in self.learners:
            learner.communicate(timeout=30)
            assert learner.returncode == 0, self.processes.stderr(learner)
        return json.loads(out)

    def fits(self):
        return len(list(self.processes.folder.glob("mark-fit-*")))


def figures(result):
    """What must not depend on what happened on the way."""
    rounds = [
        {key: entry[key] for key in ("round", "loss", "accuracy", "examples", "learners")}
        for entry in result["rounds"]
    ]
    return result["model_sha256"], result["best"], rounds, result["status"]


def check_folder(folder, tracking=False):
    """Nothing half-written, no spool, and no more checkpoints than are kept."""
    names = {path.name for path in folder.iterdir()}
    kept = {"checkpoints", "history.png", "model-best.npz", "model-last.npz", "result.json"}
    assert names <= kept | ({"mlflow.db", "mlartifacts"} if tracking else set())
    assert len(list((folder / "checkpoints").glob("*.json"))) <= 3


def check_tracking(result):
    """Each round has one run, whole and ended, and the best one its model. All have one parent,
    which has the figures of each round once."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=result["mlflow"]["tracking_uri"])
    found = client.search_runs([result["mlflow"]["experiment_id"]])
    runs = [run for run in found if "flops.round" in run.data.tags]
    (training,) = [run for run in found if run not in runs]
    assert training.info.run_id == result["mlflow"]["training_run_id"]
    assert training.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {training.info.run_id}
    history = client.get_metric_history(training.info.run_id, "accuracy")
    curve = sorted((point.step, point.value) for point in history)
    assert curve == [(entry["round"], entry["accuracy"]) for entry in result["rounds"]]
    numbers = sorted(int(run.data.tags["flops.round"]) for run in runs)
    assert numbers == [entry["round"] for entry in result["rounds"]]  # each once
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_round = {entry["round"]: entry for entry in result["rounds"]}
    for run in runs:
        assert (
            run.data.metrics["accuracy"] == by_round[int(run.data.tags["flops.round"])]["accuracy"]
        )
    (model,) = client.search_logged_models([result["mlflow"]["experiment_id"]])
    assert model.source_run_id == result["mlflow"]["run_id"]

"""A federation of real processes with clusters, and its data."""

import socket

import numpy as np

LEARNERS = ("l0", "l1", "l2", "l3")
HALVES = {"c0": ("l0", "l3"), "c1": ("l1", "l2")}


def free_address():
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Tree:
    """A federation with clusters in it; `processes` ends them all."""

    def __init__(self, processes, quarters, repo):
        self.processes = processes
        self.quarters = quarters
        self.repo = repo
        self.ports = {}

    def root(self, children, *options, output="root"):
        folder = self.processes.folder / output
        return self.processes.start(
            "aggregator", self.repo, "--role", "root", "--listen", self.processes.address,
            "--min-clients", children, "--no-tracking", "--json", "--output", folder, *options,
        )  # fmt: skip

    def cluster(self, name, learners, *options, above=None, port=None):
        port = self.ports.setdefault(name, port or free_address().rpartition(":")[2])
        return self.processes.start(
            "aggregator", self.repo, "--role", "cluster", "--root", above or self.processes.address,
            "--listen", f"127.0.0.1:{port}", "--learner-id", name, "--min-clients", learners,
            "--output", self.processes.folder / name, *options,
        )  # fmt: skip

    def learners(self, names, above=None, **env):
        address = self.processes.address if above is None else f"127.0.0.1:{self.ports[above]}"
        return self.processes.start(
            "learner", self.repo, "--aggregator", address, "--learner-id", ",".join(names),
            "--data", self.quarters, "--data-tags", "{id}", env=env,
        )  # fmt: skip

    def model(self, output="root"):
        with np.load(self.processes.folder / output / "model-last.npz") as stored:
            return [stored[name] for name in sorted(stored)]

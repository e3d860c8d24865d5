"""A tree of real processes: a root and two clusters of two learners, several rounds a cycle."""

import json
import time

from tests.chaos.federation import LONGEST, STRATEGY, check_folder
from tests.trees import free_address

CLUSTERS = {"c0": (0, 1), "c1": (2, 3)}
MEMBERS = {f"l{index}": name for name, own in CLUSTERS.items() for index in own}
CYCLE = 3
BACKOFF = ["--max-backoff", 0.5]  # who waits ten seconds for somebody's return makes a test long


class Tree:
    """Its actors by name: root, c0, c1, l0 to l3.

    Args:
        data: A folder with part-0 to part-3.
        through: A proxy between the clusters and the root.
        without: An actor that the test starts itself.
    """

    def __init__(self, processes, repo, data, rounds, fit_seconds, through=None, without=""):
        self.processes, self.repo, self.data, self.rounds = processes, repo, data, rounds
        self.env = {"FIT_SECONDS": str(fit_seconds), "PIECES": "1"}
        self.above = through.address if through else processes.address
        self.addresses = {name: free_address() for name in CLUSTERS}
        self.actors = {}
        for name in self.names:
            if name != without:
                self.start(name)

    @property
    def names(self):
        return ["root", *CLUSTERS, *MEMBERS]

    def start(self, name, fault=""):
        """Start an actor, or start it again."""
        options, env = self._options(name), {**self.env, "FAULT": fault}
        env["MARK"] = str(self.processes.folder / f"mark-{name}")
        actor = "learner" if name in MEMBERS else "aggregator"
        self.actors[name] = self.processes.start(
            "tests.chaos.actor", actor, self.repo, *options, env=env
        )
        return self.actors[name]

    def _options(self, name):
        if name in MEMBERS:
            part = self.data / f"part-{name[1:]}"
            address = self.addresses[MEMBERS[name]]
            return ["--aggregator", address, "--data", part, "--learner-id", name, *BACKOFF]
        leads = [
            *("--min-clients", 2, "--no-tracking", "--resume", *STRATEGY),
            *("--output", self.processes.folder / name),
        ]
        if name == "root":
            return [*leads, "--listen", self.processes.address, "--rounds", self.rounds, "--json"]
        upward = ["--role", "cluster", "--root", self.above, "--learner-id", name, *BACKOFF]
        return [*leads, *upward, "--listen", self.addresses[name], "--rounds", CYCLE]

    def kill(self, name):
        """Kill an actor, and start it again."""
        self.actors[name].kill()
        self.actors[name].communicate()
        self.start(name)

    def safe_cycles(self):
        """How many are in a checkpoint of the root."""
        found = (self.processes.folder / "root" / "checkpoints").glob("*.json")
        return max((int(path.stem) for path in found), default=0)

    def over(self):
        return self.actors["root"].poll() is not None

    def result(self):
        """What the root says, once all have ended well and left nothing half-written."""
        begin, found = time.monotonic(), None
        for name in self.names:
            process = self.actors[name]
            left = LONGEST - (time.monotonic() - begin)
            out, _ = process.communicate(timeout=left if name == "root" else 60)
            assert process.returncode == 0, self.processes.stderr(process)
            if name == "root":
                found = json.loads(out)
        for name in ("root", *CLUSTERS):
            check_folder(self.processes.folder / name)
        assert not any(entry["failures"] for entry in found["rounds"])
        return found

    def fits(self, name):
        """How often a learner has trained."""
        return len(list(self.processes.folder.glob(f"mark-{name}-fit-*")))

    def check_fits(self, kills=0, of=""):
        """Nobody has trained a task twice but a learner that was killed, once for each time."""
        for name in MEMBERS:
            more = self.fits(name) - self.rounds * CYCLE
            assert 0 <= more <= (kills if name == of else 0), (name, more)

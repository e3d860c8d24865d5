"""The containers of a project: which image each has, how it is started, whom it needs.

A `Federation` makes a `Service` for each actor and data server. It does not know orchestrators:
these give it names, addresses and the places of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flops_fl.images.config import ENTRYPOINT, METRICS, RUNS
from flops_fl.net.address import PLAIN, WITH_TLS, Address
from flops_fl.net.identity import Role
from flops_fl.options.data import PORT as DATA_PORT
from flops_fl.options.described import variable
from flops_fl.options.manager import PORT
from flops_fl.options.told import spelled
from flops_fl.project.sla import Sla

SECRETS = "/run/secrets/flops"
"""The folder of a container's certificate, of its key and of the authority's certificate."""
FILES = {"tls_cert": "certificate.pem", "tls_key": "certificate.key", "tls_ca": "authority.pem"}
"""The names of these files by their options."""
PATIENCE = 3600
"""Seconds that an actor waits for the others: an image may have to be pulled first."""
OPEN = "0.0.0.0"
METRICS_PORT = Address.parse(METRICS).port


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A container."""

    name: str
    image: str
    entrypoint: tuple[str, ...] = ENTRYPOINT
    """The image's own, unless a program beside its actor is started."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    role: Role
    """What it is, and so what its certificate must be for."""
    hosts: tuple[str, ...] = ()
    """The names by which others dial it."""
    port: int | None = None
    """Where it listens for others."""
    keeps: bool = False
    """Whether what it writes in the folder `RUNS` must outlive it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """A project that is to be started somewhere."""

    project: str
    """Its name: lower-case letters, digits and hyphens."""
    sla: Sla
    images: Mapping[str, str]
    """Images by role."""
    commit: str
    """Of the repository; a run of another commit has another folder."""
    learners: int
    """Of each cluster; all if there are no clusters."""
    clusters: int = 0
    has_data: bool = True
    """Whether learners read data servers; else the repository brings its own data."""
    secure: bool = True
    """Whether all talk with TLS, by certificates."""
    stay: bool = False
    """Whether learners wait for another project when one has ended."""
    secrets: str = SECRETS
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Where services are reached that are not reached by their name."""

    @property
    def leader(self) -> str:
        """The name of the aggregator that is no cluster's."""
        return "root" if self.clusters else "aggregator"

    @property
    def groups(self) -> dict[str, range]:
        """The learners' numbers, from 1, below each aggregator."""
        size = self.learners
        if not self.clusters:
            return {self.leader: range(1, size + 1)}
        return {
            f"cluster{each + 1}": range(each * size + 1, (each + 1) * size + 1)
            for each in range(self.clusters)
        }

    def services(self) -> list[Service]:
        """All: aggregators first, then each learner behind its data server."""
        found = self.aggregators()
        for aggregator, numbers in self.groups.items():
            for number in numbers:
                data = f"data{number}"
                found += [self.data(data)] if self.has_data else []
                found.append(self.learner(f"learner{number}", aggregator, self._host(data)))
        return found

    def aggregators(self) -> list[Service]:
        """The root or only aggregator, then those of clusters."""
        clusters = [self._aggregator(name, cluster=True) for name in self.groups if self.clusters]
        return [self._aggregator(self.leader, cluster=False), *clusters]

    def learner(self, name: str, aggregator: str, data: str) -> Service:
        """A learner below an aggregator, which reads from the data server at the host `data`."""
        server = f"{WITH_TLS if self.secure else PLAIN}://{Address(data, DATA_PORT)}"
        read = {"data": server, "data_tags": self.sla.training.data_tags or None}
        options = {
            "project_id": self.project,
            "aggregator": Address(self._host(aggregator), PORT),
            "learner_id": name,
            **(read if self.has_data else {}),
            "connect_timeout": PATIENCE,
            "stay": self.stay,
        }
        return self._service(name, "learner", options)

    def data(self, name: str) -> Service:
        """A data server: the learner's image has all that it needs."""
        options = {"dir_": f"{RUNS}/data", "listen": f"{OPEN}:{DATA_PORT}"}
        return self._service(
            name, "data", options,
            entrypoint=("python", "-m", "flops_fl", "data", "serve"), port=DATA_PORT, keeps=True,
        )  # fmt: skip

    def _aggregator(self, name: str, *, cluster: bool) -> Service:
        leading = self.sla.leading_a_cluster() if cluster else self.sla.leading(self.clusters)
        options = {
            "project_id": self.project,
            **leading,
            "listen": f"{OPEN}:{PORT}",
            "model_flavor": self.sla.ml_model_flavor,
            "output": f"{RUNS}/{self.commit}",
            "resume": True,  # where there is no run yet, one begins
            "join_timeout": PATIENCE,
        }
        if cluster:
            root = Address(self._host(self.leader), PORT)
            options |= {"root": root, "learner_id": name, "connect_timeout": PATIENCE}
        role: Role = "cluster" if cluster else "aggregator"
        return self._service(name, role, options, port=PORT, keeps=True)

    def _service(self, name: str, role: Role, options: Mapping[str, Any], **more: Any) -> Service:
        image = self.images["learner" if role in ("learner", "data") else "aggregator"]
        environment = {"FLOPS_METRICS": f"{OPEN}:{METRICS_PORT}"}
        if self.secure:
            files = {option: f"{self.secrets}/{file}" for option, file in FILES.items()}
            environment |= {variable(option): file for option, file in files.items()}
        hosts = (self._host(name), "localhost", "127.0.0.1") if "port" in more else ()
        said = {name: value for name, value in options.items() if value is not None}
        arguments = tuple(spelled({**said, "insecure": not self.secure}))
        return Service(
            name=name, image=image, arguments=arguments, environment=environment, role=role,
            hosts=hosts, **more,
        )  # fmt: skip

    def _host(self, name: str) -> str:
        return self.hosts.get(name, name)

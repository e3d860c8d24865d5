"""A federation as an SLA for Oakestra, which places its services on edge nodes.

The fields are those of https://www.oakestra.io/docs/reference/app-sla, with the names and types of
Oakestra's own schema (root_orchestrator/system-manager-python/sla/schema.py in
https://github.com/oakestra/oakestra): it is `vcpus`, not `vcpu`, and numbers are whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flops_fl.images.config import RUNS, USER
from flops_fl.options.data import PORT as DATA_PORT
from flops_fl.project.services import Federation, Service
from flops_fl.project.written import Written, about_data, as_json, instructions, later, putting

FILE = "sla.json"
VERSION = "v2.0"
NAMESPACE = "flops"
LETTERS = 10
"""Of a name, which has letters and digits only."""
DRIVER = "csi.oakestra.io/hostpath"
FOLDER = "/mnt/oakestra/hostpath"
"""Where that driver has its folders on a node."""
MEMORY, VCPUS = 500, 1
"""What is asked for where the constraints say nothing, in MB and cores."""
NOTES = (
    "Oakestra's SLA gives no certificates to containers, so all talk without TLS, as in FLOps: use "
    "it in a network that you trust",
)


def oakestra(federation: Federation) -> Written:
    """The files by name, and what Oakestra cannot do."""
    federation = replace(federation, secure=False)
    names = [service.name for service in federation.services()]
    federation = replace(federation, hosts=dict(zip(names, _addresses(federation), strict=False)))
    application = {
        "applicationID": "",
        "application_name": _short(federation.project),
        "application_namespace": NAMESPACE,
        "application_desc": f"Federated training of {federation.project}",
        "microservices": [_microservice(each, federation) for each in federation.services()],
    }
    document = {
        "sla_version": VERSION,
        "customerID": federation.sla.customer_id,
        "applications": [application],
    }
    return Written({FILE: as_json(document), "README.md": _readme(federation)}, NOTES)


def _microservice(service: Service, federation: Federation) -> dict[str, Any]:
    needs = federation.sla.resource_constraints
    said: dict[str, Any] = {
        "microserviceID": "",
        "microservice_name": service.name,
        "microservice_namespace": NAMESPACE,
        "virtualization": "container",
        "code": service.image,
        # It takes the place of the image's own entry point, too.
        "cmd": [*service.entrypoint, *service.arguments],
        "environment": [f"{name}={value}" for name, value in service.environment.items()],
        "memory": (needs and needs.memory) or MEMORY,
        "vcpus": (needs and needs.vcpus) or VCPUS,
        "storage": (needs and needs.storage) or 0,
        "one_shot": service.role != "data",  # what has ended well is not started again
        "constraints": [],
    }
    if service.port:
        said["addresses"] = {"rr_ip": federation.hosts[service.name]}
    if service.role == "data":
        said["port"] = f"{DATA_PORT}:{DATA_PORT}"
    if service.keeps:
        volume = {
            "volume_id": f"{federation.project}-{service.name}",
            "csi_driver": DRIVER,
            "mount_path": RUNS,
            "config": {"host_path": _folder(service, federation)},
        }
        said["volumes"] = [volume]
    return said


def _addresses(federation: Federation) -> Iterator[str]:
    """Addresses 10.30.x.y, which Oakestra keeps for services; the project's name says which."""
    digest = hashlib.sha256(federation.project.encode()).digest()
    start = int.from_bytes(digest[:2], "big")
    for number in range(254 * 254):
        high, low = divmod((start + number) % (254 * 254), 254)
        yield f"10.30.{high + 1}.{low + 1}"


def _short(project: str) -> str:
    return re.sub("[^a-z0-9]", "", project)[:LETTERS] or "project"


def _folder(service: Service, federation: Federation) -> str:
    return f"{federation.project}-{service.name}"


def _deploy(kind: str, count: int) -> str:
    """A command that starts all services of a kind: Oakestra's takes one."""
    return f"for n in $(seq {count}); do oak service deploy {kind}$n; done"


def _readme(federation: Federation) -> str:
    kept = {each.name: _folder(each, federation) for each in federation.services() if each.keeps}
    folders = " ".join(kept.values())
    leader, learners = federation.leader, sum(map(len, federation.groups.values()))
    shared = " A node can have one data server, since it takes the node's port."
    return instructions(
        federation,
        "Oakestra 0.4.400 or newer",
        [
            f"(cd {FOLDER} && mkdir -p {folders} && chown {USER} {folders})  # on the nodes",
            "oak config set root_orchestrator_address ROOT",
            "oak config credentials NAME  # asks for the password",
            f"oak application create {FILE}",
            *putting(
                federation,
                f"NODE:{DATA_PORT}",
                _deploy("data", learners),
                "oak service inspect data1  # until it runs; its HOST IP is NODE",
            ),
            *(f"oak service deploy {each.name}" for each in federation.aggregators()),
            _deploy("learner", learners),
            f"oak service logs {leader} 0 --follow",
            f"oak service inspect {leader}  # its HOST IP is NODE",
            f"scp -r NODE:{FOLDER}/{kept[leader]}/{federation.commit} run",
            f"oak application delete {_short(federation.project)}",
        ],
        [
            "`oak` is [Oakestra's program](https://www.oakestra.io/docs). It finds services by "
            "their names for an administrator. Where another application has a service of the same "
            "name, give the ID that `oak service show` prints.",
            "Without `oak`: `POST http://ROOT:10000/api/auth/login` with "
            '`{"username": "NAME", "password": "..."}` gives a token, for the header '
            "`Authorization: Bearer TOKEN` of all that follows. `POST /api/application/` takes "
            f"{FILE}, `POST /api/service/ID/instance` deploys a service, and `GET /api/service/ID` "
            "has its state and its log.",
            *about_data(federation, "Learner N reads from dataN: put its data there, too."),
            f"Volumes need the driver `{DRIVER}` on a node, whose folders are in `{FOLDER}`. They "
            "must belong to the user of the containers, as above, and stay when the application is "
            "deleted.",
            f"To keep {'services where their data are, and ' if federation.has_data else ''}the "
            "aggregator where its run is, give constraints such as "
            '`{"type": "direct", "node": "NODE", "cluster": "CLUSTER"}`.'
            + (shared if federation.has_data else ""),
            "Services have addresses of their own (`rr_ip`). If Oakestra refuses one, it is taken: "
            "replace it everywhere in the file.",
            f"All talk without TLS. Oakestra shows a service's environment to whoever sees the "
            f"service, so give secrets to `{leader}` only there, if at all: `FLOPS_NOTIFY=...`.",
            *later(federation),
        ],
    )

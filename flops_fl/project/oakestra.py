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


def _readme(federation: Federation) -> str:
    kept = [service for service in federation.services() if service.keeps]
    folders = " ".join(_folder(service, federation) for service in kept)
    leader = federation.leader
    return instructions(
        federation,
        "Oakestra 0.4.400 or newer",
        [
            f"(cd {FOLDER} && mkdir -p {folders} && chown {USER} {folders})  # on the nodes",
            "curl http://ROOT:10000/api/application -H 'Authorization: Bearer TOKEN' \\",
            f"    -H 'Content-Type: application/json' -d @{FILE}",
            *putting(federation, f"NODE:{DATA_PORT}"),
        ],
        [
            *about_data(
                federation,
                "Learner N reads from dataN: deploy the data servers first, and put data on them.",
            ),
            f"Volumes need the driver `{DRIVER}` on a node, whose folders are in `{FOLDER}`. They "
            "must belong to the user of the containers, as above.",
            "To keep services where their data are, and the aggregator where its run is, give them "
            'constraints such as `{"type": "direct", "node": "NODE", "cluster": "CLUSTER"}`. '
            "A node can have one data server, since it takes the node's port.",
            "Services have addresses of their own (`rr_ip`). If Oakestra refuses one, it is taken: "
            "replace it everywhere in the file.",
            f"All talk without TLS. Oakestra shows a service's environment to whoever sees the "
            f"service, so give secrets to `{leader}` only there, if at all: `FLOPS_NOTIFY=...`.",
            *later(federation),
        ],
    )

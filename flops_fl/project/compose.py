"""A federation as a file for Docker Compose, which runs it on one machine.

The format is https://github.com/compose-spec/compose-spec. `env_file` with `required` needs Docker
Compose 2.24.
"""

from __future__ import annotations

from typing import Any

from flops_fl.images.config import HEALTH, RUNS
from flops_fl.options.data import PORT as DATA_PORT
from flops_fl.project.certificates import AUTHORITY, SCRIPT, certificate, key, script
from flops_fl.project.services import FILES, METRICS_PORT, Federation, Service
from flops_fl.project.written import (
    VARIABLES,
    Written,
    about_data,
    as_yaml,
    instructions,
    later,
    putting,
)

FILE = "compose.yaml"
LOOPBACK = "127.0.0.1"

# Compose mounts the files themselves, with the modes that they have. Nobody else gets into keys.
_READABLE = "chmod 644 keys/*.key  # for the containers' user; keys itself is closed to others\n"


def compose(federation: Federation) -> Written:
    """The files by name, and what to do with them."""
    services = federation.services()
    document = {
        "name": federation.project,
        "services": {each.name: _service(each, federation) for each in services},
        "volumes": {each.name: {} for each in services if each.keeps},
    }
    files = {}
    if federation.secure:
        document["secrets"] = {
            name: {"file": f"./{path}"}
            for each in services
            for name, path in _secrets(each).items()
        }
        files[SCRIPT] = script(services, _READABLE)
    text = as_yaml(_literal(document))
    return Written({FILE: text, "README.md": _readme(federation), **files})


def _service(service: Service, federation: Federation) -> dict[str, Any]:
    said: dict[str, Any] = {"image": service.image}
    platforms = federation.sla.supported_platforms
    if len(platforms) == 1:
        said["platform"] = platforms[0]
    if service.role == "data":
        said["entrypoint"] = [*service.entrypoint]
    said |= {"command": [*service.arguments], "environment": {**service.environment}}
    if service.role in ("aggregator", "cluster"):
        said["env_file"] = [{"path": f"{service.name}.env", "required": False}]
    if federation.secure:
        names = zip(_secrets(service), FILES.values(), strict=True)
        said["secrets"] = [
            {"source": name, "target": f"{federation.secrets}/{file}"} for name, file in names
        ]
    if service.keeps:
        said["volumes"] = [f"{service.name}:{RUNS}"]
    if port := _published(service, federation):
        said["ports"] = [port]
    said |= {
        "healthcheck": {
            "test": ["CMD", "python", HEALTH, "/readyz"],
            "interval": "30s",
            "timeout": "10s",
            "start_period": "60s",
        },
        "restart": "unless-stopped" if service.role == "data" else "on-failure",
        "stop_grace_period": "2m",  # MLflow gets a minute, see --tracking-timeout
    }
    if service.role != "data" and (least := _least(federation)):
        said["deploy"] = {"resources": {"reservations": least}}
    return said


def _secrets(service: Service) -> dict[str, str]:
    """The files that a service needs by the names of secrets, in the order of `FILES`."""
    name = service.name
    return {
        f"{name}.pem": certificate(name),
        f"{name}.key": key(name),
        "authority.pem": AUTHORITY,
    }


def _published(service: Service, federation: Federation) -> str:
    """The port by which this machine reaches a service."""
    if service.name == federation.leader:
        return f"{LOOPBACK}:{METRICS_PORT}:{METRICS_PORT}"
    if service.role == "data":
        return f"{LOOPBACK}:{DATA_PORT + int(service.name.removeprefix('data')) - 1}:{DATA_PORT}"
    return ""


def _least(federation: Federation) -> dict[str, str]:
    """What Docker is to keep free: FLOps' constraints say what a container needs at least."""
    needs = federation.sla.resource_constraints
    if needs is None:
        return {}
    said = {
        "cpus": str(needs.vcpus) if needs.vcpus else "",
        "memory": f"{needs.memory}M" if needs.memory else "",
    }
    return {name: value for name, value in said.items() if value}


def _literal(value: Any) -> Any:
    """The value with each dollar sign doubled, since Compose would take it for a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {name: _literal(each) for name, each in value.items()}
    return [_literal(each) for each in value] if isinstance(value, list) else value


def _readme(federation: Federation) -> str:
    leader = federation.leader
    secure = [f"sh {SCRIPT}"] if federation.secure else []
    data = [service.name for service in federation.services() if service.role == "data"]
    kept = "runs and data" if data else "runs"
    run = f"{leader}:{RUNS}/{federation.commit}"
    return instructions(
        federation,
        "Docker Compose 2.24 or newer",
        [
            *secure,
            *putting(federation, "localhost:PORT", f"docker compose up -d {' '.join(data)}"),
            "docker compose up -d",
            f"docker compose logs -f {leader}",
            f"docker compose cp {run} run",
            "docker compose down",
        ],
        [
            *about_data(
                federation,
                f"Learner N reads from dataN, which has port {DATA_PORT - 1} + N of this machine.",
            ),
            f"<http://{LOOPBACK}:{METRICS_PORT}/> shows the run while it lasts.",
            f"`{leader}.env` may have variables that are nobody's business: {VARIABLES}. "
            "Make it with mode 600.",
            f"`down` keeps the volumes, which have {kept}; `down -v` drops them.",
            "What ends with an error is started again and goes on. What has ended well stays so. "
            "After a restart of the machine, `docker compose up -d` goes on.",
            "Ports that are taken can be changed in a `compose.override.yaml`.",
            *later(federation),
        ],
    )

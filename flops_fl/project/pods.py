"""The pods of a federation in Kubernetes: what they may do, their probes, what they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from flops_fl.images.config import RUNS, USER
from flops_fl.options.described import variable
from flops_fl.project.services import OPEN, Federation, Service

Object: TypeAlias = dict[str, Any]

POD = "POD_NAME"
RUN = "runs"


def template(
    name: str, restart: str, containers: Sequence[Object], volumes: Sequence[Object],
    federation: Federation,
) -> Object:  # fmt: skip
    """What a Job or a StatefulSet makes its pods from; they are spread over the nodes."""
    spec = pod_spec(restart, containers, volumes, federation)
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels(name)},
        }
    ]
    return {"metadata": {"labels": labels(name)}, "spec": spec}


def pod_spec(
    restart: str, containers: Sequence[Object], volumes: Sequence[Object], federation: Federation
) -> Object:
    """A pod's spec, on a node with a processor that the project supports."""
    architectures = [each.partition("/")[2] for each in federation.sla.supported_platforms]
    term = {"key": "kubernetes.io/arch", "operator": "In", "values": architectures}
    fits = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    return {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 120,  # MLflow gets a minute, see --tracking-timeout
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a service flops-... would be variables FLOPS_...
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": fits}},
        "containers": [*containers],
        "volumes": [*volumes],
    }


def container_of(service: Service, federation: Federation, metrics: int) -> Object:
    """A service as a container, which says at the port `metrics` how it is."""
    said: Object = {"name": service.name, "image": service.image}
    if service.role == "data":
        said["command"] = [*service.entrypoint]
    values = {**service.environment, variable("metrics"): f"{OPEN}:{metrics}"}
    said |= {
        "args": [_literal(word) for word in service.arguments],
        "env": [
            {"name": POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *({"name": name, "value": _literal(value)} for name, value in values.items()),
        ],
        "ports": [{"name": f"{service.name}-web"[:15].rstrip("-"), "containerPort": metrics}],
        # The first start may build a large model; a fit may hold Python's lock for minutes.
        "startupProbe": _probe("/healthz", metrics, period=10, failures=60),
        "livenessProbe": _probe("/healthz", metrics, period=30, failures=20),
        "readinessProbe": _probe("/readyz", metrics, period=10, failures=3),
        "securityContext": confined(),
        "volumeMounts": [{"name": RUN, "mountPath": RUNS}] if service.keeps else [],
    }
    needs = federation.sla.resource_constraints
    if service.role != "data" and needs:
        least = {
            "cpu": str(needs.vcpus or ""),
            "memory": f"{needs.memory}M" if needs.memory else "",
        }
        # FLOps' constraints say what a container needs at least, so there are no limits.
        said["resources"] = {"requests": {name: value for name, value in least.items() if value}}
    return said


def _probe(path: str, port: int, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 10,
        "failureThreshold": failures,
    }


def confined() -> Object:
    """What a container may not do."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def labels(name: str) -> Object:
    """By which the objects of a name are found."""
    return {"app.kubernetes.io/name": "flops-fl", "app.kubernetes.io/instance": name}


def _literal(text: str) -> str:
    """The text as Kubernetes leaves it, which takes $(NAME) for a variable; ours is one."""
    return text.replace("$(", "$$(").replace(f"$$({POD})", f"$({POD})")

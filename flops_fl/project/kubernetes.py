"""A federation as objects for Kubernetes: a Job for each aggregator, a StatefulSet for learners.

An aggregator is a Job: it ends with its training, and if it fails it is started again with the same
volume. Learners keep their names and data, so they are a StatefulSet: each pod has a learner
and the data server that it reads. The pods meet the restricted Pod Security Standard. The fields
are those of https://kubernetes.io/docs/reference/kubernetes-api/; `podFailurePolicy` needs 1.31.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flops_fl.images.config import RUNS
from flops_fl.options.data import PORT as DATA_PORT
from flops_fl.options.manager import PORT
from flops_fl.project.certificates import AUTHORITY, SCRIPT, certificate, key, script
from flops_fl.project.pods import (
    POD,
    RUN,
    Object,
    confined,
    container_of,
    labels,
    pod_spec,
    template,
)
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

FILE, RESULTS = "federation.yaml", "results.yaml"
ROOM = 5120  # MB that a volume asks for, if the constraints do not ask for more
CERTIFICATES = "certificates"
CERTIFICATE, KEY, CA = FILES.values()
WRONG = [2, 3, 5]
"""Exit codes that another start does not cure: wrong options, wrong code, refused."""

_PUT = """put() {
    name="$1"
    shift
    kubectl create secret generic "$name" "$@" --dry-run=client -o yaml |
        kubectl apply --server-side -f -  # larger ones than without it
}
"""


def kubernetes(federation: Federation) -> Written:
    """The files by name."""
    project = federation.project
    hosts = {name: f"{project}-{name}" for name in (federation.leader, *federation.groups)}
    # A StatefulSet starts learners that have ended again, so they stay.
    federation = replace(federation, stay=True, hosts=hosts)
    files = {
        FILE: as_yaml(*_objects(federation)),
        RESULTS: as_yaml(_results(federation)),
        "README.md": _readme(federation),
    }
    if federation.secure:
        files[SCRIPT] = script(_enrolled(federation), "".join(_secrets(federation)))
    return Written(files)


def _objects(federation: Federation) -> Iterator[Object]:
    for service in federation.aggregators():
        name = federation.hosts[service.name]
        yield _head("v1", "Service", name, selector=labels(name), ports=[_port("grpc", PORT)])
        yield _head("v1", "PersistentVolumeClaim", name, **_claim(federation))
        yield _job(name, service, federation)
    for aggregator in federation.groups:
        name = _pods(federation, aggregator)
        yield _head(
            "v1", "Service", name,
            clusterIP="None",
            publishNotReadyAddresses=True,  # devices put data before the learner has joined
            selector=labels(name),
            ports=[_port("data", DATA_PORT)] if federation.has_data else [],
        )  # fmt: skip
        yield _learners(name, aggregator, federation)


def _job(name: str, service: Service, federation: Federation) -> Object:
    container = container_of(service, federation, METRICS_PORT)
    container["ports"].append({"name": "grpc", "containerPort": PORT})
    container["envFrom"] = [{"secretRef": {"name": f"{name}-env", "optional": True}}]
    volumes = [{"name": RUN, "persistentVolumeClaim": {"claimName": name}}]
    if federation.secure:
        volumes.append(_secret(name))
        container["volumeMounts"].append(_certificates(federation))
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": WRONG}},
    ]
    made = template(name, "Never", [container], volumes, federation)
    return _head(
        "batch/v1", "Job", name,
        backoffLimit=100, podFailurePolicy={"rules": rules}, template=made,
    )  # fmt: skip


def _learners(name: str, aggregator: str, federation: Federation) -> Object:
    own = federation.learner(f"$({POD})", aggregator, "127.0.0.1")
    containers = [container_of(replace(own, name="learner"), federation, METRICS_PORT)]
    more = {}
    if federation.has_data:
        data = container_of(federation.data("data"), federation, METRICS_PORT + 1)
        data["ports"].append({"name": "data", "containerPort": DATA_PORT})
        containers.insert(0, data)
        claim = {"metadata": {"name": RUN}, "spec": _claim(federation)}
        more["volumeClaimTemplates"] = [claim]
    volumes = []
    if federation.secure:
        items = []
        for each in _of_pods(name, federation):
            pod = each.name.removesuffix("-data")
            for entry, file in (
                (f"{each.name}.pem", CERTIFICATE),
                (f"{each.name}.key", KEY),
                (CA, CA),
            ):
                items.append({"key": entry, "path": f"{pod}/{each.role}/{file}"})
        volumes = [_secret(name, items=items)]
        for container in containers:  # sees only what is its own
            mount = _certificates(federation, f"$({POD})/{container['name']}")
            container["volumeMounts"].append(mount)
    return _head(
        "apps/v1", "StatefulSet", name,
        serviceName=name,
        replicas=federation.learners,
        podManagementPolicy="Parallel",
        selector={"matchLabels": labels(name)},
        template=template(name, "Always", containers, volumes, federation),
        **more,
    )  # fmt: skip


def _results(federation: Federation) -> Object:
    """A pod that does nothing, from which the results can be copied."""
    leader = federation.leader
    name = federation.hosts[leader]
    container = {
        "name": "results",
        "image": federation.images["aggregator"],
        "command": ["sleep", "3600"],
        "securityContext": confined(),
        "volumeMounts": [{"name": RUN, "mountPath": RUNS}],
    }
    volumes = [{"name": RUN, "persistentVolumeClaim": {"claimName": name}}]
    pod = f"{federation.project}-results"
    return _head("v1", "Pod", pod, **pod_spec("Never", [container], volumes, federation))


def _claim(federation: Federation) -> Object:
    needs = federation.sla.resource_constraints
    room = max(ROOM, (needs and needs.storage) or 0)
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{room}M"}},
    }


def _secret(name: str, **more: Any) -> Object:
    said = {"secretName": f"{name}-{CERTIFICATES}", "defaultMode": 0o440, **more}
    return {"name": CERTIFICATES, "secret": said}


def _certificates(federation: Federation, folder: str = "") -> Object:
    said = {"name": CERTIFICATES, "mountPath": federation.secrets, "readOnly": True}
    return said | ({"subPathExpr": folder} if folder else {})


def _enrolled(federation: Federation) -> list[Service]:
    """All that have a certificate, by the name that it has as a file."""
    found = federation.aggregators()
    for aggregator in federation.groups:
        found += _of_pods(_pods(federation, aggregator), federation)
    return found


def _of_pods(name: str, federation: Federation) -> Iterator[Service]:
    """The learner and the data server of each pod of a StatefulSet, as certificates name them."""
    for number in range(federation.learners):
        pod = f"{name}-{number}"
        yield federation.learner(pod, federation.leader, "localhost")
        if federation.has_data:
            server = f"{pod}-data"
            yield replace(federation, hosts={server: f"{pod}.{name}"}).data(server)


def _secrets(federation: Federation) -> Iterator[str]:
    """Lines of a script that put certificates into the cluster."""
    yield _PUT
    for service in federation.aggregators():
        files = {CERTIFICATE: certificate(service.name), KEY: key(service.name), CA: AUTHORITY}
        yield _put(federation.hosts[service.name], files)
    for aggregator in federation.groups:
        name = _pods(federation, aggregator)
        files = {CA: AUTHORITY}
        for each in _of_pods(name, federation):
            files |= {
                f"{each.name}.pem": certificate(each.name),
                f"{each.name}.key": key(each.name),
            }
        yield _put(name, files)


def _put(name: str, files: dict[str, str]) -> str:
    words = " \\\n".join(f"    --from-file={entry}={file}" for entry, file in files.items())
    return f"put {name}-{CERTIFICATES} \\\n{words}\n"


def _pods(federation: Federation, aggregator: str) -> str:
    """The name of the StatefulSet of an aggregator's learners."""
    of = f"{federation.project}-{aggregator}" if federation.clusters else federation.project
    return f"{of}-learner"


def _head(version: str, kind: str, name: str, **spec: Any) -> Object:
    metadata = {"name": name, "labels": labels(name)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _port(name: str, port: int) -> Object:
    return {"name": name, "port": port, "targetPort": name}


def _readme(federation: Federation) -> str:
    leader = federation.hosts[federation.leader]
    secure = [f"sh {SCRIPT}"] if federation.secure else []
    first = f"{_pods(federation, next(iter(federation.groups)))}-0"
    stay = f" Learners' data stay, in the claims `{RUN}-{first}` and so on."
    stay = stay if federation.has_data else ""
    pod, until = f"{federation.project}-results", "--for=jsonpath='{.status.phase}'=Running"
    return instructions(
        federation,
        "Kubernetes 1.31 or newer",
        [
            *secure,
            f"kubectl apply -f {FILE}",
            *putting(
                federation,
                f"localhost:{DATA_PORT}",
                f"kubectl wait {until} --timeout=10m pod/{first}",
                f"kubectl port-forward pod/{first} {DATA_PORT} &",
            ),
            f"kubectl logs -f job/{leader}",
            f"kubectl wait --for=condition=complete --timeout=-1s job/{leader}",
            f"kubectl apply -f {RESULTS}",
            f"kubectl wait --for=condition=ready pod/{pod}",
            f"kubectl cp {pod}:{RUNS}/{federation.commit} run",
            f"kubectl delete -f {RESULTS} -f {FILE}",
        ],
        [
            *about_data(
                federation,
                f"Each learner's pod has a data server at port {DATA_PORT}: put its data there, as "
                "for the first.",
            ),
            f"`kubectl port-forward job/{leader} {METRICS_PORT}` shows the run at "
            f"<http://127.0.0.1:{METRICS_PORT}/> while it lasts.",
            "A private registry: `kubectl patch serviceaccount default -p "
            '\'{"imagePullSecrets": [{"name": "NAME"}]}\'`.',
            f"The secret `{leader}-env` may have variables that are nobody's business: "
            f"{VARIABLES}. `kubectl create secret generic {leader}-env --from-env-file=FILE` makes "
            "it.",
            "An aggregator that fails is started again and goes on, unless its exit code is one of "
            f"{', '.join(map(str, WRONG))}: then the job has failed, and its log says why. "
            "Learners stay for the next project. A job cannot be changed: delete it, and apply the "
            "file anew; the volumes stay.",
            f"The last command drops the run's volume, too.{stay}",
            "A volume may tie a pod to a node: that depends on the storage class.",
            *later(federation),
        ],
    )

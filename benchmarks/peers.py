"""The peers, each in its own processes: Flower's start_server and raw TCP.

python -m benchmarks.peers ROLE SPEC
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.harness import finish, free_port, start, together, wait_for
from benchmarks.ours import parameters

CHUNK = 4 << 20


def run(kind: str, learners: int, nbytes: int, rounds: int, **more: Any) -> dict[str, Any]:
    """Run the federation of a peer, `flower` or `tcp`; return the server's figures."""
    spec = {"learners": learners, "nbytes": nbytes, "rounds": rounds, "port": free_port(), **more}
    text = json.dumps(spec)
    running = [start("benchmarks.peers", f"{kind}-server", text)]
    with together(running):
        wait_for(spec["port"])
        running += [start("benchmarks.peers", f"{kind}-client", text) for _ in range(learners)]
        figures: dict[str, Any] = finish(running[0])
        return figures


# -- Flower's start_server and start_client (deprecated, and the fastest that Flower has) --------


def flower_server(spec: dict[str, Any]) -> list[float]:
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerConfig, start_server
    from flwr.server.strategy import FedAvg

    marks: list[float] = []

    class Timed(FedAvg):  # type: ignore[misc]
        def configure_fit(self, *arguments: Any, **options: Any) -> Any:
            marks.append(time.monotonic())
            return super().configure_fit(*arguments, **options)

        def aggregate_evaluate(self, *arguments: Any, **options: Any) -> Any:
            result = super().aggregate_evaluate(*arguments, **options)
            marks.append(time.monotonic())
            return result

    count = spec["learners"]
    strategy = Timed(
        min_fit_clients=count,
        min_evaluate_clients=count,
        min_available_clients=count,
        initial_parameters=ndarrays_to_parameters(parameters(spec)),
    )
    start_server(
        server_address=f"127.0.0.1:{spec['port']}",
        config=ServerConfig(num_rounds=spec["rounds"]),
        strategy=strategy,
        grpc_max_message_length=2**31 - 1,
    )
    return [end - begin for begin, end in zip(marks[::2], marks[1::2], strict=True)]


def flower_client(spec: dict[str, Any]) -> None:
    from flwr.client import NumPyClient, start_client

    class Noop(NumPyClient):  # type: ignore[misc]
        def fit(self, parameters: Any, config: Any) -> Any:
            time.sleep(spec.get("sleep", 0.0))
            return parameters, 10, {}

        def evaluate(self, parameters: Any, config: Any) -> Any:
            return 0.5, 10, {"accuracy": 0.5}

    start_client(
        server_address=f"127.0.0.1:{spec['port']}",
        client=Noop().to_client(),
        insecure=True,
        grpc_max_message_length=2**31 - 1,
    )


# -- lower bound: raw TCP sends the same bytes once down and once up ------------------------------


def tcp_server(spec: dict[str, Any]) -> list[float]:
    payload = memoryview(bytes(spec["nbytes"]))
    buffers = [bytearray(CHUNK) for _ in range(spec["learners"])]
    with socket.create_server(("127.0.0.1", spec["port"])) as listener:
        # The first connection was the harness, which checked that the server listens.
        probe, _ = listener.accept()
        probe.close()
        links = [listener.accept()[0] for _ in range(spec["learners"])]

        def exchange(link: socket.socket, buffer: bytearray) -> None:
            link.sendall(payload)
            receive(link, len(payload), buffer)

        times = []
        for _ in range(spec["rounds"]):
            begin = time.monotonic()
            threads = [
                threading.Thread(target=exchange, args=pair)
                for pair in zip(links, buffers, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            times.append(time.monotonic() - begin)
        for link in links:
            link.close()
    return times


def tcp_client(spec: dict[str, Any]) -> None:
    payload, buffer = memoryview(bytes(spec["nbytes"])), bytearray(CHUNK)
    with socket.create_connection(("127.0.0.1", spec["port"])) as link:
        while receive(link, len(payload), buffer):
            link.sendall(payload)


def receive(link: socket.socket, count: int, buffer: bytearray) -> bool:
    left = count
    while left:
        got = link.recv_into(buffer, min(left, len(buffer)))
        if not got:
            return False
        left -= got
    return True


def main() -> None:
    warnings.simplefilter("ignore")
    role, spec = sys.argv[1].replace("-", "_"), json.loads(sys.argv[2])
    np.seterr(all="ignore")
    rounds = globals()[role](spec)
    if rounds is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sys.stdout.write(json.dumps({"rounds": rounds, "peak": peak}) + "\n")


if __name__ == "__main__":
    main()

"""A stock Flower server, without code of flops-fl. Arguments: address, learners, a strategy.

A strategy is FedAvg, another class of `flwr.server.strategy`, or a word of `OTHERS`. At the
end it prints the L2 norms of the updates, the norm bits, and the last accuracy.
"""

import sys
import time

import flwr
import numpy as np
from flwr.common import (
    GetPropertiesIns,
    Parameters,
    ReconnectIns,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import strategy as classes

address, number = sys.argv[1], int(sys.argv[2])
name = sys.argv[3] if len(sys.argv) > 3 else "FedAvg"


def mean(pairs):
    return {"accuracy": sum(n * m["accuracy"] for n, m in pairs) / sum(n for n, _ in pairs)}


def told(server_round):
    return {"server_round": server_round, "learners": number}


COMMON = {
    "min_fit_clients": number,
    "min_evaluate_clients": number,
    "min_available_clients": number,
    "evaluate_metrics_aggregation_fn": mean,
}


class Watching(classes.FedAvg):
    """Says how far each update is from the model that it began with, and its norm bit."""

    def configure_fit(self, server_round, parameters, client_manager):
        self.sent = parameters_to_ndarrays(parameters)
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        for _, res in results:
            pairs = zip(parameters_to_ndarrays(res.parameters), self.sent, strict=True)
            norm = np.sqrt(sum(((x - y) ** 2).sum() for x, y in pairs))
            print("norm", norm, res.metrics.get("norm_bit"))
        for failure in failures:
            print("failure", failure[1].status.message, flush=True)
        return super().aggregate_fit(server_round, results, failures)


class Curious(Watching):
    """Asks clients for what they are, and sends each away for a second in round 2."""

    gone = frozenset()

    def _here(self, client_manager):
        client_manager.wait_for(number)
        return list(client_manager.all().values())

    def configure_fit(self, server_round, parameters, client_manager):
        for client in self._here(client_manager):
            res = client.get_properties(GetPropertiesIns({"what": 1}), None, server_round)
            print("properties", res.status.code.name, res.properties)
        if server_round == 2:
            for client in self._here(client_manager):
                print("away", client.reconnect(ReconnectIns(seconds=1), None, 2).reason)
                self.gone |= {client.cid}
            while self.gone & set(client_manager.all()):
                time.sleep(0.05)
        return super().configure_fit(server_round, parameters, client_manager)


class Wrong(Watching):
    """Sends clients something else than the model."""

    def __init__(self, parameters):
        super().__init__(**COMMON)
        self.other = parameters

    def configure_fit(self, server_round, parameters, client_manager):
        chosen = super().configure_fit(server_round, parameters, client_manager)
        for _, ins in chosen:
            ins.parameters = self.other
        return chosen


def private(wrapper, **options):
    return wrapper(Watching(**COMMON), noise_multiplier=0, num_sampled_clients=number, **options)


OTHERS = {
    "Fixed": lambda: private(classes.DifferentialPrivacyClientSideFixedClipping, clipping_norm=0.1),
    "Adaptive": lambda: private(classes.DifferentialPrivacyClientSideAdaptiveClipping),
    "ServerFixed": lambda: private(
        classes.DifferentialPrivacyServerSideFixedClipping, clipping_norm=0.1
    ),
    "ServerAdaptive": lambda: private(classes.DifferentialPrivacyServerSideAdaptiveClipping),
    "Watching": lambda: Watching(**COMMON, on_fit_config_fn=told, on_evaluate_config_fn=told),
    "Curious": lambda: Curious(**COMMON),
    "Unreadable": lambda: Wrong(Parameters(tensors=[b"a pickle"], tensor_type="pickle")),
    "Misshapen": lambda: Wrong(ndarrays_to_parameters([np.zeros(3)])),
    "FedProx": lambda: classes.FedProx(**COMMON, proximal_mu=0.1),
    "FedXgbBagging": lambda: classes.FedXgbBagging(
        evaluate_function=None, on_fit_config_fn=told, **COMMON
    ),
}


def started(name):
    """A class that takes an initial model gets that of examples/numpy_minimal."""
    if name in OTHERS:
        return OTHERS[name]()
    zeros = [np.zeros((64, 10), np.float32), np.zeros(10, np.float32)]
    options = dict(COMMON)
    if name in ("FedOpt", "FedAdam", "FedAdagrad", "FedYogi"):
        options["initial_parameters"] = ndarrays_to_parameters(zeros)
    return getattr(classes, name)(**options)


history = flwr.server.start_server(
    server_address=address,
    config=flwr.server.ServerConfig(num_rounds=3),
    strategy=started(name),
)
accuracies = history.metrics_distributed.get("accuracy") or [(0, None)]
print("accuracy", accuracies[-1][1])

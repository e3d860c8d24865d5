"""Strategies as Flower's documentation has them (how-to-save-and-load-model-checkpoints,
how-to-aggregate-evaluation-results, explanation-federated-evaluation): no line of flops-fl."""

import flwr as fl
import numpy as np
from data import held_out
from flwr.common import EvaluateRes, FitRes, NDArrays, Parameters, Scalar
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from model_manager import ModelManager


class SaveModelStrategy(fl.server.strategy.FedAvg):
    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        aggregated_parameters, aggregated_metrics = super().aggregate_fit(
            server_round, results, failures
        )
        if aggregated_parameters is not None:
            aggregated_ndarrays: list[np.ndarray] = fl.common.parameters_to_ndarrays(
                aggregated_parameters
            )
            print(f"Saving round {server_round} aggregated_ndarrays...")
            np.savez(f"round-{server_round}-weights.npz", *aggregated_ndarrays)
        return aggregated_parameters, aggregated_metrics


class AggregateCustomMetricStrategy(FedAvg):
    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        if not results:
            return None, {}
        aggregated_loss, _aggregated_metrics = super().aggregate_evaluate(
            server_round, results, failures
        )
        accuracies = [r.metrics["accuracy"] * r.num_examples for _, r in results]
        examples = [r.num_examples for _, r in results]
        aggregated_accuracy = sum(accuracies) / sum(examples)
        return float(aggregated_loss), {"accuracy": float(aggregated_accuracy)}


def weighted_average(metrics):
    accuracies = [num_examples * m["accuracy"] for num_examples, m in metrics]
    examples = [num_examples for num_examples, _ in metrics]
    return {"accuracy": sum(accuracies) / sum(examples)}


def fit_config(server_round: int):
    return {"server_round": server_round, "batch_size": 32}


def fit_metrics(metrics):
    return {"clients": len(metrics), "mood": ",".join(m.get("mood", "-") for _, m in metrics)}


def get_evaluate_fn(model):
    x_val, y_val = held_out()

    def evaluate(
        server_round: int, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, dict[str, Scalar]] | None:
        model.set_model_parameters(parameters)
        chances = model.predict(x_val)
        loss = -np.log(chances[np.arange(len(y_val)), y_val] + 1e-12).mean()
        return loss, {"accuracy": (chances.argmax(axis=1) == y_val).mean()}

    return evaluate


def saving():
    return SaveModelStrategy(min_fit_clients=1, fit_metrics_aggregation_fn=fit_metrics)


def averaging():
    return FedAvg(
        on_fit_config_fn=fit_config,
        on_evaluate_config_fn=fit_config,
        fit_metrics_aggregation_fn=fit_metrics,
        evaluate_metrics_aggregation_fn=weighted_average,
    )


def centralised():
    return FedAvg(fraction_evaluate=0.0, evaluate_fn=get_evaluate_fn(ModelManager()))

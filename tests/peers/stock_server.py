"""A stock Flower server: no line of flops-fl. Arguments: address, learners."""

import sys

import flwr

number = int(sys.argv[2])
strategy = flwr.server.strategy.FedAvg(
    min_fit_clients=number,
    min_evaluate_clients=number,
    min_available_clients=number,
    evaluate_metrics_aggregation_fn=lambda pairs: {
        "accuracy": sum(n * m["accuracy"] for n, m in pairs) / sum(n for n, _ in pairs)
    },
)
history = flwr.server.start_server(
    server_address=sys.argv[1],
    config=flwr.server.ServerConfig(num_rounds=3),
    strategy=strategy,
)
print("accuracy", history.metrics_distributed["accuracy"][-1][1])

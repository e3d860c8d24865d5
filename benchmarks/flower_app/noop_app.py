"""Clients that give back what they got, and Flower's own FedAvg, timed."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message, context):
    metrics = MetricRecord({"num-examples": 10})
    content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
    return Message(content, reply_to=message)


@client_app.evaluate()
def evaluate(message, context):
    metrics = MetricRecord({"num-examples": 10, "accuracy": 0.5})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


class Timed(FedAvg):
    """Flower's strategy; notes when each round began and ended."""

    def __init__(self, **options):
        super().__init__(**options)
        self.marks = []

    def configure_train(self, *arguments, **options):
        self.marks.append(time.monotonic())
        return super().configure_train(*arguments, **options)

    def aggregate_evaluate(self, *arguments, **options):
        result = super().aggregate_evaluate(*arguments, **options)
        self.marks.append(time.monotonic())
        return result


@server_app.main()
def main(grid, context):
    config = context.run_config
    count = config["learners"]
    strategy = Timed(min_train_nodes=count, min_evaluate_nodes=count, min_available_nodes=count)
    model = ArrayRecord([np.zeros(config["nbytes"] // 4, np.float32)])
    strategy.start(grid=grid, initial_arrays=model, num_rounds=config["rounds"])
    pairs = zip(strategy.marks[::2], strategy.marks[1::2], strict=True)
    Path(config["output"]).write_text(json.dumps([end - begin for begin, end in pairs]))

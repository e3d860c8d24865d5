"""A toy actor on a real wire: in one event loop, it serves learners and is a learner to a root."""

import asyncio

import numpy as np

from flops_fl.core.fedavg import FedAvg
from flops_fl.core.plan import Plan, State
from flops_fl.core.rounds import Training
from flops_fl.net.address import Address
from flops_fl.types import Evaluation, Layout, Setup, Update
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.server import serve
from flops_fl.wire.hub.stage import HubOptions
from flops_fl.wire.line.dial import converse
from flops_fl.wire.line.redial import DialOptions
from flops_fl.wire.transport import METHOD

START = [np.zeros(4, np.float32)]
LAYOUT = Layout.of(START)


class Leaf:
    """A learner that moves the model half-way to its own number; its work is a coroutine."""

    layout = LAYOUT
    setup = Setup()

    def __init__(self, learner, target, examples):
        self.learner, self.target, self.examples = learner, target, examples

    async def perform(self, task, parameters):
        await asyncio.sleep(0)
        (model,) = parameters
        if task.stage == "fit":
            model = model + (np.float32(self.target) - model) / 2
            return Update(learner=self.learner, parameters=[model], examples=self.examples)
        loss = float(np.mean((model - self.target) ** 2))
        return Evaluation(learner=self.learner, loss=loss, examples=self.examples)


class Node:
    """A hub that listens."""

    def __init__(self, learners):
        self.learners = learners
        self.hub = Hub("r", LAYOUT, HubOptions())

    async def listen(self):
        self.serving = await serve({METHOD: self.hub.join}, Address("127.0.0.1", 0), None)
        return Address("127.0.0.1", self.serving.port)

    async def rounds(self, start, rounds, run_id="r"):
        names = ("min_available_clients", "min_fit_clients", "min_evaluate_clients")
        minimums = dict.fromkeys(names, self.learners)
        plan = Plan(
            run_id=run_id, rounds=rounds, seed=0, min_available=self.learners,
            min_fit=self.learners, min_evaluate=self.learners, round_timeout=20, join_timeout=20,
        )  # fmt: skip
        strategy = FedAvg(Layout.of(start), seed=0, **minimums)
        return await Training(State(parameters=start), plan, strategy).run(self.hub)

    async def close(self):
        await self.hub.close("done", final=True)
        await self.serving.stop(2)


class Cluster(Node):
    """A learner to those above, an aggregator to those below."""

    layout = LAYOUT
    setup = Setup()

    def __init__(self, learner, below, examples):
        super().__init__(below)
        self.learner, self.examples = learner, examples

    async def perform(self, task, parameters):
        rounds = 1 if task.stage == "fit" else 0
        if rounds:
            state = await self.rounds(parameters, rounds)
            return Update(learner=self.learner, parameters=state.parameters, examples=self.examples)
        return Evaluation(learner=self.learner, loss=1.0, examples=self.examples)


async def federation(leaves, clusters):
    """The root's model after three rounds, with learners below it or below clusters."""
    root = Node(len(clusters) or len(leaves))
    above = await root.listen()
    lines = []

    def dial(workers, address):
        lines.extend(
            asyncio.create_task(converse([worker], DialOptions(address=address)))
            for worker in workers
        )

    nodes = []
    for name, members in clusters.items():
        own = [leaf for leaf in leaves if leaf.learner in members]
        node = Cluster(name, len(own), sum(leaf.examples for leaf in own))
        dial(own, await node.listen())
        dial([node], above)
        nodes.append(node)
    if not clusters:
        dial(leaves, above)
    state = await root.rounds(START, 3)
    for node in (root, *nodes):
        await node.close()
    await asyncio.gather(*lines)
    return state.parameters


def leaves():
    return [Leaf(f"l{n}", 4.0 * n - 3.0, n + 1) for n in range(4)]


def test_a_cluster_with_a_hub_below_and_a_line_above_trains_as_a_flat_federation_does():
    async def both():
        flat = await federation(leaves(), {})
        tree = await federation(leaves(), {"c0": {"l0", "l3"}, "c1": {"l1", "l2"}})
        return flat, tree

    flat, tree = asyncio.run(asyncio.wait_for(both(), 60))
    np.testing.assert_allclose(tree[0], flat[0], rtol=1e-6)
    assert flat[0].any()

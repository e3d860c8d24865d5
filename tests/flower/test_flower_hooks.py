"""Every hook of the user's own strategy is called with real parameters, or an error says why."""

import asyncio
import logging

import flwr.server.strategy as flower
import numpy as np
import pytest
from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays

from flops_fl.core.plan import State
from flops_fl.core.rounds import Training
from flops_fl.errors import FederationError, UsageError
from flops_fl.flower.building import strategy_called
from flops_fl.flower.selection import Named
from flops_fl.types import Layout
from tests.core.fakes import START, FakeCohort, plan_of

CALLS = []


class Recording(flower.Strategy):
    """Writes down what it is called with, and keeps to the first update."""

    def initialize_parameters(self, client_manager):
        CALLS.append(("initialize", client_manager.num_available()))
        return ndarrays_to_parameters([np.full(3, 7.0), np.array([1, 2])])

    def configure_fit(self, server_round, parameters, client_manager):
        CALLS.append(("configure_fit", server_round, first(parameters)))
        config = {"lr": np.float32(0.5), "epochs": np.int64(2)}
        return [(c, FitIns(parameters, config)) for c in client_manager.all().values()]

    def aggregate_fit(self, server_round, results, failures):
        CALLS.append(("aggregate_fit", server_round, len(results), len(failures)))
        return results[0][1].parameters, {"first": results[0][0].cid, "steps": np.int64(3)}

    def configure_evaluate(self, server_round, parameters, client_manager):
        CALLS.append(("configure_evaluate", server_round, first(parameters)))
        return [(c, FitIns(parameters, {})) for c in client_manager.all().values()]

    def aggregate_evaluate(self, server_round, results, failures):
        CALLS.append(("aggregate_evaluate", server_round, len(results), len(failures)))
        return 0.25, {"accuracy": 0.75, "seen": [r.metrics["accuracy"] for _, r in results]}

    def evaluate(self, server_round, parameters):
        CALLS.append(("evaluate", server_round, first(parameters)))
        return np.float64(server_round), {"accuracy": 0.5, "where": "server"}


def first(parameters):
    return float(parameters_to_ndarrays(parameters)[0][0])


def build(name, options=None, start=START, module=__name__):
    layout = Layout.of(start)
    called = name if module is None else f"{module}:{name}"
    return strategy_called(called, options or {}, seed=0, layout=layout, initial=lambda: start)


def play(strategy, cohort, rounds=1):
    start = State(parameters=strategy.initial(START))
    training = Training(start, plan_of(rounds), strategy)
    return asyncio.run(training.run(cohort))


def test_all_hooks_are_called_in_the_order_of_flowers_server_and_what_they_say_is_kept():
    CALLS.clear()
    state = play(build("Recording"), FakeCohort(["l1", "l2", "l3"], broken=["l3"]))
    assert CALLS == [
        ("initialize", 0),
        ("evaluate", 0, 7.0),
        ("configure_fit", 1, 7.0),
        ("aggregate_fit", 1, 2, 1),
        ("evaluate", 1, 8.0),
        ("configure_evaluate", 1, 8.0),
        ("aggregate_evaluate", 1, 2, 1),
    ]
    assert [array.tolist() for array in state.parameters] == [[8.0] * 3, [1, 2]]
    assert [array.dtype for array in state.parameters] == [array.dtype for array in START]
    (record,) = state.history
    assert (record.loss, record.accuracy) == (0.25, 0.75)
    assert record.metrics == {"accuracy": 0.75, "seen": "[0.5, 0.5]"}
    assert record.fit_metrics == {"first": "l1", "steps": 3}
    assert (record.server_loss, record.server_metrics["where"]) == (1.0, "server")
    assert state.initial.server_loss == 0.0
    assert state.initial.round == 0


def test_what_configure_fit_says_reaches_the_learners_as_plain_values():
    told = build("Recording").choose(1, "fit", ["a"], START)
    assert told == {"a": {"lr": 0.5, "epochs": 2}}
    assert [type(value) for value in told["a"].values()] == [float, int]


def test_integers_keep_the_mean_of_which_flowers_own_class_makes_zero():
    state = play(build("Averaging"), FakeCohort(["l1", "l2"]))
    assert state.parameters[1].tolist() == [10, 20]
    assert state.parameters[0] == pytest.approx([1.6] * 3)


class Averaging(flower.FedAvg):
    """Flower's own mean."""


class Unsaid(Exception):
    """Has no text."""

    def __str__(self):
        raise RuntimeError


class Wrong(flower.FedAvg):
    """Wrong in one way."""

    def __init__(self, what, **options):
        super().__init__(**options)
        self.what = what

    def initialize_parameters(self, client_manager):
        if self.what == "start":
            return ndarrays_to_parameters([np.zeros(4), np.zeros(2)])
        return client_manager.sample(1)[0] if self.what == "nobody" else None

    def configure_fit(self, server_round, parameters, client_manager):
        chosen = super().configure_fit(server_round, parameters, client_manager)
        proxy, ins = chosen[0]
        if self.what == "properties":
            proxy.get_properties(None, None, None)
        elif self.what == "parameters":
            ins = FitIns(ndarrays_to_parameters([np.ones(3), np.ones(2)]), {})
        elif self.what == "config":
            ins = FitIns(parameters, {"layers": [1, 2]})
        elif self.what == "large":
            ins = FitIns(parameters, {"seed": 1 << 63})
        elif self.what == "text":
            ins = FitIns(parameters, {"plan": "x" * 40_000})
        elif self.what == "bytes":
            ins = FitIns(parameters, {"plan": bytes(2_000_000)})
        elif self.what == "unsaid":
            raise Unsaid
        elif self.what == "idle":
            return []
        elif self.what == "nothing":
            return None
        elif self.what == "twice":
            return [(proxy, ins), (proxy, ins)]
        elif self.what == "ghost":
            return [(Named("ghost"), ins)]
        return [(proxy, ins)]

    def aggregate_fit(self, server_round, results, failures):
        if self.what == "none":
            return None, {}
        made = super().aggregate_fit(server_round, results, failures)
        return made[0] if self.what == "no pair" else made

    def aggregate_evaluate(self, server_round, results, failures):
        if self.what == "key":
            return 0.0, {"f1": results[0][1].metrics["f1"]}
        return None, {}

    def evaluate(self, server_round, parameters):
        if self.what == "nan":
            return float("nan"), {"accuracy": 0.5}
        return (1 / 0, {}) if self.what == "evaluate" else None


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "start",
            r"no initial model: .*made arrays of the shapes .*\(4,\), .*expected .*\(3,\), ",
        ),
        ("nobody", "failed in initialize_parameters.*IndexError"),
    ],
)
def test_an_initial_model_that_does_not_fit_is_refused_before_anybody_trains(what, said):
    with pytest.raises(UsageError, match=said):
        build("Wrong", {"what": what}).initial(START)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("properties", "configure_fit of round 1 .*get_properties of learner l. cannot be called"),
        ("parameters", "gives learner l. other parameters than the global model"),
        ("config", r"puts 'layers': \[1, 2\] into a config: expected"),
        ("large", "puts 'seed': 9223372036854775808 into a config: expected"),
        ("text", "puts 'plan': 'xxx.* into a config: .*at most 32768 characters"),
        ("bytes", "makes a config of 2000004 bytes, expected at most 1048576"),
        ("unsaid", r"configure_fit of round 1 \(Unsaid: its text cannot be had, "),
        ("idle", "Missing: strategy .*Wrong chose none of the 2 learners present"),
        ("no pair", "failed in round 1 with 1 updates .*check --strategy-option"),
        ("nothing", r"configure_fit of round 1 .*from what class Wrong of .*_hooks.py returned\)"),
        ("twice", "strategy .*Wrong chooses learner l. 2 times, expected at most once"),
        ("ghost", "strategy .*Wrong chooses learner 'ghost', which is not present"),
        ("key", r"aggregate_evaluate of round 1 \(KeyError: 'f1', .*test_flower_hooks.py line"),
        ("evaluate", r"in evaluate of round 0 \(ZeroDivisionError: .*test_flower_hooks.py line"),
    ],
)
def test_what_cannot_be_kept_is_an_error_that_names_it(what, said):
    with pytest.raises(FederationError, match=said):
        play(build("Wrong", {"what": what}), FakeCohort(["l1", "l2"]))


def test_no_model_made_leaves_the_global_one_as_with_flowers_server(caplog):
    caplog.set_level(logging.WARNING, "flops_fl")
    logging.getLogger("flops_fl").propagate = True
    state = play(build("Wrong", {"what": "none"}), FakeCohort(["l1", "l2"]))
    assert [array.tobytes() for array in state.parameters] == [array.tobytes() for array in START]
    assert "made no model of round 1's 1 updates with 0 failures: the global model" in caplog.text
    assert state.history[0].loss is None
    assert "aggregate_evaluate of strategy" in state.history[0].not_evaluated


def test_a_loss_that_is_no_number_is_said_and_costs_no_more_than_itself(caplog):
    caplog.set_level(logging.WARNING, "flops_fl")
    logging.getLogger("flops_fl").propagate = True
    state = play(build("Wrong", {"what": "nan"}), FakeCohort(["l1", "l2"]))
    assert "round 0: evaluate of strategy" in caplog.text
    for record in (state.initial, *state.history):
        assert (record.server_loss, record.server_metrics) == (None, {"accuracy": 0.5})


@pytest.mark.parametrize("name", ["FedAvg", "FedMedian", "FedOpt", f"{__name__}:Averaging"])
def test_no_failure_is_accepted_by_whoever_is_told_so(name):
    strategy = build(name, {"accept_failures": False}, module=None)
    assert strategy.options["accept_failures"] is False
    with pytest.raises(FederationError, match="accepts no failures, and 1 learner gave no answer"):
        play(strategy, FakeCohort(["l1", "l2", "l3"], broken=["l3"]))
    assert play(strategy, FakeCohort(["l1", "l2"])).history[0].loss is not None
    assert "accepts no failures, and 1 learner gave" in strategy.judge(1, [], 1).missing


def test_objects_are_not_given_as_text():
    for name, option in (
        ("FedAvg", "evaluate_fn"),
        ("FedAdam", "on_fit_config_fn"),
        (f"{__name__}:Averaging", "evaluate_fn"),
        ("flwr.server.strategy:FedXgbBagging", "evaluate_function"),
    ):
        with pytest.raises(UsageError, match=f"{option} cannot be given as text.*MODULE:FUNCTION"):
            build(name, {option: "mine:check"}, module=None)


def test_other_interfaces_and_wrappers_are_refused_by_name():
    for name in ("flwr.serverapp.strategy:FedAvg", f"{__name__}:newer"):
        with pytest.raises(UsageError, match=r"message API .*take the class of flwr.server"):
            build(name, module=None)
    wrapper = "DifferentialPrivacyClientSideFixedClipping"
    for name in (wrapper, f"flwr.server.strategy:{wrapper}", "DPFedAvgFixed"):
        with pytest.raises(UsageError, match="wraps another strategy: write a function"):
            build(name, module=None)


def newer():
    from flwr.serverapp.strategy import FedAvg

    return FedAvg()

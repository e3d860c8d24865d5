"""The Grafana dashboard of the docs asks for metrics that exist."""

import json
import re
from pathlib import Path

from prometheus_client.exposition import generate_latest

from flops_fl.actors.learner import LearnerHealth
from flops_fl.observers.metrics import MetricsObserver
from flops_fl.process.health import Health

ROOT = Path(__file__).parents[2]
OURS = re.compile(r"\b(?:flops|process)_\w+")


def names_of(health):
    text = generate_latest(health.registry).decode()
    named = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    return {name for name in named if not name.endswith("_created")}


def test_every_metric_of_the_dashboard_and_of_the_docs_exists():
    aggregator, learner = Health(), LearnerHealth(1)
    MetricsObserver(aggregator)
    there = names_of(aggregator) | names_of(learner)
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [variable["query"]["query"] for variable in dashboard["templating"]["list"][1:]]
    assert len(asked) > 20
    for expression in asked:
        found = OURS.findall(expression)
        assert found, expression
        assert set(found) <= there, expression
    documented = set(OURS.findall((ROOT / "docs/operation.md").read_text()))
    assert {name for name in there if name.startswith("flops_")} <= documented

"""A learner's model is built with its run's seed, whatever the process has built before."""

from functools import partial

import numpy as np
import pytest

from flops_fl.actors.learner import build_learner
from flops_fl.core.seeding import seed_build
from flops_fl.errors import DataError, RepositoryError
from flops_fl.flower.client import ClientWorker
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Task, parameters_sha256
from tests.conftest import ROOT

FROZEN = ROOT / "tests" / "repositories" / "frozen_numpy"


def fit(run_id, seed, round=1):
    return Task(stage="fit", run_id=run_id, round=round, version=round - 1, seed=seed)


@pytest.fixture
def learner(digits):
    """Builds a learner of digits under a seed, and keeps count of the seeds."""
    seeds = []

    def build(seed):
        seeds.append(seed)
        return build_learner(FROZEN, "l0", digits / "part-0", seed=seed)

    build.seeds = seeds
    return build


def model_of(worker, *tasks):
    """Hash of the model that the last of some tasks gives."""
    model = [np.zeros((256, 10), np.float32)]
    for task in tasks:
        model = list(worker.perform(task, model).parameters)
    return parameters_sha256(model)


def test_a_second_run_gets_the_model_that_a_process_of_its_own_would(learner):
    fresh = model_of(ClientWorker(learner), fit("b", 7))
    learner.seeds.clear()
    staying = ClientWorker(learner, alone=True)
    assert model_of(staying, fit("a", 3), fit("a", 3, round=2)) != fresh
    assert learner.seeds == [0, 3]
    assert model_of(staying, fit("b", 7)) == fresh
    assert model_of(staying, fit("c", 7)) == fresh
    assert learner.seeds == [0, 3, 7, 7]
    staying.close()


def test_the_default_seed_builds_once_for_its_first_run(learner):
    worker = ClientWorker(learner)
    model_of(worker, fit("a", 0), fit("a", 0, round=2))
    assert learner.seeds == [0]


def test_learners_and_aggregator_hold_the_same_frozen_weights(learner):
    mine = learner(5).model.model().project
    aggregators = ManagedModel(FROZEN, before_build=partial(seed_build, 5))
    assert np.array_equal(mine, aggregators.model().project)
    aggregators.release()
    assert np.array_equal(mine, aggregators.model().project)
    assert not np.array_equal(mine, learner(6).model.model().project)


def test_a_build_that_fails_costs_its_task_and_is_tried_again(learner):
    broken = []

    def build(seed):
        if seed in broken:
            raise DataError("the folder is gone")
        return learner(seed)

    worker = ClientWorker(build)
    broken.append(4)
    for _ in range(2):
        with pytest.raises(DataError):
            worker.perform(fit("a", 4), [np.zeros((256, 10), np.float32)])
    broken.clear()
    assert model_of(worker, fit("a", 4)) == model_of(ClientWorker(learner), fit("a", 4))


GROWS = """
import numpy as np

class ModelManager:
    def __init__(self):
        self.size = np.random.randint(1, 10**6)
    def set_model_data(self): pass
    def get_model(self): return self
    def get_model_parameters(self): return [np.zeros(self.size)]
    def set_model_parameters(self, parameters): pass
    def fit_model(self): return 1
    def evaluate_model(self): return 0.0, 0.0, 1
"""


def test_a_model_whose_layout_depends_on_the_seed_is_refused_by_name(tmp_path):
    (tmp_path / "model_manager.py").write_text(GROWS)
    worker = ClientWorker(lambda seed: build_learner(tmp_path, "l0", None, seed=seed))
    with pytest.raises(RepositoryError, match="another layout under seed 4: tensor 0 is float64"):
        worker.perform(fit("a", 4), [np.zeros(1)])

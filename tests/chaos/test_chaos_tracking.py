"""The tracking server is killed, and the aggregator is killed while it is down."""

import time

import pytest

from tests.chaos.federation import LEARNERS, Federation, check_tracking, figures
from tests.mlflow_server import free_port, kill, start_server

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, many
ROUNDS = 12


def runs(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("FLOps Project repo")
    return client.search_runs([experiment.experiment_id]) if experiment else []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_a_server_missed_arrives_with_the_next_process(
    processes, slow_repo, digits, undisturbed
):
    expected = undisturbed(ROUNDS)
    port = free_port()
    server, uri = start_server(processes.folder, port), f"http://127.0.0.1:{port}"
    try:
        run = Federation(
            processes, slow_repo, digits, ROUNDS, 0.4, tracking=True,
            options=["--tracking-uri", uri], env={"FLOPS_TRACKING_TIMEOUT": "2"},
        )  # fmt: skip
        end = time.monotonic() + 60
        while not runs(uri):
            assert time.monotonic() < end
            time.sleep(0.1)
        kill(server)
        time.sleep(1.5)  # a round or two that nobody takes
        run.kill_aggregator()
        away = run.result()
        assert figures(away) == expected
        assert away["mlflow"] is None or away["status"] == "completed"
        log = run.processes.stderr(run.aggregator)
        assert "did not take" in log
        assert "--resume" in log
        server = start_server(processes.folder, port)
        run.env["FLOPS_TRACKING_TIMEOUT"] = "30"
        run.learners = []
        run.aggregator = run.start_aggregator()
        delivered = run.result()
        assert figures(delivered) == expected
        assert run.fits() == ROUNDS * LEARNERS
        check_tracking(delivered)
    finally:
        kill(server)

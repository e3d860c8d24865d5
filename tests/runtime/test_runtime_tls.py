"""TLS between real processes: who is let in, and under which name."""

from tests.conftest import EXAMPLES

NUMPY = EXAMPLES / "numpy_minimal"


def test_certificates_name_the_learners(processes, digits, pki, run_cli, tmp_path):
    aggregator = processes.aggregator(NUMPY, "--rounds", 2, "--min-clients", 2, *pki("server"))

    def join(*options):
        return run_cli(
            "learner", NUMPY, "--aggregator", processes.address, "--data", digits / "part-0",
            "--connect-timeout", 2, *options,
        )  # fmt: skip

    first = processes.start(
        "learner", NUMPY, "--aggregator", processes.address, "--data", digits / "part-0",
        *pki("learner-a"),
    )  # fmt: skip
    code, _, err = join("--learner-id", "learner-a", *pki("learner-b"))
    assert (code, "is not in the certificate" in err) == (5, True), err
    code, _, err = join("--tls-ca", tmp_path / "stranger.pem")
    assert (code, "TLS could not be set up" in err) == (5, True), err
    code, _, err = join()  # without TLS at all
    assert code in (4, 5), err
    code, _, err = join(*pki("learner-b"))
    assert code == 0, err
    processes.finish(first)
    result = processes.result(aggregator)
    assert result["rounds"][1]["learners"] == ["learner-a", "learner-b"]

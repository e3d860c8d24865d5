"""TLS between real processes: who is let in, and under which name."""

import pytest

from tests.conftest import EXAMPLES, LIMIT, wait_for_port, wait_until

NUMPY = EXAMPLES / "numpy_minimal"


@pytest.mark.slow
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
    assert (code, "is not signed by the authority in --tls-ca" in err) == (5, True), err
    code, _, err = join()  # without TLS at all
    assert (code, "uses TLS and this learner does not" in err) == (5, True), err
    code, _, err = join(*pki("learner-b"))
    assert code == 0, err
    processes.finish(first)
    result = processes.result(aggregator)
    assert result["rounds"][1]["learners"] == ["learner-a", "learner-b"]
    said = processes.stderr(aggregator)
    assert "learner learner-a at 127.0.0.1:" in said
    assert "ssl_transport_security" not in said


@pytest.mark.slow
def test_a_learner_says_what_is_wrong_with_tls(processes, digits, pki, run_cli, tmp_path):
    aggregator = processes.aggregator(NUMPY, *pki("server"))
    wait_for_port(processes.address)

    def refused(*options):
        code, _, err = run_cli(
            "learner", NUMPY, "--aggregator", processes.address, "--data", digits / "part-0",
            *options,
        )  # fmt: skip
        assert code == 5, err
        assert err.count("error: ") == 1
        return err

    ours = ["--tls-ca", tmp_path / "authority.pem"]
    assert "lets nobody in without a certificate" in refused(*ours)
    assert "uses TLS and this learner does not" in refused("--protocol", "flower")
    assert "not signed by the authority" in refused(
        "--protocol", "flower", "--tls-ca", tmp_path / "stranger.pem"
    )
    assert "ssl_transport_security" not in processes.stderr(aggregator)


def test_without_an_authority_the_aggregator_says_who_may_join(processes, pki):
    options = pki("server")
    at = options.index("--tls-ca")
    aggregator = processes.aggregator(NUMPY, *options[:at], *options[at + 2 :])
    wait_until(lambda: "warning: without --tls-ca whoever" in processes.stderr(aggregator), LIMIT)


def test_certificates_that_cannot_work_end_it_at_once(processes, pki, run_cli, tmp_path):
    cert, key, ca = (tmp_path / name for name in ("server.pem", "server.key", "authority.pem"))
    swapped = ["--tls-cert", key, "--tls-key", cert, "--tls-ca", ca]
    for command in (["aggregator", NUMPY], ["learner", NUMPY, "--aggregator", processes.address]):
        code, _, err = run_cli(*command, *swapped)
        assert (code, err.count("\n"), "swap them" in err) == (5, 1, True), err

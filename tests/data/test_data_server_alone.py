"""The data server as a process: kills, many readers, rights, and how it starts and ends."""

import subprocess
import sys
import urllib.request

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flops_fl.data.shelf import Shelf
from flops_fl.errors import UsageError
from flops_fl.wire.hub.link import certified_names
from tests.conftest import wait_until
from tests.data.serving import DataServer, drop, get, listed, put, rows
from tests.trees import free_address

MB = 1 << 20


@pytest.fixture
def started(tmp_path):
    servers = []

    def start(*options):
        servers.append(
            DataServer(tmp_path / "data", *options, log=tmp_path / f"{len(servers)}.log")
        )
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.mark.slow
def test_after_a_kill_during_a_put_and_a_get_all_that_was_whole_is_there(started, tmp_path):
    server = started()
    table = pa.table({"x": np.arange(4_000_000)})
    put(server.client(), "whole.1.parquet", table, max_chunksize=500_000)
    client = server.client()
    reader = client.do_get(fl.Ticket("whole.1.parquet"))
    reader.read_chunk()
    writer, _ = client.do_put(fl.FlightDescriptor.for_path("half.1.parquet"), table.schema)
    writer.write_table(table, max_chunksize=500_000)
    wait_until(lambda: [name for name in server.files() if name.endswith(".part")])
    wait_until(lambda: max(p.stat().st_size for p in server.folder.glob(".*.part")) > MB)
    server.kill()
    with pytest.raises(pa.ArrowException):
        reader.read_all()
    with pytest.raises(pa.ArrowException):
        writer.close()
    again = started()
    assert again.files() == ["whole.1.parquet"]
    assert get(again.client(), "whole.1.parquet") == table
    put(again.client(), "half.1.parquet", rows(1))
    assert listed(again.client(), "half") == ["half.1.parquet"]


SENDER = """
import sys, numpy, pyarrow, pyarrow.flight as fl
table = pyarrow.table({"x": numpy.random.default_rng(1).random(1_000_000)})
path = fl.FlightDescriptor.for_path("half.1.parquet")
writer, _ = fl.connect(sys.argv[1]).do_put(path, table.schema)
while True:
    writer.write_table(table)
"""


@pytest.mark.slow
def test_of_a_plain_sender_that_is_killed_nothing_stays(started):
    server = started()
    put(server.client(), "half.1.parquet", rows(1))
    sender = subprocess.Popen([sys.executable, "-c", SENDER, f"grpc://{server.address}"])
    wait_until(lambda: [p for p in server.folder.glob(".*.part") if p.stat().st_size > MB])
    sender.kill()
    sender.wait()
    wait_until(lambda: server.files() == ["half.1.parquet"])
    assert get(server.client(), "half.1.parquet") == rows(1)


@pytest.mark.slow
def test_a_thousand_readers_that_do_not_read_cost_little_and_hold_nobody_up(started):
    server = started("--stall-timeout", "3")
    table = pa.table({"x": np.random.default_rng(1).random(4_000_000)})
    put(server.client(), "big.1.parquet", table, max_chunksize=500_000)
    method, ticket = "/arrow.flight.protocol.FlightService/DoGet", fl.Ticket("big.1.parquet")
    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(server.address, own) for _ in range(10)]
    calls = [c.unary_stream(method)(ticket.serialize()) for c in channels for _ in range(100)]
    wait_until(lambda: "cut off: it read nothing for 3 s" in server.said(), 90)
    assert server.memory() < 700 * MB
    client = server.client()
    for _ in range(100):  # a place becomes free when a silent reader is given up
        try:
            found = get(client, "big.1.parquet")
            break
        except pa.ArrowException as error:
            assert "try again later" in str(error)  # noqa: PT017
    assert found == table
    for call in calls:
        call.cancel()
    for channel in channels:
        channel.close()


def test_the_log_counts_refusals_that_are_alike(started):
    server = started()
    client = server.client()
    for number in range(50):
        with pytest.raises(KeyError):
            get(client, f"none.{number}.parquet")
    server.stop()
    assert server.said().count("call DoGet at 127.0.0.1:") == 1
    assert "and 49 more from 127.0.0.1" in server.said()


def test_certificates_of_devices_put_those_of_learners_read_and_others_do_nothing(
    started, authority, tmp_path
):
    for role in ("device", "learner", "aggregator"):
        authority.sign(role, uris=[f"flops://{role}/{role}"])
    authority.sign("nobody")
    server = started(*authority.options("server"))
    assert "with TLS: certificates of devices put, those of learners read" in server.said()

    def dial(name, **others):
        pem, key = ((tmp_path / f"{name}.{end}").read_bytes() for end in ("pem", "key"))
        return fl.connect(
            f"grpc+tls://localhost:{server.port}",
            tls_root_certs=(tmp_path / "authority.pem").read_bytes(),
            **({"cert_chain": pem, "private_key": key} | others),
        )

    with dial("device") as device:
        put(device, "a.1.parquet", rows(1))
        put(device, "b.1.parquet", rows(2))
        assert listed(device) == ["a.1.parquet", "b.1.parquet"]
        drop(device, "b.1.parquet")
        with pytest.raises(fl.FlightUnauthorizedError, match="device does not allow to read data"):
            get(device, "a.1.parquet")
    with dial("learner") as learner:
        assert listed(learner) == ["a.1.parquet"]
        assert get(learner, "a.1.parquet") == rows(1)
        with pytest.raises(fl.FlightUnauthorizedError, match="one signed with --role device"):
            put(learner, "c.1.parquet", rows(1))
        with pytest.raises(fl.FlightUnauthorizedError, match="one signed with --role device"):
            drop(learner, "a.1.parquet")
    for name in ("aggregator", "nobody"):
        with dial(name) as other:
            with pytest.raises(fl.FlightUnauthorizedError, match="signed with --role device or"):
                listed(other)
            with pytest.raises(fl.FlightUnauthorizedError, match="signed with --role learner"):
                get(other, "a.1.parquet")
    stranger = dial("device", cert_chain=None, private_key=None)
    with pytest.raises(fl.FlightUnavailableError):
        listed(stranger)
    assert server.files() == ["a.1.parquet"]


def test_a_device_cannot_join_a_training_as_a_learner(authority, tmp_path):
    class Context:
        def auth_context(self):
            return {"x509_pem_cert": [(tmp_path / "a.pem").read_bytes()]}

    for role, names in (("device", []), ("learner", ["a"])):
        authority.sign("a", uris=[f"flops://{role}/a"])
        assert certified_names(Context()) == names


def test_probes_and_metrics_are_those_of_the_actors(started, tmp_path):
    where = free_address()
    server = started("--metrics", where)
    put(server.client(), "a.1.parquet", rows(1))
    with pytest.raises(pa.ArrowInvalid):
        get(server.client(), "a.b")
    # A call is counted when it has ended, which its client may know a moment before.
    for call in ('method="DoPut",outcome="good"', 'method="DoGet",outcome="refused"'):
        wait_until(
            lambda call=call: (
                f"flops_data_calls_total{{{call}}} 1.0"
                in urllib.request.urlopen(f"http://{where}/metrics").read().decode()
            )
        )
    assert urllib.request.urlopen(f"http://{where}/readyz").status == 200
    with grpc.insecure_channel(server.address) as channel:
        probe = health_pb2_grpc.HealthStub(channel)
        for service in ("", "arrow.flight.protocol.FlightService"):
            answer = probe.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_second_server_of_the_folder_is_refused(started):
    server = started()
    with pytest.raises(UsageError, match="another process serves --dir .*: stop it, or give"):
        Shelf(server.folder)


def test_other_machines_need_tls_or_a_word(run_cli, tmp_path):
    code, _, err = run_cli(
        "flops_fl", "data", "serve", "--dir", tmp_path, "--listen", "0.0.0.0:11027"
    )
    assert code == 2
    assert "give --tls-cert and --tls-key, or say --insecure" in err

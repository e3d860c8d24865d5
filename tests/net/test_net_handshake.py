"""Why TLS fails, in a sentence: real servers in a process of their own, real certificates."""

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from flops_fl.errors import Refused, UsageError
from flops_fl.net.address import Address
from flops_fl.net.handshake import tls_fault
from flops_fl.net.tls import Tls
from tests.certificates import HERE, Authority
from tests.conftest import LIMIT

SERVER = """
import asyncio, sys
from pathlib import Path
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls
from flops_fl.wire.hub.server import serve

async def main(cert="", ca=""):
    folder = Path(sys.argv[1])
    file = lambda name: folder / name if name else None
    tls = Tls.read(file(cert and cert + ".pem"), file(cert and cert + ".key"), file(ca))
    serving = await serve({}, Address("127.0.0.1", 0), tls if cert else None)
    print(serving.port, flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[2:]))
"""


CLIENT = """
import grpc, sys
from pathlib import Path
from flops_fl.net.tls import Tls

channel = grpc.secure_channel(sys.argv[1], Tls.read(None, None, Path(sys.argv[2])).for_dialling())
try:
    channel.unary_unary("/no/method")(b"", timeout=60)
except grpc.RpcError as error:
    print(error.code().name)
"""


def asked(address, folder):
    """What gRPC itself answers to a call for something that no server has."""
    command = [sys.executable, "-c", CLIENT, str(address), str(folder / "authority.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    return done.stdout.strip()


@contextmanager
def serving(folder, *arguments):
    command = [sys.executable, "-c", SERVER, str(folder), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Address("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.kill()


@pytest.fixture
def files(authority, tmp_path):
    """Writes and reads: options by the name of a certificate, and of an authority."""
    stranger = Authority(tmp_path, "stranger")
    stranger.sign("alien")
    authority.sign("elsewhere", hosts=["other.example"])
    authority.sign("learner-a")

    def read(name=None, ca="authority"):
        pair = (tmp_path / f"{name}.pem", tmp_path / f"{name}.key") if name else (None, None)
        return Tls.read(*pair, tmp_path / f"{ca}.pem" if ca else None)

    return read


def test_the_other_sides_certificate(files, authority, tmp_path):
    with serving(tmp_path, "server") as address:
        assert tls_fault(address, files()) is None
        assert tls_fault(address, files("learner-a")) is None
        assert tls_fault(address, files(ca=None)) is None  # gRPC knows whom it trusts then
        assert "not signed by the authority in --tls-ca" in tls_fault(address, files(ca="stranger"))
        assert "give --tls-ca instead of --insecure" in tls_fault(address, None)
    with serving(tmp_path, "elsewhere") as address:
        fault = tls_fault(address, files())
        assert f"{address} is for other.example:" in fault


def test_the_own_certificate(files, tmp_path):
    with serving(tmp_path, "server", "authority.pem") as address:
        assert tls_fault(address, files("learner-a")) is None
        assert "lets nobody in without a certificate" in tls_fault(address, files())
        assert "does not accept the certificate of alien" in tls_fault(address, files("alien"))
        assert "give --tls-ca instead" in tls_fault(address, None)


def test_a_certificate_for_one_role_is_not_taken_for_the_other(files, authority, tmp_path):
    authority.sign("impostor", hosts=HERE, roles=["learner"])
    authority.sign("root", hosts=HERE, roles=["aggregator"])
    with serving(tmp_path, "impostor") as address:
        assert "is not one for a server: give the aggregator one" in tls_fault(address, files())
        assert asked(address, tmp_path) == "UNAVAILABLE"
    with serving(tmp_path, "root") as address:
        assert asked(address, tmp_path) == "UNIMPLEMENTED"
    with serving(tmp_path, "root", "authority.pem") as address:
        assert tls_fault(address, files("learner-a")) is None
        assert "does not accept the certificate of root" in tls_fault(address, files("root"))


def test_no_tls_where_it_is_expected(files, tmp_path):
    with serving(tmp_path) as address:
        assert tls_fault(address, None) is None
        said = tls_fault(address, files())
        assert "does not use TLS" in said
        assert "--insecure" not in said  # on loopback nobody asks for it


@pytest.mark.parametrize("reset", [False, True])
def test_what_a_bad_network_does_is_no_fault(files, reset):
    """Nobody listens; somebody takes the connection and drops it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", listener.getsockname()[1])
        assert tls_fault(address, files()) is None
        assert tls_fault(address, None) is None
        listener.listen()

        def drop():
            for _ in range(2):
                taken, _ = listener.accept()
                if reset:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    taken.recv(1)
                taken.close()

        dropping = threading.Thread(target=drop)
        dropping.start()
        assert tls_fault(address, files()) is None
        assert tls_fault(address, None) is None
        dropping.join()


def test_files_that_cannot_be_used_are_named(files, authority, tmp_path):
    authority.sign("late", days=-1, hosts=HERE)
    (tmp_path / "garbage.pem").write_text("nothing of the kind")
    server, key = tmp_path / "server.pem", tmp_path / "server.key"

    def wrong(error, *paths):
        with pytest.raises(error) as caught:
            Tls.read(*paths)
        return str(caught.value)

    assert "swap them" in wrong(Refused, key, server, None)
    assert "is not the key of" in wrong(Refused, server, tmp_path / "learner-a.key", None)
    assert "has expired on" in wrong(Refused, tmp_path / "late.pem", tmp_path / "late.key", None)
    garbage = tmp_path / "garbage.pem"
    assert "garbage.pem holds no certificate" in wrong(UsageError, garbage, key, None)
    assert "garbage.pem holds no private key" in wrong(UsageError, server, garbage, None)
    assert "--tls-ca" in wrong(UsageError, server, key, garbage)
    assert "cannot be read" in wrong(UsageError, None, None, tmp_path)

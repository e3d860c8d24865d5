"""An aggregator that is hostile to its learners, which are processes."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from flops_fl.wire.flops_pb2 import Cancel, Frame, Goodbye, Refusal, Scalar, Task, Welcome
from flops_fl.wire.transport import METHOD
from tests.conftest import NUMPY, free_address, unstamped

EVIL = "\x1b[31mred\nFORGED " * 20_000
NBYTES = (64 * 10 + 10) * 4
TASK = Task(stage="fit", run_id="r", round=1, nbytes=NBYTES, inline=bytes(NBYTES))
END = Frame(goodbye=Goodbye(reason="enough", final=True))


def in_(learner):
    return Frame(welcome=Welcome(learner=learner, run_id="r"))


def refuses(learner, frames):
    yield Frame(refusal=Refusal(reason=EVIL))


def ends(learner, frames):
    yield in_(learner)
    yield Frame(goodbye=Goodbye(reason=EVIL, final=True, failed=True))


def cancels(learner, frames):
    yield in_(learner)
    yield Frame(task=Task(stage="fit", run_id="r", round=1, nbytes=NBYTES))  # chunks: never
    yield Frame(cancel=Cancel(key="r/1/fit", reason=EVIL))
    yield END


def demands(learner, frames):
    config = {f"{EVIL[:50]}{n}": Scalar(integer=n) for n in range(1000)}
    task = Task(config=config)
    task.MergeFrom(TASK)
    yield in_(learner)
    yield Frame(task=task)
    next(frames)  # the update
    yield END


def breaks(learner, frames):
    yield in_(learner)
    yield Frame(task=Task(stage=EVIL))


def puts_off(learner, frames):
    yield Frame(refusal=Refusal(reason="full", retry=True))


@pytest.fixture
def rogue():
    """Start an aggregator that treats its learners so; its address."""
    servers = []

    def start(treat):
        def join(frames, context):
            for frame in treat(Frame.FromString(next(frames)).hello.learner, frames):
                yield frame.SerializeToString()

        service, name = METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(join)
        server = grpc.server(ThreadPoolExecutor(4))
        handlers = grpc.method_handlers_generic_handler(service, {name: handler})
        server.add_generic_rpc_handlers((handlers,))
        address = free_address()
        server.add_insecure_port(address)
        server.start()
        servers.append(server)
        return address

    yield start
    for server in servers:
        server.stop(None)


@pytest.mark.parametrize(
    ("treat", "code", "said"),
    [
        (refuses, 5, "error: \\x1b[31mred FORGED"),
        (ends, 4, "error: the project has ended: \\x1b[31mred FORGED"),
        pytest.param(
            cancels, 0, "[a] task r/1/fit cancelled: \\x1b[31mred FORGED", marks=pytest.mark.slow
        ),
        pytest.param(
            demands,
            0,
            "config for fit has no effect here (\\x1b[31mred FORGED",
            marks=pytest.mark.slow,
        ),
        (breaks, 4, "broke the protocol: task of stage"),
        pytest.param(puts_off, 4, "refused: full", marks=pytest.mark.slow),
    ],
)
def test_what_an_aggregator_says_is_one_short_line(processes, digits, rogue, treat, code, said):
    processes.address = rogue(treat)
    learner = processes.learner(NUMPY, digits / "part-0", "a", "--connect-timeout", 3)
    processes.finish(learner, code)
    log = processes.stderr(learner)
    assert said in log
    assert "\x1b" not in log
    assert not any(line.startswith("FORGED") for line in unstamped(log).splitlines())
    assert max(map(len, log.splitlines())) < 700

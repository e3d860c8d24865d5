"""The events that a page on the port of --metrics gets."""

import http.client
import json
from contextlib import closing, contextmanager
from dataclasses import replace

from flops_fl.core.observer import RunInfo
from flops_fl.net.address import Address
from flops_fl.observers.page import PageObserver
from flops_fl.process.health import Health, served
from flops_fl.types import LearnerFailure, RoundRecord

RUN = RunInfo(
    project_id="digits", run_id="r", repo_source="s", repo_commit=None, strategy="FedAvg", seed=1,
    rounds=3, options={},
)  # fmt: skip
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


def get(number, path):
    """Status, headers and text of a path on a port of this machine."""
    with closing(http.client.HTTPConnection("127.0.0.1", number, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


class Events:
    """A stream of events, read one by one."""

    def __init__(self, number):
        self._connection = http.client.HTTPConnection("127.0.0.1", number, timeout=30)
        self._connection.request("GET", "/events")
        self.answer = self._connection.getresponse()

    def next(self):
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))

    def close(self):
        self.answer.close()
        self._connection.close()


def record(number, **more):
    plain = RoundRecord(
        round=number, seconds=1.5, fit_seconds=1.0, evaluate_seconds=0.5, loss=1 / number,
        accuracy=0.5, examples=9, bytes_down=1000, bytes_up=2000, learners=("a", "b"),
    )  # fmt: skip
    return replace(plain, **more)


def failure(learner, reason="broken", traceback=""):
    return LearnerFailure(learner=learner, stage="fit_model", reason=reason, traceback=traceback)


@contextmanager
def listening(observer_of=PageObserver):
    health = Health()
    observer = observer_of(health)
    with served(health, Address("127.0.0.1", 0)) as number:
        yield observer, number

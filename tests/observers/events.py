"""The events that a page on the port of --metrics gets."""

import http.client
import json
from contextlib import closing


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

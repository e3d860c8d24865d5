"""A data server as a process, and its stock client: pyarrow alone, by the facts of FLOps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pyarrow as pa
import pyarrow.flight as fl

from tests.conftest import ROOT


class DataServer:
    """`flops-fl data serve` on a free port; `stop` ends it."""

    def __init__(self, folder, *options, log=None):
        self.folder = folder
        self.log = log or folder.with_name(f"{folder.name}.log")
        self.options = [*map(str, options)]
        self.process = None
        self.start()

    def start(self, port=0):
        self.log.write_text("")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "flops_fl", "data", "serve", "--dir", self.folder),
                    *("--listen", f"127.0.0.1:{port}", *self.options),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        found, end = None, time.monotonic() + 60
        while not found:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.05)
            found = re.search(r"is served on (\S+):(\d+)", self.said())
        self.port = int(found.group(2))

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def said(self):
        return self.log.read_text()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self):
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait(30) == 130, self.said()

    def files(self):
        """What is in the folder, hidden files, too."""
        return sorted(path.name for path in self.folder.iterdir())

    def memory(self):
        """Bytes of memory that it has now; files that it has mapped do not count."""
        with open(f"/proc/{self.process.pid}/status") as status:
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read())
        return int(found.group(1)) * 1024

    def client(self, **options):
        return fl.connect(f"grpc://{self.address}", **options)


def put(client, name, table, **options):
    """As a data sender of FLOps does it."""
    writer, _ = client.do_put(fl.FlightDescriptor.for_path(name), table.schema)
    writer.write_table(table, **options)
    writer.close()


def listed(client, *tags):
    """Names by the criteria of FLOps' learners."""
    criteria = json.dumps({"data_tags": list(tags)}).encode() if tags else b""
    return [each.descriptor.path[0].decode() for each in client.list_flights(criteria)]


def get(client, name):
    return client.do_get(fl.Ticket(name)).read_all()


def drop(client, name):
    return list(client.do_action(fl.Action("drop_dataset", name.encode())))


def rows(*numbers):
    return pa.table({"x": [float(n) for n in numbers], "label": [n % 2 for n in numbers]})

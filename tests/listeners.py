"""Who is told of a training: a broker and a listener, real ones, for tests."""

import shutil
import socket
import subprocess
import threading

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import wait_for_port, wait_until
from tests.trees import free_address

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto, the broker, is not installed"
)


class Listener(threading.Thread):
    """A FLOps project observer: one text a connection."""

    def __init__(self, port=0):
        super().__init__(daemon=True)
        self.heard = []
        self.socket = socket.create_server(("127.0.0.1", port))
        self.url = f"tcp://127.0.0.1:{self.socket.getsockname()[1]}"
        self.start()

    def wait_for(self, texts):
        wait_until(lambda: len(self.heard) == texts)

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            with connection, connection.makefile() as file:
                self.heard.append(file.read())


class Broker:
    """Mosquitto, which keeps what a subscriber that is away has not got."""

    def __init__(self, folder, *lines, tls=None):
        self.address = free_address()
        self.heard = []
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join(
                [
                    f"listener {self.address.rpartition(':')[2]} 127.0.0.1",
                    "user root",
                    "persistence true",
                    f"persistence_location {folder}/",
                    *lines,
                ]
            )
        )
        self._log = folder / "mosquitto.log"
        self.start()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="manager", clean_session=False
        )
        self.subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_message = lambda _, __, message: self.heard.append(
            (message.topic, message.payload.decode())
        )
        self._client.reconnect_delay_set(1, 1)
        if tls:
            self._client.username_pw_set("me", "p@ss")
            self._client.tls_set(str(tls))
        self._client.connect("localhost", int(self.address.rpartition(":")[2]))
        self._client.loop_start()
        assert self.subscribed.wait(30)

    def start(self):
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", self._config], stdout=log, stderr=log
            )
        wait_for_port(self.address)

    def stop(self):
        self._process.terminate()
        self._process.wait(30)

    def close(self):
        self._client.loop_stop()
        self.stop()

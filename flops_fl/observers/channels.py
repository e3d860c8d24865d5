"""How a notice is sent: MQTT to the FLOps manager, TCP to a project observer, a webhook.

A channel's one verb is `send`. It returns when the other side has the notice, and raises `OSError`
when it has not yet: the caller tries again. Names, ports and payloads are those of FLOps.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flops_fl.net.target import Target

TIMEOUT = 10.0  # seconds that one try may take


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What is told: the event as a person, and as a program reads it."""

    actor: str
    """``aggregator`` or ``learner``."""
    event: str
    """``started``, ``success``, ``failed`` or ``interrupted``."""
    project_id: str
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Channel(Protocol):
    """A way to somebody who is told."""

    def send(self, notice: Notice) -> None:
        """Send a notice.

        Raises:
            OSError: it has not arrived yet; another try is worth it.
            ValueError: the other side does not want it.
        """

    def close(self) -> None:
        """Give back what the channel holds."""


def channel_to(target: Target, ca: Path | None) -> Channel:
    """The channel for a target; `ca` is the authority of its certificate (None: the system's).

    Raises:
        OSError: `ca` holds no certificate.
    """
    tls = ssl.create_default_context(cafile=ca) if target.encrypted else None
    if target.scheme == "tcp":
        return TcpChannel(target)
    if target.scheme.startswith("mqtt"):
        return MqttChannel(target, tls)
    return Webhook(target, tls)


class MqttChannel:
    """To the FLOps manager, by a broker, with at-least-once delivery (MQTT 3.1.1, QoS 1)."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None) -> None:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self._target = target
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(target.user, target.password)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.reconnect_delay_set(1, 5)
        self._client.on_publish = self._on_publish
        self._client.on_connect = self._on_connect
        self._refusal = "no answer"
        self._waiting: tuple[Notice, int] | None = None  # published, and not acknowledged
        self._acknowledged: set[int] = set()
        self._changed = threading.Condition()
        self._started = False

    def send(self, notice: Notice) -> None:
        """Publish, and wait for the broker's acknowledgement. The manager has no interruptions."""
        if notice.event == "interrupted":
            return
        if not self._started:
            self._started = True
            self._client.connect_async(self._target.host, self._target.port)
            self._client.loop_start()
        if self._waiting is None or self._waiting[0] is not notice:
            topic = f"flops_manager/{notice.actor}/{notice.event}"
            payload = json.dumps({**notice.details, "flops_project_id": notice.project_id})
            # Without a connection the client keeps the message, and sends it once it has one.
            self._waiting = notice, self._client.publish(topic, payload, qos=1).mid
        mid = self._waiting[1]
        with self._changed:
            if not self._changed.wait_for(lambda: mid in self._acknowledged, TIMEOUT):
                raise TimeoutError(self._refusal)

    def _on_publish(self, client: Any, data: Any, mid: int, *_: Any) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify()

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, *_: Any) -> None:
        self._refusal = str(code) if code.is_failure else "no acknowledgement"

    def close(self) -> None:
        """Disconnect, and end the client's thread."""
        if self._started:
            self._client.disconnect()
            self._client.loop_stop()


class TcpChannel:
    """To a FLOps project observer: a connection for each message, which is UTF-8 text."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def send(self, notice: Notice) -> None:
        """Connect, send the text and close."""
        address = self._target.host, self._target.port
        with socket.create_connection(address, TIMEOUT) as connection:
            connection.sendall(notice.text.encode())

    def close(self) -> None:
        """Nothing is held."""


class Webhook:
    """To any program: an HTTP POST with a JSON document."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None) -> None:
        self._target, self._tls = target, tls

    def send(self, notice: Notice) -> None:
        """Post the notice. Answers of 4xx are final, except those that ask for another try."""
        document = {
            "actor": notice.actor,
            "event": notice.event,
            "project_id": notice.project_id,
            "text": notice.text,
            **notice.details,
        }
        headers = {"Content-Type": "application/json"}
        if self._target.user is not None:
            secret = f"{self._target.user}:{self._target.password or ''}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        body = json.dumps(document).encode()
        request = urllib.request.Request(self._target.url, body, headers)
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT, context=self._tls).close()
        except urllib.error.HTTPError as error:
            error.close()
            if 400 <= error.code < 500 and error.code not in (408, 429):
                raise ValueError(f"it answers {error.code} {error.reason}") from None
            raise

    def close(self) -> None:
        """Nothing is held."""

"""`make tour`: from nothing to a served model, for three frameworks; writes docs/tour.md.

Each command runs as the page shows it, in an empty folder, and its output is the page's. Images
need a base image and torch's wheels without CUDA. Where Docker's registry or PyTorch's index cannot
be reached, a base is made of this machine's own Python, and the wheels are those of pip's
``find-links``; FLOPS_BASE and UV_INDEX name others. ``--no-images`` leaves images out; then no page
is written.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.images import standins

PAGE = Path(__file__).parents[1] / "tour.md"
MACHINE = "linux/arm64" if platform.machine() in ("aarch64", "arm64") else "linux/amd64"
FRAMEWORKS = {"sklearn": "scikit-learn", "pytorch": "PyTorch", "keras": "keras on PyTorch"}
LISTEN = "127.0.0.1:5001"
WIDTH = 120  # characters of a line; what follows is cut
LIMIT = 1800  # seconds, of packages on a slow link
HEAD = """# From nothing to a served model

<!-- written by make tour -->

`make tour` wrote this page: each command has run as it stands here, in an empty folder, one after
the other. Times are those of a busy machine with two cores, rounded up. The data are
scikit-learn's digits, split among three learners:
"""
NO_INDEX = """`UV_INDEX` named an index with torch's wheels without CUDA. Without such an index,
add `--cpu` to `deps`, `image` and `project run`.
"""


class Tour:
    """Runs commands in a folder, and keeps what they say as a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page: list[str] = []
        self.labels: list[int] = []
        date = "2026-01-01T00:00:00Z"  # so that a commit has the same name each time
        names = {f"GIT_{who}_{what}": "me@example.org" for who in ("AUTHOR", "COMMITTER")
                 for what in ("NAME", "EMAIL")}  # fmt: skip
        self.environment = {
            **os.environ, **names, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date,
            "COLUMNS": "90", "NO_COLOR": "1", "HOME": str(folder),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip

    def say(self, text: str) -> None:
        """Add a paragraph to the page."""
        print(f"\n{text}\n", flush=True)
        self.page.append(f"{text}\n")

    def show(self, name: str, text: str) -> None:
        """Write a file, and show it."""
        (self.folder / name).write_text(text)
        self.page.append(f"`{name}`:\n\n```json\n{text}```\n")

    def run(self, *commands: str) -> None:
        """Run commands, and show what they say.

        Raises:
            SystemExit: one has failed.
        """
        lines = []
        for command in commands:
            print(f"$ {command}", flush=True)
            done = subprocess.run(
                shlex.split(command), cwd=self.folder, env=self.environment, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
            )  # fmt: skip
            print(done.stdout, flush=True)
            if done.returncode:
                sys.exit(f"{command} has failed, exit code {done.returncode}")
            lines += [f"$ {command}", *self.plain(done.stdout)]
        self.block(lines)

    def plain(self, text: str) -> list[str]:
        """Output without what is only of this machine and this day."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace(f"{self.folder}/", "")
        text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE)
        text = re.sub(r"\b(\d+)\.\d+ s\b( *│)?", _rounded_up, text)
        text = re.sub(r"^from the environment: FLOPS_BASE=\S+\n", "", text, flags=re.MULTILINE)
        return [_short(line.rstrip(), WIDTH) for line in text.splitlines() if line.strip()]

    def block(self, lines: list[str]) -> None:
        """Add lines of a terminal to the page."""
        mark = "<!-- run by docs/make/tour.py -->\n"
        self.page.append("\n".join([mark, "```console", *lines, "```\n"]))

    def predict(self, run: str) -> None:
        """Serve a run's model, ask it, and stop it.

        Raises:
            SystemExit: it does not answer, or answers wrong.
        """
        command = f"flops-fl serve {run} --listen {LISTEN}"
        print(f"$ {command} &", flush=True)
        server = subprocess.Popen(
            shlex.split(command), cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait(server)
            content = (self.folder / "digits.json").read_bytes()
            kind = {"Content-Type": "application/json"}
            asked = urllib.request.Request(f"http://{LISTEN}/invocations", content, kind)
            with urllib.request.urlopen(asked, timeout=LIMIT) as answer:
                said = answer.read().decode()
        finally:
            server.send_signal(signal.SIGTERM)
            out, _ = server.communicate(timeout=LIMIT)
            print(out, flush=True)
        classes = _classes(json.loads(said)["predictions"])
        print(f"{said}\n{classes}", flush=True)
        right = sum(map(int.__eq__, classes, self.labels))
        if right < len(self.labels) - 2:
            sys.exit(f"{run}: only {right} of {len(self.labels)} digits are right")
        address = f"http://{LISTEN}/invocations"
        ask = f"curl {address} -H 'Content-Type: application/json' -d @digits.json"
        self.block([f"$ {command} &", f"$ {ask}", *self.plain(_short(said, 90))])
        self.say(
            f"These are the digits {', '.join(map(str, classes))}. "
            f"{right} of {len(self.labels)} are right."
        )

    def write_question(self) -> None:
        """Ten digits of the data as MLflow's scoring protocol takes them; their labels are kept."""
        (file,) = (self.folder / "parts" / "part-2").glob("*.parquet")
        table = pq.read_table(file).slice(0, 10).to_pydict()
        self.labels = [int(label) for label in table["label"]]
        rows = []
        for image in table["image"]:
            pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])), np.float32)
            rows.append((pixels.ravel() / 255).round(4).tolist())
        (self.folder / "digits.json").write_text(json.dumps({"inputs": rows}))


def _wait(server: subprocess.Popen[str]) -> None:
    """Wait until a server listens.

    Raises:
        SystemExit: it ends instead.
    """
    host, _, port = LISTEN.rpartition(":")
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"the server has ended: {server.communicate()[0]}")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    sys.exit("the server does not listen after two minutes")


def _classes(predictions: list[Any]) -> list[int]:
    """The class of each row: what is predicted, or the place of the highest score."""
    return [int(np.argmax(each)) if isinstance(each, list) else int(each) for each in predictions]


def _rounded_up(found: re.Match[str]) -> str:
    """Seconds as whole ones; as wide as before in a table."""
    seconds = f"{int(found[1]) + 1} s"
    return seconds + found[2].rjust(len(found[0]) - len(seconds)) if found[2] else seconds


def _short(said: str, width: int) -> str:
    return said if len(said) <= width else f"{said[: width - 4]} ..."


def tour(folder: Path, *, images: bool) -> None:
    """Make the tour, and write the page after each framework."""
    here = Tour(folder)
    torch = " --cpu"
    if images:
        here.environment |= standins.base_image(folder)
        if (index := standins.torch_index(folder)) is not None:
            here.environment |= index
            torch = ""
    if images and not torch:
        here.say(NO_INDEX)
    here.run("flops-fl data partition digits --parts 3 --tag digits --out parts")
    here.write_question()
    here.say(
        "`digits.json` has ten of these digits, as rows of numbers from 0 to 1, for "
        "[MLflow's scoring protocol](use-the-model.md#a-server-that-predicts)."
    )
    for framework, title in FRAMEWORKS.items():
        repo = f"digits-{framework}"
        cpu = "" if framework == "sklearn" else torch
        here.say(f"## {title}")
        here.say("A new repository, its check, and a first training:")
        here.run(
            f"flops-fl init {repo} --framework {framework}",
            f"flops-fl check {repo} --data parts/part-0",
            f"flops-fl simulate {repo} --learners 3 --rounds 3 --data digits",
        )
        here.say("Its dependencies, with a lock, and the commit that images are made of:")
        if images:
            here.run(f"flops-fl deps {repo} --write --platform {MACHINE}{cpu}")
        here.run(
            f"git -C {repo} init -q", f"git -C {repo} add .", f"git -C {repo} commit -q -m model"
        )
        if images:
            here.say("The image of its learners:")
            here.run(
                f"flops-fl image {repo} --role learner --platform {MACHINE}{cpu} "
                f"--out images-{framework}"
            )
        steps = ["build_image_for_trained_model"] if images else []
        here.say("The project: what FLOps trains, and what is to follow.")
        here.show(f"{framework}.json", _sla(repo, framework, steps))
        here.run(
            f"flops-fl project run {framework}.json --data parts --learners 3 "
            f"--output runs/{framework}{cpu if images else ''}"
        )
        here.say("The best model of this run, served and asked:")
        here.predict(f"runs/{framework}")
        if images:
            PAGE.write_text("\n".join([HEAD, *here.page]))
            print(f"written: {PAGE}", flush=True)


def _sla(repo: str, framework: str, steps: list[str]) -> str:
    document = {
        "customerID": "Admin",
        "ml_repo_url": repo,
        "ml_model_flavor": framework,
        "supported_platforms": [MACHINE],
        "training_configuration": {
            "data_tags": ["digits"],
            "training_rounds": 5,
            "min_available_clients": 3,
            "min_fit_clients": 3,
            "min_evaluate_clients": 3,
        },
        "post_training_steps": steps,
    }
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    """Make the tour."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--no-images", action="store_true", help="leave images out")
    images = not parser.parse_args().no_images
    with tempfile.TemporaryDirectory(prefix="flops-tour-") as folder:
        tour(Path(folder), images=images)


if __name__ == "__main__":
    main()

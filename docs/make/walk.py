"""`make walk`: follow the README and the docs in a fresh clone, as a newcomer would.

Two bare environments, a learner's and an aggregator's, get what the README installs for them, from
the package registry. Then each block of commands runs as it is printed, in order; those that are
marked as not run are left out, and a page's files and lines of Python are taken from the page.
Each page has a clone of its own. `here` puts a reader's own names in the place of example.org's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from pathlib import Path

from tests.pages import COMMAND, ROOT, Block, files, marked

PAGES = ("first-repository", "use-the-model", "several-machines", "hierarchy", "flower")
MACHINES = {"root": "127.0.0.1", "a": "127.0.0.2", "b": "127.0.0.3"}
LIMIT = 900  # seconds, of an installation on a slow link
# scp FILE ... HOST: from the folder of a machine to that of another
SCP = """#!/bin/bash
set -e
to="${@: -1}"
cp "${@:1:$#-1}" "$MACHINES/${to%:}/"
"""


def machines(text: str) -> list[tuple[str, str]]:
    """Machine and commands of each block in the README's section on three machines."""
    found = []
    for block in marked(text.partition("on three machines")[2].partition("\n## ")[0]):
        *_, where = re.findall(r"[Oo]n (?:`(\w)\.example\.org`|the (root) node)", block.before)
        found.append(("".join(where), block.text))
    return found


def here(commands: str, repo: Path, data: Path, port: int) -> str:
    """Commands of the README with a reader's own repository, data and addresses."""
    ours = {
        "https://example.org/me/model.git@v1": str(repo),
        "--data /data --data-tags mnist": f"--data {data}",
        "0.0.0.0:8080": f"{MACHINES['root']}:{port}",
        "root.example.org:8080": f"{MACHINES['root']}:{port}",
    }
    for printed, own in ours.items():
        commands = commands.replace(printed, own)
    return re.sub(r"\b(root|a|b)\.example\.org", lambda m: MACHINES[m[1]], commands)


def free_port(host: str) -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Walk:
    """Runs commands in clones and environments below a folder, and says how it went."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = folder / "tools"
        self.tools.mkdir(parents=True)
        (self.tools / "scp").write_text(SCP)
        (self.tools / "scp").chmod(0o755)
        for who in ("aggregator", "learner"):
            venv.create(folder / who, with_pip=True)

    def clone(self, name: str) -> Path:
        """A fresh clone of this repository's last commit."""
        place = self.folder / "clones" / name
        subprocess.run(["git", "clone", "-q", ROOT, place], check=True)
        return place

    def start(self, who: str, commands: str, where: Path) -> subprocess.Popen[str]:
        """Start commands of a shell in one of the two environments."""
        path = os.pathsep.join([f"{self.folder}/{who}/bin", str(self.tools), os.environ["PATH"]])
        hidden = ("FLOPS_", "PYTHON", "VIRTUAL_ENV")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        return subprocess.Popen(
            ["bash", "-ec", commands],
            cwd=where,
            env={**inherited, "PATH": path, "MACHINES": str(self.folder / "machines")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], page: str, said: str, begun: float) -> None:
        """Wait for commands; the walk ends here if they fail."""
        out, _ = process.communicate(timeout=LIMIT)
        shown = " && ".join(line for line in said.replace("\\\n", " ").split("\n") if line)
        shown = re.sub(r"\s+", " ", shown).replace("python - <<'END' && import flops_fl && ", "")
        told = "ok" if process.returncode == 0 else f"exit code {process.returncode}"
        print(f"{page}: {shown[:100]} ... {told}, {time.monotonic() - begun:.0f} s", flush=True)
        if process.returncode:
            sys.exit(f"{said}\n{out}")

    def run(self, who: str, page: str, commands: str, where: Path) -> None:
        """Run commands to their end."""
        self.finish(self.start(who, commands, where), page, commands, time.monotonic())


def readme(walk: Walk) -> None:
    """Install what the README says, simulate, and train on three machines."""
    text = (ROOT / "README.md").read_text()
    clone = walk.clone("README")
    for command in re.findall(r"`(pip install [^`]+)`", text):
        walk.run("learner", "README (learner)", command, clone)
    three = machines(text)
    known = {commands for _, commands in three}
    (block,) = (b for b in marked(text) if not b.left_out and b.text not in known)
    install, _, rest = block.text.partition("\n")
    walk.run("aggregator", "README", install, clone)
    (cut,) = re.findall(r"`(flops-fl data partition [^`]+)`", text)
    walk.run("aggregator", "README", cut, clone)
    shutil.copytree(clone / "examples" / "numpy_minimal", clone / "path" / "to" / "repo")
    shutil.copy(next((clone / "parts" / "part-0").iterdir()), clone / "my.parquet")
    walk.run("aggregator", "README", rest.strip(), clone)

    places = {name: walk.folder / "machines" / address for name, address in MACHINES.items()}
    for place in places.values():
        place.mkdir(parents=True)
    # "and on b with the files of learner-b"
    three.append(("b", three[-1][1].replace("learner-a", "learner-b")))
    port, actors = free_port(MACHINES["root"]), []
    for name, commands in three:
        who = "aggregator" if name == "root" else "learner"
        data = clone / "parts" / f"part-{'ab'.find(name)}"
        ours = here(commands, clone / "examples" / "numpy_minimal", data, port)
        before, python, actor = ours.partition("python -m")
        if before:
            walk.run(who, f"README ({name})", before, places[name])
        if python:
            started = walk.start(who, python + actor, places[name])
            actors.append((started, f"README ({name})", python + actor, time.monotonic()))
    for started in actors:
        walk.finish(*started)


def follow(walk: Walk, page: str) -> None:
    """Run a page's blocks; the environment is the aggregator's, which can do all on one machine."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    clone = walk.clone(page)
    shown = files(text)
    for name, content in shown.items():
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(content)
    for block in marked(text):
        for commands in _commands(block):
            if block.text not in shown.values():
                walk.run("aggregator", page, commands, clone)


def _commands(block: Block) -> list[str]:
    if block.left_out:
        return []
    if block.language == "python":
        lines = "import flops_fl\n" + block.text.removeprefix("import flops_fl\n")
        return [f"python - <<'END'\n{lines}END"] if "flops_fl." in block.text else []
    if block.text.startswith("$ "):  # with what it prints
        return re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.M)
    return [block.text] if COMMAND.search(block.text) else []


def main() -> None:
    """Follow all pages."""
    with tempfile.TemporaryDirectory(prefix="flops-walk-") as folder:
        walk = Walk(Path(folder) / "walk")
        readme(walk)
        for page in PAGES:
            follow(walk, page)
        # A shell's `wait` does not tell how those in the background ended.
        results = sorted(walk.folder.rglob("runs/*/result.json"))
        ends = [json.loads(file.read_text())["status"] for file in results]
        print(f"{len(ends)} runs:", *(f"{n} {end}" for end, n in Counter(ends).items()))
        sys.exit(set(ends) != {"completed"})


if __name__ == "__main__":
    main()

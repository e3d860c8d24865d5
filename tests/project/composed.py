"""The services of a compose file as processes on this machine, where no orchestrator is."""

import re
from pathlib import Path

import yaml

from flops_fl.images.config import Origin, code
from tests.trees import free_address

ORIGIN = Origin("numpy", "", "", 0, "", "")
MODULES = {("python", "main.py"): "main", ("python", "-m", "flops_fl"): "flops_fl"}


class Composed:
    """Starts services as Compose would, with `repo` where an image has its repository.

    Hosts are ports of this machine; volumes and secrets are folders and files of it.
    """

    def __init__(self, file, repo, processes):
        document = yaml.safe_load(file.read_text().replace("$$", "$"))
        self.services = document["services"]
        self._folder = file.parent
        self._secrets = document.get("secrets", {})
        self._repo = repo
        self._processes = processes
        self._ports = {}

    def address(self, name, port):
        """Where a service's port is on this machine."""
        return self._ports.setdefault((name, str(port)), free_address())

    def command(self, name):
        """A service's entry point, arguments and environment, with addresses of this machine."""
        service = self.services[name]
        environ = {**service["environment"], **self._env_files(service)}
        return (
            service.get("entrypoint", ["python", "main.py"]),
            [self._address_in(word, name) for word in service["command"]],
            {key: self._address_in(value, name) for key, value in environ.items()},
        )

    def start(self, name):
        """Start a service's command; once more, too."""
        entry, words, environ = self.command(name)
        size = 3 if entry[1] == "-m" else 2
        if size == 2:
            environ["PYTHONPATH"] = str(self._main(self.services[name]["image"]))
        words = [self._path_in(word, name) for word in (*entry[size:], *words)]
        environ = {key: self._path_in(value, name) for key, value in environ.items()}
        return self._processes.start(MODULES[tuple(entry[:size])], *words, env=environ)

    def _path_in(self, text, name):
        """The text with the folders of volumes and the files of secrets on this machine."""
        service = self.services[name]
        for mount in service.get("volumes", ()):
            volume, _, target = mount.partition(":")
            text = text.replace(target, str(self._folder / "volumes" / volume))
        for secret in service.get("secrets", ()):
            file = self._folder / self._secrets[secret["source"]]["file"]
            text = str(file) if text == secret["target"] else text
        return text

    def _address_in(self, text, name):
        """The text with addresses of this machine, where services have theirs."""
        text = re.sub(r"0\.0\.0\.0:(\d+)", lambda found: self.address(name, found[1]), text)
        pattern = rf"\b({'|'.join(self.services)}):(\d+)"
        return re.sub(pattern, lambda found: self.address(found[1], found[2]), text)

    def _env_files(self, service):
        for each in service.get("env_file", ()):
            file = self._folder / each["path"]
            if file.exists() or each["required"]:
                return dict(line.split("=", 1) for line in file.read_text().split())
        return {}

    def _main(self, image):
        """The folder of an image's main.py."""
        role = re.fullmatch(r".*/(learner|aggregator):.*", image)[1]
        folder = self._folder / "images" / role
        folder.mkdir(parents=True, exist_ok=True)
        (main,) = (each for each in code(role, Path(), [], ORIGIN) if each.path == "app/main.py")
        (folder / "main.py").write_bytes(
            main.content.replace(b"/app/repo", str(self._repo).encode())
        )
        return folder

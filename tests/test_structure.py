"""The shape of the source tree, as sentences."""

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [p for room in ("flops_fl", "learner", "aggregator") for p in (ROOT / room).rglob("*.py")]

# A room may import from rooms of a lower rank, and from itself.
RANKS = {
    "__init__": 0,
    "types": 1,
    "errors": 0,
    "extras": 0,
    "limits": 0,
    "text": 0,
    "dtypes": 0,
    "net": 1,
    "process": 2,
    "options": 3,
    "data": 4,
    "pki": 4,
    "repo": 4,
    "wire": 5,
    "core": 5,
    "flower": 6,
    "run": 7,
    "observers": 8,
    "actors": 9,
    "check": 10,
    "init": 10,
    "use": 10,
    "images": 11,
    "project": 12,
    "commands": 13,
    "table": 14,
    "cli": 15,
    "__main__": 16,
    "manager": 16,
    "learner": 16,
    "aggregator": 16,
}
TOP = {
    *(".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"),
    *("aggregator", "benchmarks", "docs", "examples", "flops_fl", "learner", "mkdocs.yml"),
    *("pyproject.toml", "requirements.lock", "tests"),
}
NOT_IN = {
    "core": {"grpc", "datasets", "torch", "sklearn", "mlflow", "socket", "flops_fl.repo"},
    "wire": {"datasets", "torch", "sklearn", "mlflow", "flops_fl.core", "flops_fl.repo"},
    "repo": {"grpc", "torch", "sklearn", "mlflow"},
}
# Only these rooms may import a package.
AT_HOME = {"flwr": ("flower",), "grpc": ("net", "wire", "flower"), "mlflow": ("observers",)}


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "flops_fl":
        return parts[0]
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_go_one_way(file: Path) -> None:
    own = room_of(module_of(file))
    for name in imports_of(file):
        if name.split(".")[0] in ("flops_fl", "learner", "aggregator"):
            other = room_of(name)
            if other in RANKS:
                assert other == own or RANKS[other] < RANKS[own], f"{own} imports {name}"


@pytest.mark.parametrize("room", NOT_IN)
def test_a_room_does_not_know_what_is_not_its_business(room: str) -> None:
    for file in (ROOT / "flops_fl" / room).rglob("*.py"):
        for name in imports_of(file):
            known = [f for f in NOT_IN[room] if name == f or name.startswith(f + ".")]
            assert not known, f"{file} imports {name}"


@pytest.mark.parametrize("package", AT_HOME)
def test_a_package_is_imported_in_its_own_rooms_only(package: str) -> None:
    for file in FILES:
        if any(name.split(".")[0] == package for name in imports_of(file)):
            assert room_of(module_of(file)) in AT_HOME[package], f"{file} imports {package}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_files_are_short_enough_to_be_read(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300


def test_nothing_lies_about_at_the_top() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("a copy without Git")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {Path(name).parts[0] for name in listed.stdout.splitlines()} == TOP


def test_what_is_not_python_is_packaged_too() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packaged = set(project["tool"]["setuptools"]["package-data"]["flops_fl"])
    packaged.remove("init/templates/*/*.py")  # in no package
    others = {p for p in (ROOT / "flops_fl").rglob("*.*") if p.suffix not in (".py", ".pyc")}
    assert {str(p.relative_to(ROOT / "flops_fl")) for p in others} == packaged


def test_only_the_public_part_of_flower_is_used() -> None:
    public = (
        "flwr.app",
        "flwr.client",
        "flwr.clientapp",
        "flwr.common",
        "flwr.proto",
        "flwr.server",
        "flwr.serverapp",
    )
    deprecated = {"start_server", "start_client", "start_numpy_client", "aggregate_inplace"}
    used = {name for file in FILES for name in imports_of(file) if name.startswith("flwr")}
    assert used
    for name in used:
        assert name.startswith(public), name
        assert not name.startswith("flwr.proto.") or name == "flwr.proto.transport_pb2"
        assert not deprecated & set(name.split(".")), name

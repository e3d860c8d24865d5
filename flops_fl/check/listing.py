"""What a repository's dependency file says wrongly, too much or too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from flops_fl.check.code import Code
from flops_fl.check.finding import Finding, error, warning
from flops_fl.errors import RepositoryError
from flops_fl.repo.dependencies import misnamed
from flops_fl.repo.environment import (
    NAMES,
    Entry,
    Environment,
    python_versions,
    read_environment,
)
from flops_fl.repo.imports import (
    CONTRACT,
    Import,
    distributions_of,
    unlisted,
    unused,
)
from flops_fl.repo.runtime import OURS, RUNTIME, Need, against


def check_listing(code: Code) -> list[Finding]:
    """The mistakes in a repository's conda.yaml or conda.yml, beside what its code imports."""
    folder = code.folder
    imports: list[Import] | None = None
    with suppress(RepositoryError):  # `check_code` says where the code is no Python
        imports = [each for each in code.imports if each.module not in CONTRACT]
    there = [name for name in NAMES if (folder / name).exists()]
    try:
        environment = read_environment(folder)
    except RepositoryError as raised:
        remedy = "write a name, channels and a list of dependencies, as conda does"
        return [error("conda-file", there[0], raised.line or 1, str(raised), remedy)]
    found = [
        warning(
            "conda-file", name, 1, f"{name} is not read, since there is {there[0]}, too",
            "keep one of the two",
        )
        for name in there[1:]
    ]  # fmt: skip
    if environment is None:
        return [_no_file(folder, imports or [])]
    return [*found, *_mistakes(environment, imports)]


def _no_file(folder: Path, imports: list[Import]) -> Finding:
    packages = sorted({distributions_of(each.module)[0] for each in imports if not each.optional})
    remedy = f"write conda.yaml with dependencies: [{', '.join(['python>=3.11', *packages])}]"
    other, said = misnamed(folder)
    return warning(
        "conda-file", other or NAMES[0], 1,
        "there is no dependency file: no image can be built, and the model in MLflow will not say "
        "what it needs",
        said or remedy,
    )  # fmt: skip


def _mistakes(environment: Environment, imports: list[Import] | None) -> Iterator[Finding]:
    file, entries = environment.file.name, environment.entries
    for slip in environment.slips:
        yield warning("conda-slip", file, slip.line, slip.what, slip.remedy)
    idle = [] if imports is None else unused(imports, entries)
    for entry in entries:
        if not entry.is_readable:
            what = f"{entry.text!r} is no requirement that pip can read"
            yield error(
                "requirement", file, entry.line, what, "write NAME==VERSION, with two '=' for pip"
            )
        elif need := _against(entry):
            yield _impossible(file, entry, need, is_idle=entry in idle)
        elif entry in idle:
            yield warning(
                "never-used", file, entry.line,
                f"{entry.text} is listed, but the code imports nothing of it, nor does anything "
                "that it imports need it",
                "take the line out: it makes every image larger",
            )  # fmt: skip
    for each in unlisted(imports or [], entries):
        rule, file = "import-not-listed", each.found.file
        what = f"{each.found.module} is imported, but {environment.file.name} does not list it"
        remedy = f"add {each.distribution} to {environment.file.name}"
        if each.comes_with:
            by = "the runtime" if each.comes_with == RUNTIME else each.comes_with
            what += f"; it comes with {by}, in any version"
            yield warning(rule, file, each.found.line, what, remedy)
        else:
            yield error(rule, file, each.found.line, what, remedy)


def _against(entry: Entry) -> Need | None:
    if entry.name == "python":
        try:
            return against("python", SpecifierSet(python_versions(entry)))
        except InvalidSpecifier:  # conda's alternatives: 3.11|3.12
            return None
    return against(entry.name, entry.requirement.specifier) if entry.requirement else None


def _impossible(file: str, entry: Entry, need: Need, *, is_idle: bool) -> Finding:
    """A pin that the runtime drops is a warning, any other one an error."""
    what = f"{entry.text} is impossible beside the runtime: {need}"
    if entry.name in OURS or entry.name == "python":
        what += ". This pin is dropped"
        remedy = f"ask for {need.versions}" if entry.name == "python" else "take the line out"
        if entry.name != "python" and not is_idle:
            remedy = f"ask for {need.versions}, or for no version"
        return warning("pin-dropped", file, entry.line, what, remedy)
    return error("pin-impossible", file, entry.line, what, f"ask for {need.versions}")

"""`flops-fl check`: what a federation would find wrong with a repository, before there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flops_fl.check.code import CLASS, MODULE, Code, Place, check_code
from flops_fl.check.draws import unseeded_draw
from flops_fl.check.finding import Finding, error, ordered
from flops_fl.check.listing import check_listing
from flops_fl.check.report import Order, Remark, order_of
from flops_fl.check.trial import run_trial
from flops_fl.errors import RepositoryError
from flops_fl.options.check import CheckOptions
from flops_fl.process.answer import Answer
from flops_fl.process.signals import raise_on_signals
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.dependencies import installed_requirements
from flops_fl.repo.source import checkout
from flops_fl.text import amount, counted, without_secrets

BROKEN = RepositoryError.exit_code


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a repository, and measured."""

    findings: Sequence[Finding]
    facts: Mapping[str, Any]

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors


def check(options: CheckOptions, answer: Answer) -> int:
    """Check a repository and print what was found; the exit code is 3 if there is an error.

    Raises:
        UsageError: there is no such repository, or no such data.
    """
    raise_on_signals()
    found = _checked(options)
    if options.json_:
        document = {
            "repo": without_secrets(options.repo),
            "errors": found.errors,
            "warnings": found.warnings,
        }
        listed = [asdict(finding) for finding in found.findings]
        answer.give({**document, "findings": listed, "facts": dict(found.facts)})
    else:
        _print(found, Console(file=answer.apart(), highlight=False), tried=bool(options.data))
    return BROKEN if found.errors else 0


def _checked(options: CheckOptions) -> Checked:
    try:
        with (
            checkout(options.repo) as repo,
            temporary_folder("flops-fl-check-") as kept,
        ):
            strategy = options.strategy or ("FedAvg" if options.strategy_option else "")
            order = replace(
                order_of(options, repo.path, kept, kind="built", limit=options.timeout),
                strategy=strategy,
                strategy_option=options.strategy_option,
            )
            found = check_repository(order)
            return replace(found, facts={"commit": repo.commit, **found.facts})
    except RepositoryError as raised:  # no model_manager.py
        return Checked([error("no-file", "model_manager.py", 1, str(raised), "write it")], {})


def check_repository(order: Order) -> Checked:
    """Check a repository, first without running it, and then in processes of their own.

    Args:
        order: A trial of the kind ``built``.

    Raises:
        UsageError: there are no such data.
    """
    folder = Path(order.folder)
    code = Code(folder)
    findings, facts = [*check_code(code), *check_listing(code)], {}
    if not any(each.rule in UNBUILT for each in findings):
        tried = run_trial(order)
        if order.data is not None and not any(_ends(each) for each in tried.remarks):
            fitted = str(tried.facts.pop("fitted", ""))
            again = run_trial(replace(order, kind="trained", fitted=fitted))
            tried.remarks += again.remarks
            tried.facts |= again.facts
        findings += [_placed(remark, code) for remark in tried.remarks]
        facts = tried.facts | {"others": list(_other_versions(folder))}
    return Checked(ordered(findings), facts)


UNBUILT = {"syntax", "no-file", "no-class", "no-method", "signature"}
"""Findings with which nothing can be built."""


def _ends(remark: Remark) -> bool:
    """Whether a trial with data would end where the one without data has ended."""
    return remark.rule.startswith("fails-") or remark.rule in ("hangs", "crashes", "exits")


def _other_versions(folder: Path) -> Iterator[str]:
    try:
        yield from installed_requirements(folder)[1]
    except RepositoryError:  # a finding by itself
        return


def _placed(remark: Remark, code: Code) -> Finding:
    """The finding of a remark, with its place in the source."""
    what, remedy, place = remark.what, remark.remedy, _place(remark, code)
    if remark.rule == "unseeded":
        draw = unseeded_draw(code.folder)
        remedy = (
            "look for threads that race, for the order of a set of strings, and for operations "
            "on a GPU (docs/ml-repositories.md, Repeatable training)"
        )
        if draw:
            place = draw[0]
            what += f": {draw[1]} takes its seed from the machine"
            remedy = "draw from the global generators, which the runtime seeds, or give a seed"
    if not remark.rule.startswith("fails-"):  # those are whole sentences
        whose = f"{MODULE}.py" if remark.stage == "import" else f"{CLASS}.{remark.stage}"
        what = f"{whose}: {what}"
    return Finding(
        rule=remark.rule, severity=remark.severity, file=place.file, line=place.line,
        what=what, remedy=remedy, traceback=remark.traceback,
    )  # fmt: skip


def _place(remark: Remark, code: Code) -> Place:
    """The last line of the repository's own code in a traceback, or else the stage's method."""
    for file, line in reversed(re.findall(r'File "(.*?)", line (\d+)', remark.traceback)):
        if Path(file).is_relative_to(code.folder) and "site-packages" not in file:
            return Place(str(Path(file).relative_to(code.folder)), int(line))
    named = code.assignment(remark.attribute) if remark.attribute else None
    return named or code.place(remark.stage)


# -- for a person ----------------------------------------------------------------------------


def _print(found: Checked, console: Console, *, tried: bool) -> None:
    for finding in found.findings:
        if finding.traceback:
            console.print(finding.traceback.rstrip("\n"), markup=False, soft_wrap=True)
    if found.findings:
        table = Table(show_lines=True)
        for head in ("", "where", "what", "what to do"):
            table.add_column(head, overflow="fold")
        for finding in found.findings:
            style = "red" if finding.severity == "error" else "yellow"
            cells = (f"{finding.file}:{finding.line}", finding.what, finding.remedy)
            table.add_row(f"[{style}]{finding.severity}[/]", *map(escape, cells))
        console.print(table)
    for line in _facts(found.facts):
        console.print(line, markup=False, soft_wrap=True)
    said = f"{counted(found.errors, 'error')}, {counted(found.warnings, 'warning')}"
    if not tried:
        said += "; nothing was fitted: give --data to try that"
    console.print(said, markup=False, soft_wrap=True)


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    """The figures, a line each."""
    if others := facts.get("others"):
        yield f"not the versions that the repository asks for: {'; '.join(others)}"
    if "tensors" in facts:
        kind = "opaque item" if facts["opaque"] else "tensor"
        yield f"model: {counted(facts['tensors'], kind)}, {amount(facts['model_bytes'], 'bytes')}"
        if facts["opaque"]:
            yield (
                "strategy: one that knows this model, such as FedXgbBagging "
                "(docs/operation.md, Models that have no mean)"
            )
    if "seconds" in facts:
        took = facts["seconds"]
        if given := facts["config"]:
            yield f"config of the fit: {', '.join(f'{name} = {given[name]}' for name in given)}"
        yield f"fit: {facts['samples']} samples in {took['fit']:.2f} s"
        yield (
            f"evaluation: {facts['test_samples']} samples in {took['evaluate']:.2f} s, loss "
            f"{facts['loss']:.4f}, accuracy {facts['accuracy']:.4f}"
        )
        yield f"on the wire: {amount(facts['update_bytes'], 'bytes')} an update"
        yield f"peak memory of a learner: {amount(facts['peak_memory'], 'bytes')}"
        if facts.get("repeatable"):
            yield "repeatable: two processes gave the same model, to the bit"

"""Learners are grouped by commit, versions and state: reported once, and briefly for thousands."""

from flops_fl.run.census import LISTED, MOST, Census
from flops_fl.types import Setup

OURS = Setup(commit="aaaaaaaaaaaaaa", versions={"numpy": "2.2.0", "torch": "2.13.0"}, state="12ab")


def census(joining):
    said = []
    seen = Census(OURS, said.append)
    for learner, setup in joining:
        seen.on_join(learner, setup)
    seen.on_stage(1, "fit", [])
    return seen, said


def test_equal_differences_are_one_sentence():
    other = Setup(commit="bbbbbbbbbbbbbb+changes", versions={"numpy": "2.2.0"})
    seen, said = census([*((f"l{n}", other) for n in range(5)), ("good", OURS)])
    (line,) = said
    assert line.startswith(
        "l0, l1, l2 and 2 more have commit bbbbbbbbbb+changes, this aggregator has aaaaaaaaaa"
    )
    seen.on_join("l9", other)
    seen.on_stage(2, "fit", [])
    assert len(said) == 1
    different, alike = seen.document()["learners"]
    assert (different["count"], alike["count"]) == (6, 1)
    assert different["commit"] == "bbbbbbbbbbbbbb+changes"
    assert alike["differences"] == []


def test_what_is_not_known_is_no_difference():
    older = Setup(versions={"pandas": "1"})
    assert census([("older", older), ("nameless", Setup())])[1] == []
    assert census([("l", Setup(versions={"torch": "2.12.0"}))])[1] == [
        "l has torch 2.12.0, this aggregator has 2.13.0: --mismatch refuse keeps out what differs"
    ]
    (line,) = census([("l", Setup(state="99ff"))])[1]
    assert "state outside the parameters (frozen weights, buffers) 99ff" in line


def test_thousands_of_hostile_setups_stay_few_and_printable():
    joining = [(f"l{n:04}", Setup(commit=f"\x1b[31m{n}" * 1000)) for n in range(3000)]
    seen, said = census(joining)
    assert len(said) == MOST
    assert all(line.isprintable() and len(line) < 300 for line in said)
    groups = seen.document()["learners"]
    assert len(groups) == MOST + 1
    assert sum(group["count"] for group in groups) == 3000
    assert max(len(group["learners"]) for group in groups) == LISTED


def test_a_learner_that_comes_again_counts_once():
    seen, _ = census([("l", Setup(commit="b")), ("l", OURS)])
    (group,) = seen.document()["learners"]
    assert group["learners"] == ["l"]
    assert group["commit"] == OURS.commit

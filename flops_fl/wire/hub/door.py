"""Admission: decides from its Hello whether a learner is let in. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flops_fl.text import sentence
from flops_fl.types import Setup
from flops_fl.wire.messages import PROTOCOL, Hello, Refusal

_ID = re.compile(r"[\w.@:+=-]{1,128}")
_NUMBERED = re.compile(r"flower-\d+")  # the names given to Flower clients that have none


def judge(
    hello: Hello,
    certified: Sequence[str] | None,
    *,
    fingerprint: str,
    setup: Setup | None,
    anonymous: bool,
    closing: bool,
) -> Refusal | None:
    """Why a learner is not let in; None if it is.

    Args:
        certified: Names in its certificate; None without mutual TLS.
        fingerprint: Of the global model's tensors; the learner's must be equal.
        setup: The aggregator's setup if the learner's must equal it; None if it may differ.
        anonymous: Whether the aggregator chose the client's name.
        closing: Whether the aggregator is about to end.
    """
    if hello.protocol != PROTOCOL:
        return Refusal(
            reason=f"protocol version {hello.protocol}, this aggregator speaks {PROTOCOL}: "
            "install the same version of flops-fl on both"
        )
    refusal = _judge_name(hello.learner, certified, anonymous=anonymous)
    refusal = refusal or _judge_model(hello, fingerprint, setup)
    if refusal is None and closing:
        refusal = Refusal(reason="the aggregator is closing", retry=True)
    return refusal


def _judge_name(name: str, certified: Sequence[str] | None, *, anonymous: bool) -> Refusal | None:
    shown = repr(sentence(name, 60))
    if certified is not None and name not in certified:
        return Refusal(
            reason=f"learner id {shown} is not in the certificate, which names "
            f"{', '.join(certified) or 'nobody'}: use that id, or another certificate"
        )
    if not _ID.fullmatch(name):
        return Refusal(reason=f"learner id {shown}: expected 1 to 128 letters, digits or _.@:+=-")
    if _NUMBERED.fullmatch(name) and not anonymous:
        return Refusal(
            reason=f"learner id {shown} is reserved for Flower clients without a name: choose "
            "another --learner-id"
        )
    return None


def _judge_model(hello: Hello, fingerprint: str, setup: Setup | None) -> Refusal | None:
    if hello.fingerprint != fingerprint:
        return Refusal(
            reason="the model's tensors differ from the aggregator's in number, shape or "
            "dtype: use the same commit of the ML repository on both"
            + (f" (this learner has {sentence(hello.commit, 80)})" if hello.commit else "")
        )
    differences = setup.differences(hello.setup) if setup else ()
    if differences:
        found = sentence("; ".join(map(str, differences)), 160)
        return Refusal(
            reason=f"this learner has {found} (--mismatch refuse): use the same commit and "
            "packages on both"
        )
    return None

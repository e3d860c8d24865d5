"""Admission: decides from its Hello whether a learner is let in. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from flops_fl.net.identity import EXPECTED, is_name, is_numbered
from flops_fl.text import sentence
from flops_fl.types import Setup
from flops_fl.wire.messages import PROTOCOL, Hello, Refusal


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
    if not is_name(name):
        return Refusal(reason=f"learner id {shown}: {EXPECTED}")
    if is_numbered(name) and not anonymous:
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

"""Options that say who is told of a training's start and end."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from flops_fl.options.common import Options
from flops_fl.options.described import RESULTS, option
from flops_fl.options.kinds import ExistingFile, Targets


class NoticeOptions(Options):
    notify: Targets = option(
        "whom to tell of start, success and failure: a broker (mqtt://HOST, mqtts://HOST), a "
        "listener (tcp://HOST) or a webhook (https://HOST/PATH); may be repeated",
        RESULTS,
        [],
        metavar="URL",
        repeated=True,
        advanced=True,
    )
    notify_ca: ExistingFile | None = option(
        "authority of their certificates, PEM; default: the system's",
        RESULTS,
        None,
        metavar="FILE",
        advanced=True,
    )

    @model_validator(mode="after")
    def _needed(self) -> Self:
        if self.notify_ca and not any(target.encrypted for target in self.notify):
            raise ValueError(
                "--notify-ca is for --notify mqtts:// or https://: give that, or leave it"
            )
        return self

"""The no-op learner as an NVFlare script: it trains and evaluates nothing; site-1 keeps time."""

import json
import sys
import time
from pathlib import Path

import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel

flare.init()
marks = []
while flare.is_running():
    received = flare.receive()
    if received is None:
        break
    marks.append(time.monotonic())
    if flare.get_site_name() == "site-1":
        Path(sys.argv[1]).write_text(json.dumps(marks))
    flare.send(FLModel(params=received.params, metrics={"accuracy": 0.5}))

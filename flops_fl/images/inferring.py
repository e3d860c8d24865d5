"""One cycle under MLflow's eyes: ``python -m flops_fl.images.inferring ORDER ANSWER``.

It is a process of its own, since it runs user code. ORDER is a JSON document, ANSWER the file for
the answer.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from flops_fl.data.local import place_of
from flops_fl.errors import FlopsError
from flops_fl.options.data import DataOptions
from flops_fl.options.reading import build
from flops_fl.process.libraries import prepare_libraries


def main() -> None:
    """Train and evaluate once, and write which packages MLflow finds."""
    order = json.loads(sys.argv[1])
    prepare_libraries(threads=1)
    logging.disable(logging.CRITICAL)

    from flops_fl.observers.flavors import inferred_requirements
    from flops_fl.use.repository import built

    answer: dict[str, Any]
    try:
        data = build(DataOptions, order["data"])
        model = built(Path(order["folder"]), place_of(data), data.data_tags, order["learner"])
        if data.data:
            model.fit()
            model.evaluate()
        with tempfile.TemporaryDirectory(prefix="flops-deps-") as folder:
            answer = {"requirements": inferred_requirements(model.model(), Path(folder))}
    except FlopsError as error:
        answer = {"error": str(error), "code": error.exit_code}
    except Exception as error:  # MLflow's own, which raises many kinds
        answer = {"error": f"{type(error).__name__}: {error}", "code": 1}
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()

"""What MLflow runs to load a model of which it knows no format: it is copied beside the model.

So it stands alone: where the model is loaded, there is no flops-fl.
"""

import os
from functools import partial
from typing import Any

from mlflow import models, pyfunc


class Held(pyfunc.PythonModel):  # type: ignore[misc]
    """Holds the user's object, and predicts with it if it can."""

    held: Any

    # No type hints: MLflow would derive a schema from them.
    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Read the object; the artifact's name says what has written it."""
        (kind, path), *_ = context.artifacts.items()
        package, _, backend = kind.partition("-")
        if package == "keras":
            os.environ.setdefault("KERAS_BACKEND", backend)
            import keras

            self.held = keras.saving.load_model(path)
            self.held.predict = partial(self.held.predict, verbose=0)
            return
        import cloudpickle

        with open(path, "rb") as file:
            self.held = cloudpickle.load(file)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """What the object's own `predict` gives."""
        return self.held.predict(model_input)


models.set_model(Held())

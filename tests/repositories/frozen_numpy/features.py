"""A projection that is drawn once in a process and kept, as caches of big models are."""

import functools

import numpy as np


@functools.cache
def projection(inputs, width):
    """Random directions (Rahimi and Recht 2007, "Random Features")."""
    return np.random.standard_normal((inputs, width)).astype(np.float32)

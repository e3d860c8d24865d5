"""Lines of `flops-fl pki` and what wrong ones say."""

import pytest

ROOT = "--role aggregator --host Root.example.org,10.0.0.1,[fd00::1],root.example.org"


def wrong(error, command, line):
    with pytest.raises(error) as caught:
        command(line)
    assert "\n" not in str(caught.value)
    return str(caught.value)

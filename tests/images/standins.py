"""What images are made of where Docker's registry or PyTorch's index cannot be reached."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tests.images import machine

REGISTRY = "https://registry-1.docker.io/v2/"
TORCH = "https://download.pytorch.org/whl/cpu/torch/"


def base_image(folder: Path) -> dict[str, str]:
    """The environment's variable for a base image; none where Docker's registry has it."""
    if "FLOPS_BASE" in os.environ or _reached(REGISTRY):
        return {}
    print("Docker's registry cannot be reached: the base is this machine's own Python", flush=True)
    return {"FLOPS_BASE": str(machine.base(folder / "base"))}


def torch_index(folder: Path) -> dict[str, str] | None:
    """The environment's variable for an index of torch's wheels without CUDA.

    The wheel is the one that pip has installed here, if it is without CUDA: pip may know a mirror.

    Returns:
        None where PyTorch's own index can be reached.
    """
    if _reached(TORCH):
        return None
    version = importlib.metadata.version("torch")
    if "UV_INDEX" in os.environ or "+cu" in version:
        print("PyTorch's index cannot be reached: torch is the common index's", flush=True)
        return {}
    print(f"PyTorch's index cannot be reached: torch is pip's, {version}", flush=True)
    wheels = folder / "torch"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels]
    subprocess.run([*command, f"torch=={version}"], check=True)
    (wheel,) = wheels.glob("*.whl")
    page = folder / "index" / "torch" / "index.html"  # as PEP 503 has it
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="{urllib.parse.quote(str(wheel))}">{wheel.name}</a>')
    return {"UV_INDEX": str(folder / "index")}


def _reached(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=20).close()
    except urllib.error.HTTPError:  # it wants a login
        return True
    except OSError:
        return False
    return True

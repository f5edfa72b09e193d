"""How this package is started in a process of its own, wherever it lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PYTHON = (sys.executable, "-P", "-m")  # -P: no module of the current folder
PACKAGES = Path(__file__).parents[2]  # the folder that holds cfl_edge


def child_environment() -> dict[str, str]:
    """Return an environment in which `PYTHON` finds this package, installed or not."""
    paths = [os.fspath(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

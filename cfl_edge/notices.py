"""Sentences for the user while something runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

Notice = Callable[[str], None]
"""Called with one sentence for the user while a stream runs: "camera gone, next try in 2 s"."""


def log_notice(text: str) -> None:
    """Log a notice as a warning of `cfl_edge`: the default `on_notice`."""
    logging.getLogger("cfl_edge").warning("%s", text)

"""Scenarios that a script runs in the VM: one JSON line each, whatever happens in it."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Report = dict[str, Any]


def run_scenarios(scenarios: Mapping[str, Callable[[], Report]], *, limit_s: float) -> None:
    """Run those that the command line names, or all, each within a time limit; end the process."""
    for name in sys.argv[1:] or scenarios:
        start_s = time.monotonic()
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            report = scenarios[name]()
        except Exception:  # the host's test shows it and fails
            report = {"traceback": traceback.format_exc()}
        report |= {"scenario": name, "took_s": round(time.monotonic() - start_s, 2)}
        print(json.dumps(report), flush=True)
    print(json.dumps({"scenario": "imports", "torch": "torch" in sys.modules}), flush=True)
    os._exit(0)  # emulated interpreter exit takes seconds

"""In the VM: `cfl-edge learn` from the camera, twice; one JSON line for each start.

Run by `test_vm_learn.py`. It prints what happened and judges nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Emulated, the default backbone and the export take ten minutes: no backbone, no export.
QUICK = ["--backbone", "none", "--no-export"]
LEARN = ["learn", "--stream", "/dev/video0", "--label", "bars", "--max-frames"]


def report(scenario: str, arguments: list[str], model: Path | None = None) -> None:
    start_s = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "cfl_edge", *arguments], capture_output=True)
    took_s = round(time.monotonic() - start_s, 2)
    if model is not None and model.is_dir():
        shutil.copytree(model, Path(os.environ["VM_SHARE"]) / scenario)
    values = {
        "scenario": scenario,
        "status": done.returncode,
        "stdout": done.stdout.decode(),
        "stderr": done.stderr.decode(),
        "took_s": took_s,
    }
    print(json.dumps(values), flush=True)


def main() -> None:
    os.chdir(tempfile.mkdtemp())
    model = Path("runs/model")  # the default of --model
    report("first", [*LEARN, "60", *QUICK], model)
    report("list", ["classes", "list", str(model)])
    report("second", [*LEARN, "5", *QUICK], model)
    sys.stdout.flush()
    os._exit(0)  # emulated interpreter exit takes seconds


if __name__ == "__main__":
    main()

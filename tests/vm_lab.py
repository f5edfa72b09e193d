"""Run a script of this folder in a virtual machine with the kernel's own drivers.

`CFL_EDGE_VM` names the folder of vmlab.py, which boots it. The script prints a JSON line for
each scenario.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
VIVID = "vivid n_devs=1 node_types=0x1 input_types=0x0"

Reports = dict[str, dict[str, Any]]


def missing() -> str | None:
    if "CFL_EDGE_VM" not in os.environ:
        return "CFL_EDGE_VM does not name the folder of vmlab.py"
    if not (Path(os.environ["CFL_EDGE_VM"]) / "vmlab.py").is_file():
        return f"no vmlab.py in CFL_EDGE_VM={os.environ['CFL_EDGE_VM']}"
    if shutil.which("qemu-system-x86_64") is None:
        return "qemu is missing: apt-get install qemu-system-x86 busybox-static kmod v4l-utils"
    return None


def run_guest(
    script: str,
    *,
    last: str,
    timeout_s: int,
    memory_mib: int = 1024,
    share: Path | None = None,
    modules: tuple[str, ...] = (VIVID,),
) -> Reports:
    """Boot, run the script, and return its reports by scenario; skip if there is no machine.

    Args:
        script: Its name in this folder.
        last: The scenario that it reports at its end.
        timeout_s: For all of it.
        memory_mib: Of the machine.
        share: Folder that the guest finds as $VM_SHARE; it keeps what the guest puts there.
        modules: Of its kernel, each with its options.
    """
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    command = [sys.executable, str(Path(os.environ["CFL_EDGE_VM"]) / "vmlab.py"), "run"]
    command += ["--timeout", str(timeout_s), "--mem", str(memory_mib)]
    for module in modules:
        command += ["-m", module]
    if share is not None:
        command += ["--share", str(share)]
    command += ["--", "env", f"PYTHONPATH={REPOSITORY}"]
    command += [sys.executable, str(Path(__file__).with_name(script))]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s + 40, cwd=REPOSITORY
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = {report["scenario"]: report for report in map(json.loads, lines)}
    assert last in found, f"the guest did not finish\n{done.stdout}\n{done.stderr}"
    for report in found.values():
        assert "traceback" not in report, f"{report['scenario']}\n{report['traceback']}"
    for report in found.values():
        print(json.dumps(report))
    return found

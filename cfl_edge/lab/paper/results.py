"""The folder of a reproduction: its runs, and a line of JSON for each that is finished.

```
results.jsonl      the result of every finished run
runs/KEY/          a run's own folder, see training_files.py
figures/           see draw.py
```
"""

from __future__ import annotations

import os
from pathlib import Path

from cfl_edge.lab.paper.plan import Plan
from cfl_edge.lab.paper.run import RunResult
from cfl_edge.lab.paper.train import train
from cfl_edge.model.writing import write_error
from cfl_edge.view.reporter import Reporter

RESULTS, RUNS = "results.jsonl", "runs"


def run_in(out: Path, plan: Plan, reporter: Reporter) -> RunResult | None:
    """Train in the run's own folder, and add the result to the others.

    Args:
        out: Folder of the reproduction.
        plan: The run.
        reporter: Told after every step.

    Returns:
        The result; None after Ctrl-C, SIGTERM or SIGHUP.

    Raises:
        ModelLockedError: Another process is at the same run.
        ModelWriteError: Disk full, no permission.
    """
    key = plan.config.key()
    result = train(plan, out / RUNS / key, reporter)
    if result is not None and key not in read_results(out):
        append_result(out, result)
    return result


def read_results(out: Path) -> dict[str, RunResult]:
    """Return the results of a folder by the run's key; a line that was cut off does not count."""
    found = {}
    try:
        lines = (out / RESULTS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            result = RunResult.from_json(line)
        except ValueError:
            continue
        found[result.config.key()] = result
    return found


def append_result(out: Path, result: RunResult) -> None:
    """Add a line in one write, so that several processes may.

    Raises:
        ModelWriteError: Disk full, no permission.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / RESULTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write((result.to_json() + "\n").encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(error, out / RESULTS, intact="The run's own folder has it.") from error

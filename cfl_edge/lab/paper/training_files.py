"""The folder of a reproduction: its runs, and a line of JSON for each that is finished.

```
results.jsonl             the result of every finished run
figures/                  see draw.py
runs/KEY/                 a run's own folder:
config.json               the run; no other run ever resumes from here
checkpoint.safetensors    weights, optimizers, random state, best weights; gone once it is done
model.safetensors         weights after the last epoch
best.safetensors          weights of the prediction's best epoch on the validation images
result.json               the run and its result
```
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cfl_edge.core.optimizers import Moments
from cfl_edge.errors import ModelDamagedError, UsageError, quoted
from cfl_edge.lab.paper.run import Epoch, RunConfig, RunResult
from cfl_edge.lab.paper.trainer import Trainer, TrainingState
from cfl_edge.model.lock import LOCK
from cfl_edge.model.replacing import replace_files
from cfl_edge.model.writing import TEMPORARY, discard, write_error
from cfl_edge.notices import first_of

CONFIG, CHECKPOINT, RESULT = "config.json", "checkpoint.safetensors", "result.json"
RESULTS, RUNS = "results.jsonl", "runs"
MODEL, BEST = "model.safetensors", "best.safetensors"


def require_free(folder: Path) -> None:
    """Refuse a folder with anything but a run, whose files could have the names of a run's.

    Raises:
        UsageError: It has other files.
        ModelWriteError: It cannot be read.
    """
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(TEMPORARY)}
    except FileNotFoundError:
        return
    except OSError as error:
        raise write_error(error, folder) from error
    own = {CONFIG, CHECKPOINT, RESULT, MODEL, BEST} if CONFIG in names else set()
    if foreign := sorted(names - own - {LOCK}):
        raise UsageError(
            f"{folder} holds other files ({first_of(foreign)}), expected a run, an empty folder or "
            "a new one",
            hint=f"--out {quoted(folder / 'run')}",
        )


def claim(folder: Path, config: RunConfig) -> None:
    """Claim a folder for a run.

    Raises:
        UsageError: It belongs to another run.
        ModelWriteError: Disk full, no permission.
    """
    text = json.dumps(asdict(config), default=asdict, sort_keys=True, indent=1)
    try:
        found = (folder / CONFIG).read_text()
    except FileNotFoundError:
        replace_files(folder, {CONFIG: text.encode()})
        return
    if found != text:
        raise UsageError(
            f"{folder} holds another run ({_difference(found, text)})",
            hint=f"--out {quoted(f'{folder}-2')}",
        )


def _difference(found: str, wanted: str) -> str:
    try:
        old, new = json.loads(found), json.loads(wanted)
        names = [name for name in new if old.get(name) != new[name]]
        return ", ".join(f"its {name} is {old.get(name)}, not {new[name]}" for name in names)
    except ValueError:
        return f"its {CONFIG} cannot be read"


def save_checkpoint(folder: Path, trainer: Trainer) -> None:
    """Write all that a resumed run needs; the old checkpoint stays until the new one is whole.

    Raises:
        ModelWriteError: Disk full, no permission.
    """
    tensors = {f"rule.{name}": value for name, value in trainer.rule.state_dict().items()}
    for i, optimizer in enumerate(trainer.rule.optimizers):
        for j, moments in enumerate(optimizer.moments):
            found = {name: value for name, value in vars(moments).items() if value is not None}
            tensors |= {f"optimizer.{i}.{j}.{name}": value for name, value in found.items()}
    for number, weights in trainer.best_weights.items():
        tensors |= {f"best.{number}.{name}": value for name, value in weights.items()}
    tensors["random"] = torch.get_rng_state()
    if trainer.config.device == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    state = json.dumps(asdict(trainer.state))
    replace_files(folder, {CHECKPOINT: _file(tensors, {"state": state})})


def load_checkpoint(folder: Path, trainer: Trainer) -> bool:
    """Take a trainer to where its run was left; return whether there was a checkpoint.

    Raises:
        ModelDamagedError: It is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return False
    try:
        device = trainer.config.device
        with safetensors.safe_open(path, framework="pt", device=device) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = json.loads(file.metadata()["state"])
        rule = trainer.rule
        rule.load_state_dict(_below(tensors, "rule."))
        for i, optimizer in enumerate(rule.optimizers):
            for j in range(len(optimizer.moments)):
                optimizer.moments[j] = Moments(**_below(tensors, f"optimizer.{i}.{j}."))
        trainer.state = TrainingState(**state)
        trainer.state.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        trainer.state.best = {name: (a, number) for name, (a, number) in state["best"].items()}
        for _, number in trainer.state.best.values():
            trainer.best_weights[number] = _below(tensors, f"best.{number}.")
        torch.set_rng_state(tensors["random"].cpu())
        if device == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"].cpu())
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelDamagedError(
            f"{path} is damaged: {error}",
            hint=f"rm {quoted(path)}  # the run then starts from its beginning",
        ) from error
    return True


def save_result(folder: Path, trainer: Trainer, result: RunResult) -> None:
    """Write the weights and the result, then remove the checkpoint.

    Raises:
        ModelWriteError: Disk full, no permission. The checkpoint stays.
    """
    files = {MODEL: _file(trainer.rule.state_dict(), {})}
    if trainer.state.best:
        *_, (_, number) = trainer.state.best.values()  # the prediction's
        files[BEST] = _file(trainer.best_weights[number], {})
    replace_files(folder, files)
    replace_files(folder, {RESULT: (result.to_json() + "\n").encode()})
    discard(folder / CHECKPOINT)


def load_result(folder: Path) -> RunResult | None:
    """Return the result of a finished run, or None."""
    try:
        return RunResult.from_json((folder / RESULT).read_text())
    except (FileNotFoundError, ValueError):
        return None


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
        descriptor = os.open(out / RESULTS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            is_cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            line = ("\n" * is_cut_off + result.to_json() + "\n").encode()
            if file.write(line) != len(line):  # a full disk may take a part of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
    except OSError as error:
        raise write_error(error, out / RESULTS, intact="The run's own folder has it.") from error


def _file(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    plain = {name: value.detach().contiguous() for name, value in tensors.items()}
    content: bytes = safetensors.torch.save(plain, metadata)
    return content


def _below(tensors: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

"""Change the class table of a model folder, and of its ONNX files; torch is never loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cfl_edge.errors import ModelError
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Saved, Store
from cfl_edge.model.tensors import network_digest
from cfl_edge.online.journal import forget_journal
from cfl_edge.stream.source import Notice, log_notice


def samples(model: Path, *, on_notice: Notice = log_notice) -> dict[str, int]:
    """Return how many frames of each class a model has learned.

    Raises:
        ModelError: There is no model.
    """
    saved = Store(model, on_notice=on_notice).load()
    return _samples(saved)


def _samples(saved: Saved) -> dict[str, int]:
    names: list[str] = saved.manifest["classes"]
    counts = np.zeros(len(names), int)
    seen = saved.tensors["replay"]["seen"]
    counts[: len(seen)] += seen
    np.add.at(counts, saved.tensors["state"]["pending.labels"], 1)
    return dict(zip(names, counts.tolist(), strict=True))


def change(
    model: Path,
    action: Callable[[Saved], None],
    *,
    onnx: Path | None = None,
    on_notice: Notice = log_notice,
) -> dict[str, int]:
    """Apply one change of `cfl_edge.model.class_table` and save.

    Args:
        model: The model folder.
        action: Changes what was saved, such as `lambda saved: rename(saved, "cup", "mug")`.
        onnx: Exported files to be changed in step, a folder or one file.
        on_notice: Called with what the user should know.

    Returns:
        The classes afterwards, with the frames learned of each.

    Raises:
        DataError: The change is not possible.
        ModelError: The model or the ONNX files fail.
    """
    store = Store(model, on_notice=on_notice)
    store.require_usable()
    if not store.exists():
        store.load()  # says what is missing and what to do
    with ModelLock(model):
        saved = store.load()
        action(saved)
        if forget_journal(saved.manifest, saved.tensors):
            on_notice("cfl-edge undo cannot take back any more what was learned before this change")
        if onnx is not None:  # first: whatever fails, the same command can be given again
            from cfl_edge.model.onnx_classes import patch_classes

            state = saved.tensors["state"]
            if "readout" not in state:
                raise ModelError(
                    f"{model} has no label embeddings, so {onnx} is not an export of it",
                    hint="leave --onnx away",
                )
            patch_classes(
                onnx,
                np.ascontiguousarray(state["readout"].T),
                saved.manifest["classes"],
                network_digest=network_digest(state),
            )
        store.save(saved.manifest, saved.tensors)
    return _samples(saved)

"""Change the class table of a model folder, and of its ONNX files; torch is never loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfl_edge.errors import ModelError, ModelWriteError
from cfl_edge.learner.journal import forget_journal
from cfl_edge.model import class_table
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Saved, Store
from cfl_edge.model.tensors import network_digest
from cfl_edge.stream.source import Notice, log_notice


@dataclass(frozen=True)
class Counts:
    """How much a model has of each class.

    Args:
        frames: Name to the frames learned.
        replay: Name to the samples kept in the replay memory; None where the algorithm has none.
    """

    frames: dict[str, int]
    replay: dict[str, int] | None


def count(model: Path, *, on_notice: Notice = log_notice) -> Counts:
    """Return how many frames of each class a model has learned, and how many it keeps.

    Raises:
        ModelError: There is no model.
    """
    return counts_of(Store(model, on_notice=on_notice).load())


def samples(model: Path, *, on_notice: Notice = log_notice) -> dict[str, int]:
    """Return how many frames of each class a model has learned.

    Raises:
        ModelError: There is no model.
    """
    return count(model, on_notice=on_notice).frames


def counts_of(saved: Saved) -> Counts:
    """Count the frames and the samples of a saved model."""
    names: list[str] = saved.manifest["classes"]
    replay = saved.tensors["replay"]
    frames = np.zeros(len(names), int)
    frames[: len(replay["seen"])] += replay["seen"]
    np.add.at(frames, saved.tensors["state"]["pending.labels"], 1)
    kept = None
    if "labels" in replay:
        each = np.bincount(replay["labels"], minlength=len(names)).tolist()
        kept = dict(zip(names, each, strict=True))
    return Counts(dict(zip(names, frames.tolist(), strict=True)), kept)


def change(
    model: Path,
    action: Callable[[Saved], None],
    *,
    onnx: Path | None = None,
    for_good: bool = False,
    on_notice: Notice = log_notice,
) -> Counts:
    """Apply one change of `cfl_edge.model.class_table` and save.

    Args:
        model: The model folder.
        action: Changes what was saved, such as `lambda saved: rename(saved, "cup", "mug")`.
        onnx: Exported files to be changed in step, a folder or one file.
        for_good: Keep no older state, which would still hold what was changed.
        on_notice: Called with what the user should know.

    Returns:
        The classes afterwards.

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
            patch_exported(saved, model, onnx, on_notice=on_notice)
        store.save(saved.manifest, saved.tensors)
        if for_good:
            _save_again(store, saved)
    return counts_of(saved)


def patch_exported(
    saved: Saved, model: Path, onnx: Path, *, on_notice: Notice = log_notice
) -> None:
    """Give exported files the classes and label embeddings of a saved model.

    Raises:
        ModelError: The files fail, or the model is none that can be exported.
    """
    from cfl_edge.onnx.classes import patch_classes

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
        on_notice=on_notice,
    )


def _save_again(store: Store, saved: Saved) -> None:
    """Save once more: the state before, which a save keeps, is then this one.

    So at no time is there less than one whole state, and files that are the same are linked.
    """
    try:
        store.save(saved.manifest, saved.tensors)
    except ModelWriteError as error:
        raise ModelWriteError(
            f"The change is saved, but a state from before it is still in {store.folder}: "
            f"{error.problem}",
            hint=f"{error.hint}; then any change, such as cfl-edge classes add {store.folder} NAME",
        ) from error


def remove(
    model: Path, name: str, *, onnx: Path | None = None, on_notice: Notice = log_notice
) -> Counts:
    """Forget a class: no file of the model folder holds its samples any more.

    Its rows, statistics, replayed and waiting samples and example images go, the journal as a
    whole, and older states with them. What remains is said by `class_table.what_stays`.

    Args:
        model: The model folder.
        name: The class.
        onnx: Exported files to be changed in step, a folder or one file.
        on_notice: Called with what is gone and what stays.

    Raises:
        DataError: It does not exist.
        ModelError: The model or the ONNX files fail.
    """
    algorithm = ""

    def action(saved: Saved) -> None:
        nonlocal algorithm
        algorithm = saved.manifest["network"].get("learner", "cfl")
        class_table.remove(saved, name)

    counts = change(model, action, onnx=onnx, for_good=True, on_notice=on_notice)
    on_notice(
        f"gone: the row, statistics, replayed samples and images of {name!r}; "
        "no older state of the model is kept"
    )
    on_notice(f"stays: {class_table.what_stays(algorithm)}")
    exported = model / "onnx"
    if onnx is None and (exported / "model.onnx").exists():
        on_notice(
            f"{exported} still knows {name!r}: cfl-edge export {model} -o {exported}, or remove it"
        )
    return counts

"""Change the class table of a model folder, and of its ONNX files; torch is never loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfl_edge.errors import ModelError, ModelWriteError, quoted
from cfl_edge.learner.journal_stored import KEY, forget_journal, put_journal, saved_journal
from cfl_edge.learner.saved_checks import check_saved
from cfl_edge.learners import declaration
from cfl_edge.model import class_table
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.store import BOARDS, VIEW_FILE, Saved
from cfl_edge.model.tensors import network_digest
from cfl_edge.notices import Notice, log_notice


@dataclass(frozen=True)
class Counts:
    """How much a model has of each class.

    Args:
        frames: Name to the frames learned.
        replay: Name to the samples in the replay memory; None where the algorithm has none.
    """

    frames: dict[str, int]
    replay: dict[str, int] | None


def counts_of(saved: Saved) -> Counts:
    """Count the frames and the samples of a saved model.

    Raises:
        ModelDamagedError: It holds no learner.
    """
    check_saved(saved)
    names: list[str] = saved.manifest["classes"]
    frames = saved.tensors["state"]["seen"].tolist()
    stored = None
    if "labels" in saved.tensors["replay"]:
        each = np.bincount(saved.tensors["replay"]["labels"], minlength=len(names)).tolist()
        stored = dict(zip(names, each, strict=True))
    return Counts(dict(zip(names, frames, strict=True)), stored)


def change(
    model: OpenModel,
    asked: Change,
    *,
    onnx: Path | None = None,
    on_notice: Notice = log_notice,
) -> Counts:
    """Apply one change of the class table and save; `cfl-edge undo` still reaches behind it.

    Args:
        model: The model.
        asked: Such as `Change("rename", ("cup",), "mug")`.
        onnx: Exported files to update as well, a folder or one file.
        on_notice: Called with what the user should know.

    Returns:
        The classes afterwards.

    Raises:
        DataError: The change is not possible.
        ModelError: The model or the ONNX files fail.
    """
    folder = model.store.folder
    with model.changing() as saved:
        check_saved(saved)
        before, journal = list(saved.manifest["classes"]), saved_journal(saved)
        asked.apply(saved)
        if saved.manifest["classes"] == before and onnx is None:
            on_notice(f"nothing to rename: the class is called {asked.into!r} already")
            return counts_of(saved)
        if onnx is not None:  # first: whatever fails, the same command can be given again
            patch_exported(saved, folder, onnx, on_notice=on_notice)
            learns = declaration(saved.manifest["network"]["learner"])
            if asked.verb == "merge" and not learns.adapts_layers:  # solves them when it is loaded
                files = onnx if onnx.is_dir() else onnx.parent
                on_notice(
                    f"{onnx} has the mean of the merged weights; as the model solves "
                    f"them anew: cfl-edge export {quoted(folder)} -o {quoted(files)}"
                )
        keep = set()
        if journal is None:
            forget_journal(saved)
        else:
            numbers = asked.numbers(before, saved.manifest["classes"])
            journal.follow(asked, saved.number, numbers)
            put_journal(saved, journal)
            keep = {base.checkpoint for base in journal.bases}
        with says_what_is_new(onnx):
            model.write(saved, keep=keep)
    if onnx is None:
        notice_stale_export(folder, "the classes of before", on_notice)
    return counts_of(saved)


def notice_stale_export(model: Path, what: str, on_notice: Notice) -> None:
    """Say that exported files in a model folder still have what has changed, where there are any.

    Args:
        model: The folder.
        what: Such as "the classes of before".
        on_notice: Told of it.
    """
    exported = model / "onnx"
    if (exported / "model.onnx").exists():
        on_notice(
            f"{exported} still has {what}; bring it up to date: "
            f"cfl-edge export {quoted(model)} -o {quoted(exported)}"
        )


@contextmanager
def says_what_is_new(onnx: Path | None) -> Iterator[None]:
    """Add to the error of a save that fails that the exported files were changed before it.

    Raises:
        ModelWriteError: The one of the block, with what is to be done.
    """
    try:
        yield
    except ModelWriteError as error:
        if onnx is None:
            raise
        raise ModelWriteError(
            f"{error.problem.rstrip('.')}. The files in {onnx} already have the new classes",
            hint=f"{error.hint}; then the same command again, for the model",
        ) from error


def patch_exported(
    saved: Saved, model: Path, onnx: Path, *, on_notice: Notice = log_notice
) -> None:
    """Give exported files the classes and label embeddings of a saved model.

    Raises:
        ModelError: The files fail, or the model cannot be exported.
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


def _save_again(model: OpenModel, saved: Saved) -> None:
    """Save once more, so that the older checkpoint, which a save retains, is this one as well.

    The folder holds a whole checkpoint at any time, and files that do not change are linked.
    """
    try:
        model.write(saved)
    except ModelWriteError as error:
        folder = model.store.folder
        raise ModelWriteError(
            f"The change is saved, but an older checkpoint is still in {folder}: {error.problem}",
            hint=f"{error.hint}; the next change of a class then removes it",
        ) from error


def remove(
    model: OpenModel, name: str, *, onnx: Path | None = None, on_notice: Notice = log_notice
) -> Counts:
    """Forget a class: no file of the model folder holds its samples any more.

    Its classifier weights, statistics, replayed and waiting samples and example images go, and so
    do the journal and older checkpoints. The declaration of its learner says what
    remains.

    Args:
        model: The model.
        name: The class.
        onnx: Exported files to update as well, a folder or one file.
        on_notice: Called with what is gone and what stays.

    Raises:
        DataError: It does not exist.
        ModelError: The model or the ONNX files fail.
    """
    folder = model.store.folder
    with model.changing() as saved:
        check_saved(saved)
        class_table.require_known(saved, name)
        frames = counts_of(saved).frames[name]
        algorithm = saved.manifest["network"]["learner"]
        if KEY in saved.manifest:
            on_notice(
                f"removing {name!r} ends what cfl-edge undo can take back: only what is learned "
                "afterwards can be undone"
            )
        class_table.remove(saved, name)
        forget_journal(saved)
        if onnx is not None:  # first: whatever fails, the same command can be given again
            patch_exported(saved, folder, onnx, on_notice=on_notice)
        with says_what_is_new(onnx):
            model.write(saved)
        _save_again(model, saved)
    if frames:
        on_notice(
            f"gone: classifier weights, statistics, replayed samples and images of {name!r}, and "
            "older checkpoints"
        )
        on_notice(f"stays: {declaration(algorithm).what_stays}")
        if (view := folder / VIEW_FILE).exists():
            on_notice(f"stays: {VIEW_FILE}, a frame of the last start: rm {quoted(view)}")
    else:
        on_notice(f"gone: {name!r} and older checkpoints; no frame of it was learned")
    if (folder / BOARDS).exists():
        boards = quoted(folder / BOARDS)
        on_notice(f"stays: what each board contributed; to remove it too: rm -r {boards}")
    if onnx is None:
        notice_stale_export(folder, repr(name), on_notice)
    return counts_of(saved)

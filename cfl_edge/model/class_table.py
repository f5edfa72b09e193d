"""Add, rename, remove and merge classes of a saved model: no torch, no training.

A class is a row of every tensor that the manifest lists under `class_rows`, a count, and samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import DataError
from cfl_edge.model.checkpoint import Saved

Array = npt.NDArray[Any]

# Group, its tensor of class numbers, and the samples that these belong to.
SAMPLES = (
    ("replay", "labels", ("values", "ranges")),
    ("state", "pending.labels", ("pending.h0",)),
    ("state", "examples.labels", ("examples",)),
    ("state", "novelty.labels", ("novelty.replayed",)),
)
COUNTS = ("seen", "offered")  # numbers of each class in the group `replay`
PRODUCTS = ("novelty.products.", "novelty.offsets.")
NEVER = -1e4  # the bias of a class that has no samples, as in core/class_statistics.py


def require_known(saved: Saved, name: str) -> int:
    """Return the number of a class.

    Raises:
        DataError: It does not exist.
    """
    classes: list[str] = saved.manifest["classes"]
    if name not in classes:
        raise DataError(
            f"The model has no class {name!r}; it knows {', '.join(classes) or 'none yet'}",
            hint="cfl-edge classes list DIR",
        )
    return classes.index(name)


def require_unknown(saved: Saved, name: str) -> None:
    """Refuse a name that is taken.

    Raises:
        DataError: The class exists.
    """
    if name in saved.manifest["classes"]:
        raise DataError(
            f"The model has a class {name!r} already",
            hint="another name, or cfl-edge classes merge DIR A B --into NAME to join two",
        )


def _map_rows(saved: Saved, change: Callable[[str, Array], Array]) -> None:
    state = saved.tensors["state"]
    for name in saved.manifest["class_rows"]:
        state[name] = np.ascontiguousarray(change(name, state[name]))
    for name in [name for name in state if name.startswith(PRODUCTS)]:
        del state[name]  # of the class means of before: the learner takes those of then


def _map_counts(saved: Saved, change: Callable[[Array], Array]) -> None:
    replay = saved.tensors["replay"]
    for name in COUNTS:
        if name in replay:
            replay[name] = change(replay[name])


def add(saved: Saved, name: str) -> None:
    """Append a class that has no samples yet; it is not predicted until it is learned.

    Raises:
        DataError: The class exists.
    """
    require_unknown(saved, name)
    rng = np.random.default_rng(len(saved.manifest["classes"]))

    def append(tensor_name: str, rows: Array) -> Array:
        new: Array = np.zeros((1, *rows.shape[1:]), rows.dtype)
        if tensor_name == "label_embeddings":
            new = rng.standard_normal(new.shape).astype(rows.dtype)
        if tensor_name == "readout":
            new[0, -1] = NEVER
        return np.concatenate([rows, new])

    _map_rows(saved, append)
    saved.manifest["classes"].append(name)
    _map_counts(saved, lambda counts: np.append(counts, 0))


def rename(saved: Saved, old: str, new: str) -> None:
    """Give a class another name; nothing else changes.

    Raises:
        DataError: `old` does not exist, or `new` does.
    """
    number = require_known(saved, old)
    if new != old:
        require_unknown(saved, new)
    saved.manifest["classes"][number] = new


def remove(saved: Saved, name: str) -> None:
    """Delete a class: its rows, its means, its replayed and waiting samples, its images.

    `what_stays` says what cannot be taken out.

    Raises:
        DataError: It does not exist.
    """
    number = require_known(saved, name)
    for group, labels_name, names in SAMPLES:
        tensors = saved.tensors[group]
        if labels_name in tensors:
            kept = tensors[labels_name] != number
            for name in (labels_name, *names):
                if name in tensors:
                    tensors[name] = tensors[name][kept]
    _drop(saved, number)


def what_stays(algorithm: str) -> str:
    """Say what a removed class leaves behind in a model.

    Args:
        algorithm: One of `LEARNERS`.

    Example:
        >>> what_stays("slda")
        'its share of the covariance that all classes share'
    """
    if algorithm in ("ncm", "imprint", "knn"):
        return "nothing of it"
    if algorithm == "slda":
        return "its share of the covariance that all classes share"
    if algorithm == "last-layer-sgd":
        return "what the rows of the other classes learned to be told from it"
    covariance = (
        "its share of the covariance that all classes share, and " if algorithm == "cfl" else ""
    )
    return f"{covariance}what the layers and the rows of the other classes learned from it"


def merge(saved: Saved, names: Sequence[str], into: str) -> None:
    """Make one class of several: its embedding is the mean of theirs, of those that were learned.

    This is how the paper gets coarse labels of fine ones without training (Section 4.4).

    Args:
        saved: Changed in place.
        names: At least two classes.
        into: The name of the result: new, or one of `names`.

    Raises:
        DataError: A class does not exist, or `into` is the name of a class outside `names`.
    """
    if len(set(names)) < 2:
        raise DataError(
            f"{len(set(names))} class to merge ({', '.join(names)}), expected at least 2",
            hint="cfl-edge classes merge DIR A B --into NAME",
        )
    numbers = sorted({require_known(saved, name) for name in names})
    if into not in names:
        require_unknown(saved, into)
    target, others = numbers[0], numbers[1:]
    state = saved.tensors["state"]
    learned = [number for number in numbers if _is_predicted(state, number)] or numbers
    for name in saved.manifest["class_rows"]:
        if not name.startswith("statistics."):
            state[name] = _with_row(state[name], target, state[name][learned].mean(axis=0))
    sources = {name.split(".")[1] for name in state if name.startswith("statistics.")}
    for source in sorted(sources):
        _merge_statistics(state, f"statistics.{source}", numbers)
    if "since_refresh" in state:  # the readout does not follow from the statistics any more
        state["since_refresh"] = np.array(-1)
    _map_counts(saved, lambda counts: _with_row(counts, target, counts[numbers].sum()))
    for group, labels_name, _ in SAMPLES:
        if labels_name in saved.tensors[group]:
            labels = saved.tensors[group][labels_name]
            saved.tensors[group][labels_name] = np.where(np.isin(labels, others), target, labels)
    saved.manifest["classes"][target] = into
    for number in reversed(others):
        _drop(saved, number)


def _is_predicted(state: dict[str, Array], number: int) -> bool:
    return "readout" in state and bool(state["readout"][number, -1] > NEVER)


def _merge_statistics(state: dict[str, Array], prefix: str, numbers: list[int]) -> None:
    """Pool means by their counts; their distance from the pooled mean becomes scatter."""
    counts, means = state[f"{prefix}.counts"][numbers], state[f"{prefix}.means"][numbers]
    pooled = (counts[:, None] * means).sum(axis=0) / max(counts.sum(), 1)
    apart = np.sqrt(counts)[:, None] * (means - pooled)
    if f"{prefix}.scatter" in state:
        state[f"{prefix}.scatter"] = state[f"{prefix}.scatter"] + apart.T @ apart
    if (squares := state.get(f"{prefix}.squares")) is not None:  # mean squared lengths
        pooled_square = counts @ squares[numbers] / max(counts.sum(), 1)
        state[f"{prefix}.squares"] = _with_row(squares, numbers[0], pooled_square)
    state[f"{prefix}.counts"] = _with_row(state[f"{prefix}.counts"], numbers[0], counts.sum())
    state[f"{prefix}.means"] = _with_row(state[f"{prefix}.means"], numbers[0], pooled)


def _with_row(rows: Array, number: int, row: Array) -> Array:
    """Return a copy with one row replaced: the arrays may be the live learner's own."""
    rows = rows.copy()
    rows[number] = row
    return rows


def _drop(saved: Saved, number: int) -> None:
    """Take a class's rows out; the classes behind it move up by one."""
    _map_rows(saved, lambda _, rows: np.delete(rows, number, axis=0))
    del saved.manifest["classes"][number]
    _map_counts(saved, lambda counts: np.delete(counts, number))
    for group, labels_name, _ in SAMPLES:
        if labels_name in saved.tensors[group]:
            labels = saved.tensors[group][labels_name]
            saved.tensors[group][labels_name] = labels - (labels > number)

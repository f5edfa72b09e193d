"""Add, rename, remove and merge classes of a saved model: no torch, no training.

The manifest declares under `tensors` what a class owns (`cfl_edge.learner.state`): `rows` have the
class as their first axis, `samples` name their class, `derived` tensors follow from the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.defaults import NEVER, TRIANGLE_PANEL
from cfl_edge.errors import DataError
from cfl_edge.model.checkpoint import Saved

Array = npt.NDArray[Any]

Verb = Literal["add", "rename", "merge"]
MOST_CHANGES = 1000  # that are stored for older states to follow
STALE = -1  # `since_refresh`: the classifier weights do not follow from the statistics any more


class Change(NamedTuple):
    """A change that keeps every sample: older states of the model can follow it.

    Args:
        verb: What is done.
        names: Of the classes that it is done to; none for `add`.
        into: Name of the class that comes of it.

    Example:
        >>> saved = Saved({"classes": ["cup"], "tensors": {}}, {})
        >>> Change("rename", ("cup",), "mug").apply(saved)
        >>> saved.manifest["classes"]
        ['mug']
    """

    verb: Verb
    names: tuple[str, ...]
    into: str

    def apply(self, saved: Saved) -> None:
        """Change a saved model.

        Raises:
            DataError: It is not possible.
        """
        if self.verb == "add":
            add(saved, self.into)
        elif self.verb == "rename":
            rename(saved, self.names[0], self.into)
        else:
            merge(saved, self.names, self.into)

    def follow(self, saved: Saved) -> None:
        """Change a state from before the change, which may not know all of the classes yet."""
        classes = saved.manifest["classes"]
        known = tuple(name for name in self.names if name in classes)
        if self.verb == "add" and self.into not in classes:
            add(saved, self.into)
        elif len(known) > 1:
            merge(saved, known, self.into)
        elif known:
            rename(saved, known[0], self.into)

    def numbers(self, before: Sequence[str], after: Sequence[str]) -> list[int]:
        """Return the index in `after` of each class of `before`."""
        return [after.index(self.into if name in self.names else name) for name in before]


def require_known(saved: Saved, name: str) -> int:
    """Return the number of a class.

    Raises:
        DataError: It does not exist.
    """
    classes: list[str] = saved.manifest["classes"]
    if name not in classes:
        raise DataError(
            f"The model has no class {name!r}",
            hint=f"one of its classes: {', '.join(classes) or 'there is none yet'}",
        )
    return classes.index(name)


def require_unknown(saved: Saved, name: str, *, hint: str | None = None) -> None:
    """Refuse a name that is taken.

    Args:
        saved: The model.
        name: Of a class to be.
        hint: Of the error, instead of another name or a merge of the whole classes.

    Raises:
        DataError: The class exists.
    """
    if name in saved.manifest["classes"]:
        raise DataError(
            f"The model has a class {name!r} already",
            hint=hint or f"another name, or merge with {name!r}",
        )


def _map_rows(saved: Saved, change: Callable[[dict[str, Any], Array], Array]) -> None:
    state, declared = saved.tensors["state"], saved.manifest["tensors"]
    for name, rule in declared["rows"].items():
        state[name] = np.ascontiguousarray(change(rule, state[name]))
    for name in declared["derived"]:
        state.pop(name, None)
    declared["derived"] = []


def _samples(saved: Saved) -> Iterator[tuple[dict[str, Array], str, list[str]]]:
    """Yield the group of each kind of samples, the name of its classes, and all its names."""
    for kind in saved.manifest["tensors"]["samples"]:
        tensors, labels, prefix = saved.tensors[kind["group"]], kind["labels"], kind["prefix"]
        yield tensors, labels, [name for name in tensors if name.startswith(prefix)]


def add(saved: Saved, name: str) -> None:
    """Append a class that has no samples yet; it is not predicted until it is learned.

    Raises:
        DataError: The class exists.
    """
    require_unknown(saved, name)
    rng = np.random.default_rng([len(saved.manifest["classes"]), *name.encode()])

    def append(rule: dict[str, Any], rows: Array) -> Array:
        new: Array = np.zeros((1, *rows.shape[1:]), rows.dtype)
        if rule["new"] == "normal":
            new = rng.standard_normal(new.shape).astype(rows.dtype)
        elif rule["new"] == "never":
            new[0, -1] = NEVER
        return np.concatenate([rows, new])

    _map_rows(saved, append)
    saved.manifest["classes"].append(name)


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
    """Delete a class: its rows, its counts, its samples, its images.

    `what_stays` of its declaration (`cfl_edge.learners`) says what cannot be taken out.

    Raises:
        DataError: It does not exist.
    """
    number, state = require_known(saved, name), saved.tensors["state"]
    for rule in saved.manifest["tensors"]["rows"].values():
        if "scatter" in rule:  # of fewer samples from now on: the covariance stays what it was
            free, scatter = np.maximum(state[rule["counts"]] - 1.0, 0), state[rule["scatter"]]
            share = 1 - free[number] / max(free.sum(), 1.0)
            state[rule["scatter"]] = (scatter * share).astype(scatter.dtype)
    for tensors, labels, names in _samples(saved):
        others = tensors[labels] != number
        for each in names:
            tensors[each] = tensors[each][others]
    _drop(saved, number)


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
            hint="one more of its classes: "
            f"{', '.join(saved.manifest['classes']) or 'there is none yet'}",
        )
    numbers = sorted({require_known(saved, name) for name in names})
    if into not in names:
        require_unknown(saved, into)
    target, others = numbers[0], numbers[1:]
    _merge_rows(saved, numbers)
    for tensors, labels, _ in _samples(saved):
        tensors[labels] = np.where(np.isin(tensors[labels], others), target, tensors[labels])
    saved.manifest["classes"][target] = into
    for number in reversed(others):
        _drop(saved, number)


def _merge_rows(saved: Saved, numbers: list[int]) -> None:
    """Put what the classes have together into the row of the first of them."""
    state, target = saved.tensors["state"], numbers[0]
    rules = saved.manifest["tensors"]["rows"]
    learned = [n for n in numbers if _is_predicted(state, rules, n)] or numbers
    before = {name: state[name] for name in rules}
    for name, rule in rules.items():
        rows = before[name]
        if rule["merge"] == "sum":
            merged = rows[numbers].sum(axis=0)
        elif rule["merge"] == "weighted":
            counts = before[rule["counts"]][numbers]
            merged = np.tensordot(counts, rows[numbers], axes=1) / max(counts.sum(), 1)
            if "scatter" in rule:  # what lies between the means is now within the class
                apart = np.sqrt(counts)[:, None] * (rows[numbers] - merged)
                state[rule["scatter"]] = add_products(state[rule["scatter"]].copy(), apart)
        else:
            merged = rows[learned].mean(axis=0)
        state[name] = rows.copy()  # it may be the live learner's own
        state[name][target] = merged
    if "since_refresh" in state:
        state["since_refresh"] = np.array(STALE)


def add_products(triangle: Array, rows: Array) -> Array:
    """Add the outer products of rows (N, C) to a triangle in panels, (P,), in place; return it.

    Example:
        >>> add_products(np.zeros(4), np.array([[1.0, 2.0]]))
        array([1., 2., 2., 4.])
    """
    offset, channels = 0, rows.shape[1]
    for start in range(0, channels, TRIANGLE_PANEL):
        end = min(start + TRIANGLE_PANEL, channels)
        panel = rows[:, start:end].T @ rows[:, :end]
        triangle[offset : offset + panel.size] += panel.ravel()
        offset += panel.size
    return triangle


def _is_predicted(state: dict[str, Array], rules: dict[str, Any], number: int) -> bool:
    ruled_out = (state[name][number, -1] for name in rules if rules[name]["new"] == "never")
    return any(bias > NEVER for bias in ruled_out)


def arrange(saved: Saved, names: Sequence[str]) -> None:
    """Put the classes into an order; nothing else changes.

    Args:
        saved: Changed in place.
        names: The order; classes that are not among them come last, in the order that they have.

    Example:
        >>> saved = Saved({"classes": ["b", "c", "a"], "tensors": {"rows": {}, "samples": []}}, {})
        >>> arrange(saved, ["a", "gone", "b"])
        >>> saved.manifest["classes"]
        ['a', 'b', 'c']
    """
    classes: list[str] = saved.manifest["classes"]
    ordered = sorted(classes, key=lambda name: names.index(name) if name in names else len(names))
    if ordered == classes:
        return
    order = [classes.index(name) for name in ordered]
    for name in saved.manifest["tensors"]["rows"]:
        state = saved.tensors["state"]
        state[name] = np.ascontiguousarray(state[name][order])
    for tensors, labels, _ in _samples(saved):
        tensors[labels] = np.argsort(order).astype(tensors[labels].dtype)[tensors[labels]]
    saved.manifest["classes"] = ordered


def _drop(saved: Saved, number: int) -> None:
    """Take a class's rows out; the classes behind it move up by one."""
    _map_rows(saved, lambda _, rows: np.delete(rows, number, axis=0))
    del saved.manifest["classes"][number]
    for tensors, labels, _ in _samples(saved):
        tensors[labels] = tensors[labels] - (tensors[labels] > number)

"""Sums over boards of counts, means and scatter: as of one learner that saw all. No torch.

Of two groups of n and m samples with means a and b, the scatter about the mean of both is the sum
of theirs and n m / (n + m) (a - b) (a - b)^T (Chan, Golub, LeVeque, "Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances", 1979), class by class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from cfl_edge.errors import DataError
from cfl_edge.fleet.contribution import KEY, KNOWN, ORIGINS, SUMMED, Array, boards_in, few_samples
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.class_table import add_products

LARGEST = float(np.finfo(np.float32).max)
MOST_CLASSES = 4096  # of all boards: a classifier takes their square, 64 MiB, while it is solved
STORED_SAMPLES = 512  # of all boards, by which `unknown` is measured, as one learner stores


@final
class Pool:
    """Add up what boards contribute, one at a time; in float64, so that the order does not show.

    Args:
        boards: How many will come; each may give its part of the stored samples.

    Attributes:
        classes: Name to number, as they came.
        rows: Name to the tensor whose axis 0 is the class, float64 (Z, …).
        scatter: Name to a triangle, float64 (P,).
        frames: Frames that the boards learned.
        boards: Generation of each, also of those within groups.
        origins: Of their models.

    Example:
        >>> from cfl_edge.model.checkpoint import Saved
        >>> rules = {"n": {"merge": "sum"}, "mean": {"merge": "weighted", "counts": "n"}}
        >>> def board(name, count, mean):
        ...     state = {"n": np.array([count]), "mean": np.array([[mean]])}
        ...     words = {"classes": [name], "counters": {"frames_learned": 1},
        ...              "tensors": {"rows": rules, "samples": []},
        ...              "contribution": {"board": name, "generation": 1}}
        ...     return Saved(words, {"state": state})
        >>> pool = Pool(boards=2)
        >>> pool.add(board("cup", 1.0, 4.0)), pool.add(board("cup", 3.0, 8.0))
        (None, None)
        >>> pool.rows["n"].tolist(), pool.rows["mean"].tolist()
        ([4.0], [[7.0]])
    """

    def __init__(self, boards: int) -> None:
        self.classes: dict[str, int] = {}
        self.rows: dict[str, Array] = {}
        self.scatter: dict[str, Array] = {}
        self.frames = 0
        self.boards: dict[str, int] = {}
        self.origins: set[str] = set()
        self._most_known = max(1, STORED_SAMPLES // max(boards, 1))
        self._known: list[dict[str, Array]] = []

    def add(self, saved: Saved) -> None:
        """Add a contribution.

        Raises:
            DataError: A sum leaves what a float32 can hold, or there are too many classes.
        """
        if (classes := len({*self.classes, *saved.manifest["classes"]})) > MOST_CLASSES:
            raise DataError(
                f"{saved.manifest[KEY]['board']} cannot be merged: with it there are {classes} "
                f"classes, expected at most {MOST_CLASSES}",
                hint="leave it out, or merge fewer boards",
            )
        state, rules = saved.tensors["state"], saved.manifest["tensors"]["rows"]
        places = self._places(saved.manifest["classes"], state, rules)
        for name, rule in rules.items():  # before the counts that weigh them
            if rule["merge"] == "weighted":
                counts = self.rows[rule["counts"]][places]
                self._add_means(name, rule, counts, places, state)
        for name, rule in rules.items():
            if rule["merge"] == "sum":
                self.rows[name][places] += state[name]
        self.frames += saved.manifest["counters"]["frames_learned"]
        self.boards |= boards_in(saved)
        self.origins |= set(saved.manifest[KEY].get(ORIGINS, ()))
        if saved.manifest["tensors"]["samples"]:
            some = few_samples(state, self._most_known)
            labels = places[some[f"{KNOWN}labels"]]
            self._known.append(some | {f"{KNOWN}labels": labels})
        for name, array in [*self.rows.items(), *self.scatter.items()]:
            if not -LARGEST <= array.min(initial=0.0) <= array.max(initial=0.0) <= LARGEST:
                raise DataError(
                    f"{saved.manifest[KEY]['board']} cannot be merged: with it {name} leaves what "
                    "a number can hold",
                    hint="leave it out, and learn it again",
                )

    def _places(
        self, classes: list[str], state: Mapping[str, Array], rules: Mapping[str, Any]
    ) -> Array:
        """Return the number of each class here; new ones get rows of zeros."""
        for name in classes:
            self.classes.setdefault(name, len(self.classes))
        for name in rules:
            width = state[name].shape[1:]
            before = self.rows.get(name, np.zeros((0, *width)))
            added = np.zeros((len(self.classes) - len(before), *width))
            if len(added):
                self.rows[name] = np.concatenate([before, added])
            self.rows.setdefault(name, before)
        return np.array([self.classes[name] for name in classes], dtype=np.int64)

    def _add_means(
        self,
        name: str,
        rule: Mapping[str, Any],
        before: Array,
        places: Array,
        state: Mapping[str, Array],
    ) -> None:
        """Add means, and to the scatter what lies within the board and between it and the rest."""
        added = state[rule["counts"]].astype(np.float64)
        total = np.maximum(before + added, 1.0)
        column = (slice(None), *[None] * (state[name].ndim - 1))
        apart = state[name] - self.rows[name][places]
        self.rows[name][places] += (added / total)[column] * apart
        if "scatter" not in rule:
            return
        scatter = self.scatter.setdefault(rule["scatter"], np.zeros(state[rule["scatter"]].shape))
        scatter += state[rule["scatter"]]
        weight = np.sqrt(before * added / total)
        both = weight > 0
        if both.any():
            add_products(scatter, weight[both, None] * apart[both])

    def summed(self, one: Saved, board: str) -> Saved:
        """Return the sums as a contribution, which another pool or a board takes in.

        Args:
            one: One of the contributions: what is the same in all of them.
            board: A name for the sum.

        Returns:
            Counts in float64, which float32 could not hold; all else as in `one`.
        """
        state, rules = one.tensors["state"], one.manifest["tensors"]["rows"]
        tensors = {name: array.astype(state[name].dtype) for name, array in self.scatter.items()}
        for name, array in self.rows.items():
            is_count = rules[name]["merge"] == "sum" and state[name].dtype.kind == "f"
            tensors[name] = array if is_count else array.astype(state[name].dtype)
        about = one.manifest[KEY] | {"board": board, "generation": 0, "aliases": {}}
        about |= {SUMMED: dict(self.boards), ORIGINS: sorted(self.origins)}
        return Saved(
            one.manifest
            | {
                "classes": list(self.classes),
                "counters": {"runs": 1, "frames_learned": self.frames, "gradient_steps": 0},
                KEY: about,
            },
            {"state": tensors | self.known(), "replay": {}},
        )

    def known(self) -> dict[str, Array]:
        """Return the stored samples of all boards, their labels as numbers of `classes`."""
        names = self._known[0] if self._known else {}
        return {name: np.concatenate([some[name] for some in self._known]) for name in names}

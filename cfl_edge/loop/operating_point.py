"""How sure an accuracy is, and the threshold at which a class is missed as seldom as asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import DataError, UsageError
from cfl_edge.frame.prediction import Prediction, softmax
from cfl_edge.loop.metrics import Confusion
from cfl_edge.notices import counted

Z_95 = 1.959964  # the normal distribution has 95 % within so many deviations
STOPPED = math.inf  # the score of an image that was reported as unknown: no threshold lets it pass


@dataclass(frozen=True)
class Share:
    """A share of images, with its Wilson interval.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927: it holds
    for few images, and for shares of 0 and 1, where the usual deviation is 0.

    Args:
        count: Images that count.
        total: Of so many, at least 1.

    Example:
        >>> share = Share(30, 30)
        >>> share.value, [round(limit, 3) for limit in share.interval]
        (1.0, [0.886, 1.0])
        >>> str(Share(27, 30))
        '90.0 % (74.4 to 96.5), 27 of 30'
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Limits between which the true share lies, with 95 % confidence."""
        n, z2 = self.total, Z_95**2
        middle = self.value + z2 / (2 * n)
        half = Z_95 * math.sqrt(self.value * (1 - self.value) / n + z2 / (4 * n * n))
        low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
        return (0.0 if not self.count else low), (1.0 if self.count == self.total else high)

    def __str__(self) -> str:
        """Return share, interval and counts in percent."""
        low, high = self.interval
        limits = f"{100 * low:.1f} to {100 * high:.1f}"
        return f"{100 * self.value:.1f} % ({limits}), {self.count} of {self.total}"


def accuracy_of(confusion: Confusion) -> Share:
    """Return the share of images that were predicted right."""
    right = sum(n for (true, said), n in confusion.counts.items() if true == said)
    return Share(right, confusion.samples)


def precision_of(confusion: Confusion, name: str) -> Share | None:
    """Return the share of images called a class that are of it; None where none was."""
    said = sum(n for (_, said), n in confusion.counts.items() if said == name)
    return Share(confusion.counts[name, name], said) if said else None


def recall_of(confusion: Confusion, name: str) -> Share | None:
    """Return the share of images of a class that were called it; None where there is none."""
    total = sum(n for (true, _), n in confusion.counts.items() if true == name)
    return Share(confusion.counts[name, name], total) if total else None


@dataclass(frozen=True)
class Requirement:
    """What `--require` asks for.

    Args:
        name: A class that must not be missed.
        recall: The least share of its images that must be stopped, above 0, at most 1.
    """

    name: str
    recall: float


def read_requirement(text: str, classes: Sequence[str]) -> Requirement:
    """Read `CLASS=RECALL` of `--require`.

    Args:
        text: The option's value.
        classes: Of the model.

    Raises:
        UsageError: It is not of this form, or the model has no such class.

    Example:
        >>> read_requirement("bad=0.99", ["bad", "good"])
        Requirement(name='bad', recall=0.99)
        >>> read_requirement("rotten=0.99", ["bad", "good"])
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --require is 'rotten=0.99', and the model has no class 'rotten'
          try: --require bad=0.99, or another of bad, good
    """
    name, _, number = text.rpartition("=")
    try:
        recall = float(number)
    except ValueError:
        recall = math.nan
    if not name or not 0 < recall <= 1:
        known = [part for part in (text, name) if part in classes]  # only its recall is wrong
        example = [*known, *classes, "bad"][0]
        raise UsageError(
            f"--require is {text!r}, expected CLASS=RECALL with a recall above 0 and at most 1",
            hint=f"--require {example}=0.99",
        )
    if name not in classes:
        first = classes[0] if classes else "bad"
        raise UsageError(
            f"--require is {text!r}, and the model has no class {name!r}",
            hint=f"--require {first}={number}, or another of {', '.join(classes)}",
        )
    return Requirement(name, recall)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the probability of a class, and what it does on the evaluated images.

    An image is stopped where the probability is at least the threshold, or where it was reported
    as unknown.

    Args:
        requirement: What was asked for.
        threshold: 0 to 1.
        recall: Images of the class that are stopped.
        cost: Images of other classes that are stopped as well; None where there are none.
    """

    requirement: Requirement
    threshold: float
    recall: Share
    cost: Share | None

    def lines(self) -> list[str]:
        """Return the threshold and what it costs, for people."""
        name, proven = self.requirement.name, self.recall.interval[0]
        lines = [f"threshold  stop what is {name} with {self.threshold:.4g} or more: {self.recall}"]
        if self.cost is not None:
            lines.append(f"  of other images this stops {self.cost}")
        if proven < (wanted := self.requirement.recall):
            shown = "no number of images shows 100 %"
            if wanted < 1:
                count = images_to_show(wanted)
                shown = f"{count} that are all stopped would show {100 * wanted:g} %"
            lines.append(
                f"  {counted(self.recall.total, 'image')} of {name} "
                f"show{'s' * (self.recall.total == 1)} no more than {100 * proven:.1f} %; {shown}"
            )
        return lines


def images_to_show(recall: float) -> int:
    """Return how many images, all of them right, have a Wilson interval above a recall, below 1.

    Example:
        >>> images_to_show(0.99)
        381
    """
    return math.ceil(Z_95**2 * recall / (1 - recall))


@final
class Threshold:
    """Gathers the probability of one class, and finds the threshold that a requirement needs.

    Args:
        requirement: What is asked for.
        classes: Of the model.

    Attributes:
        of_class: The probability of the class for each of its images; `STOPPED` for unknown ones.
        of_others: The same for all other images.

    Example:
        >>> threshold = Threshold(Requirement("bad", 0.75), ["bad", "good"])
        >>> threshold.of_class += [0.9, 0.8, 0.3, 0.1]
        >>> threshold.of_others += [0.05, 0.2, 0.4]
        >>> point = threshold.point()
        >>> point.threshold, point.recall.value, point.cost.count
        (0.3, 0.75, 1)
    """

    def __init__(self, requirement: Requirement, classes: Sequence[str]) -> None:
        self.requirement = requirement
        self._row = list(classes).index(requirement.name)
        self.of_class: list[float] = []
        self.of_others: list[float] = []

    def add(self, true: str, prediction: Prediction) -> None:
        """Take the answer to one image."""
        score = STOPPED if prediction.rejected else float(softmax(prediction.scores)[self._row])
        (self.of_class if true == self.requirement.name else self.of_others).append(score)

    def point(self) -> OperatingPoint:
        """Return the highest threshold that stops enough images of the class.

        Raises:
            DataError: There is no image of it.
        """
        if not self.of_class:
            name = self.requirement.name
            raise DataError(
                f"--require {name}={self.requirement.recall:g}, and no image of --data is labelled "
                f"{name!r}",
                hint=f"--data with a subfolder {name}",
            )
        scores = np.sort(np.array(self.of_class))[::-1]
        needed = math.ceil(self.requirement.recall * len(scores) - 1e-9)
        # With as many decimals as are shown, and not above the last score that is needed.
        return self.at(math.floor(1e4 * min(1.0, float(scores[needed - 1]))) / 1e4)

    def at(self, threshold: float) -> OperatingPoint:
        """Return what another threshold does."""
        recall, cost = stopped(self.of_class, threshold), stopped(self.of_others, threshold)
        assert recall is not None
        return OperatingPoint(self.requirement, threshold, recall, cost)


def stopped(scores: Sequence[float], threshold: float) -> Share | None:
    """Return the share of images that a threshold stops; None where there are none."""
    values: npt.NDArray[np.float64] = np.array(scores)
    return Share(int((values >= threshold).sum()), len(values)) if len(values) else None

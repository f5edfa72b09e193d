"""Does a label contradict the prediction: wrong labels are told before they are learned.

Once a network has been trained on a wrong label it agrees with it (AUROC of finding them by its own
scores 0.72 after, 0.97 before: DECISIONS.md, "Wrong labels"), so that the prediction made before
learning is what counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

CERTAIN = 0.4  # probability of some class, from which the prediction is believed
EXCLUDED = 0.005  # probability of the class that the label names
KNOWN_FRAMES = 30  # of both classes, before the prediction is believed more than the label
INSISTED = 5  # such labels of a class in a row are meant: it may look new, or be learned wrong


def excluded_classes(
    probabilities: npt.NDArray[np.float32], classes: Sequence[str], samples: Mapping[str, int]
) -> frozenset[str]:
    """Return the classes that a label would contradict a confident prediction with.

    Args:
        probabilities: Of every class, (Z,).
        classes: Their names.
        samples: Frames learned of each class. A class with few of them neither rules out others nor
            is ruled out: it may look different from what little was seen.

    Example:
        >>> sure = np.array([0.998, 0.001, 0.001], np.float32)
        >>> excluded_classes(sure, ["mug", "pen", "cup"], {"mug": 80, "pen": 90, "cup": 3})
        frozenset({'pen'})
    """
    best = int(probabilities.argmax())
    if probabilities[best] < CERTAIN or samples.get(classes[best], 0) < KNOWN_FRAMES:
        return frozenset()
    return frozenset(
        name
        for name, probability in zip(classes, probabilities, strict=True)
        if probability < EXCLUDED and samples.get(name, 0) >= KNOWN_FRAMES
    )


@final
class Conflicts:
    """Tell which labels not to learn; whoever insists on a label is believed.

    Example:
        >>> conflicts = Conflicts()
        >>> [conflicts.check("pen", frozenset({"pen"})) for _ in range(6)]
        [True, True, True, True, True, False]
    """

    def __init__(self) -> None:
        self._in_a_row: Counter[str] = Counter()  # of each label, since it agreed last

    def check(self, label: str, excluded: frozenset[str]) -> bool:
        """Return whether a label contradicts the prediction and was not insisted on.

        Args:
            label: Of the frame.
            excluded: What `excluded_classes` said of the prediction made before learning it.
        """
        if label not in excluded:
            self._in_a_row[label] = 0
            return False
        self._in_a_row[label] += 1
        return self._in_a_row[label] <= INSISTED

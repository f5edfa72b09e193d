"""Frames that show what the last learned frame of their class showed: nothing to learn from.

A camera looks at the same thing for seconds. Such frames would fill the replay memory, shrink the
shared covariance to the noise of one scene, and let a long look at one class drown the others.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from cfl_edge.core.rounding import to_half

# Relative squared difference, of what the first layer reads. Of two clips of a moving camera and
# of `demo:`, fewer than one in twenty consecutive frames are nearer, of a still camera before a
# conveyor nine in ten; of two images of the same MNIST digit the nearest of 300 has 0.03.
NEAR = 0.01
CLASSES = 16  # whose last learned frame is stored: those that a person shows in turn


class NearDuplicates:
    """Remember the last learned sample of each recent class.

    Example:
        >>> duplicates = NearDuplicates()
        >>> still = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> [duplicates.is_near(x, number=0) for x in (still, still + 0.01, still + 1, still + 1)]
        [False, True, False, True]
        >>> duplicates.is_near(still + 1, number=1)
        False
    """

    def __init__(self) -> None:
        self._last: OrderedDict[int, Tensor] = OrderedDict()

    def is_near(self, sample: Tensor, number: int) -> bool:
        """Return whether a sample is a near-duplicate of the last one of its class that was not.

        Args:
            sample: What the first layer reads, any shape.
            number: Its class.
        """
        last = self._last.pop(number, None)
        if last is not None:
            reference = last.to(sample)
            if relative_difference(sample, reference) < NEAR:
                self._last[number] = last
                return True
        self._last[number] = to_half(sample.detach())
        if len(self._last) > CLASSES:
            self._last.popitem(last=False)
        return False


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Return |a - b|^2 / (|a|^2 + |b|^2): 0 for the same, 1 for unrelated ones of mean 0.

    Example:
        >>> relative_difference(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0]))
        0.0
        >>> relative_difference(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        1.0
    """
    scale = float(a.pow(2).sum() + b.pow(2).sum())
    return float((a - b).pow(2).sum()) / max(scale, torch.finfo(torch.float32).tiny)

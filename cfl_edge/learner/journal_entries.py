"""What the journal stores of a frame: what the backbone returned, 8 bits a value.

The backbone is frozen: what it returned once it would return again. The layers have moved since, so
their features are computed again when a frame is learned again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.learner.quantise import dequantise, quantise

Arrays = dict[str, npt.NDArray[Any]]


def to_entries(h0: Tensor, read: Tensor | None) -> Iterator[Arrays]:
    """Yield what the journal is to store of each frame.

    Args:
        h0: The backbone's output, (N, C, H, W).
        read: What predictions read of it, (N, C_E + D); None without a network.

    Example:
        >>> [entry] = to_entries(torch.ones(1, 2, 3, 3), torch.ones(1, 4))
        >>> {name: array.shape for name, array in entry.items()}
        {'h0': (2, 3, 3), 'h0_range': (2,), 'read': (4,), 'read_range': (2,)}
        >>> from_entries([entry], "cpu")[1]
        tensor([[1., 1., 1., 1.]])
    """
    parts = {"h0": h0} if read is None else {"h0": h0, "read": read}
    arrays: Arrays = {}
    for name, x in parts.items():
        values, ranges = quantise(x.detach())
        arrays[name] = values.cpu().numpy()
        arrays[f"{name}_range"] = ranges.cpu().numpy()
    for i in range(len(h0)):
        yield {name: array[i] for name, array in arrays.items()}


def from_entries(
    entries: Sequence[Mapping[str, npt.NDArray[Any]]], device: torch.device | str
) -> tuple[Tensor, Tensor | None]:
    """Return `h0` and `read` of N frames, as `to_entries` was given them.

    Raises:
        KeyError: An array is missing.
    """

    def part(name: str) -> Tensor:
        values, ranges = (
            torch.from_numpy(np.stack([arrays[key] for arrays in entries]))
            for key in (name, f"{name}_range")
        )
        return dequantise(values, ranges).to(device)

    return part("h0"), part("read") if "read" in entries[0] else None

"""Samples that may have a wrong label: those that the others take for another class.

The journal has the frames that were learned last. Each run of frames that resemble each other is
compared with what all others say of it (`cfl_edge.core.left_out`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cfl_edge.core.left_out import left_out_shares, runs_of
from cfl_edge.learner.quantise import dequantise

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner

MARGIN = 0.5  # of the other class's share over the label's: DECISIONS.md, "Possibly mislabelled"
COMPARED = 512  # frames at a time: 2 MiB of products, and 20 ms on one core of a PC
MOST_OF_CLASS = 0.5  # a run that is more of its class than this says what the class is


@dataclass(frozen=True)
class Suspect:
    """A run of frames whose label the others contradict.

    Args:
        numbers: Which of all frames ever learned it is; the first is 1.
        label: What they were learned as.
        looks_like: What the others take them for.
        margin: By how much more of that class than of their own they have, 0.5 and more.
    """

    numbers: tuple[int, ...]
    label: str
    looks_like: str
    margin: float


def suspects(learner: Learner) -> list[Suspect]:
    """Return what may be mislabelled of the frames in the journal, the clearest first.

    Args:
        learner: Does not change. Without a journal or joint features nothing can be said.
    """
    journal = learner.journal
    entries = [] if journal is None else list(journal.entries(journal.start, journal.end))
    if journal is None or not entries or "read" not in entries[0].arrays:
        return []
    labels = torch.tensor([entry.label for entry in entries])
    values, ranges = (
        torch.from_numpy(np.stack([entry.arrays[name] for entry in entries]))
        for name in ("read", "read_range")
    )
    x = dequantise(values, ranges)[:, learner.backbone.widths[0] :]  # the joint features
    runs = runs_of(x, labels)
    some = _some_of_each(runs)
    shares = left_out_shares(x[some], labels[some], runs[some], len(learner.classes))
    of_class, of_run = torch.bincount(labels), torch.bincount(runs)
    found = []
    for run in torch.unique(runs[some]).tolist():
        numbers = (runs == run).nonzero().flatten()
        label = int(labels[numbers[0]])
        if of_run[run] > MOST_OF_CLASS * of_class[label]:
            continue
        share = shares[runs[some] == run].mean(dim=0)  # (Z,)
        other, margin = int(share.argmax()), float(share.max() - share[label])
        if margin >= MARGIN:
            found.append(
                Suspect(
                    tuple((numbers + journal.start + 1).tolist()),
                    learner.classes[label],
                    learner.classes[other],
                    margin,
                )
            )
    return sorted(found, key=lambda suspect: -suspect.margin)


def _some_of_each(runs: torch.Tensor) -> torch.Tensor:
    """Return the places of at most `COMPARED` frames, (M,): some of each of the newest runs."""
    sizes = torch.bincount(runs)
    each, chosen = max(2, COMPARED // len(sizes)), list[torch.Tensor]()
    for run in reversed(range(len(sizes))):
        places = (runs == run).nonzero().flatten()
        taken = min(each, len(places))
        chosen.append(places[torch.arange(taken) * len(places) // taken])
    return torch.cat(chosen)[:COMPARED]

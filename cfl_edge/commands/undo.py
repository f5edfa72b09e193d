"""Take back what a model learned last: the main part of `cfl-edge undo`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfl_edge.errors import DataError, UsageError
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Saved, Store
from cfl_edge.stream.source import Notice, log_notice

if TYPE_CHECKING:
    from cfl_edge.online.journal import Journal
    from cfl_edge.online.learner import Learner
    from cfl_edge.online.learner_config import LearnerConfig


@dataclass(frozen=True)
class Undone:
    """What `undo` took back.

    Args:
        frames_taken_back: How many frames.
        seconds_taken_back: From the last frame that stays to the last one taken back.
        per_class: Frames taken back of each class.
        classes_gone: Classes of which no frame is left.
        frames_learned: Frames that the model has learned now.
        classes: Names that it knows now, in the order of their rows.
        samples: Frames that it has learned now of each class.
        frames_left: Frames that another undo can take back.
        exported: ONNX files in the model folder, which still know what was taken back.
    """

    frames_taken_back: int
    seconds_taken_back: float
    per_class: dict[str, int]
    classes_gone: list[str]
    frames_learned: int
    classes: list[str]
    samples: dict[str, int]
    frames_left: int
    exported: Path | None


def undo(
    model: Path,
    *,
    seconds: float | None = None,
    frames: int | None = None,
    device: str = "auto",
    on_notice: Notice = log_notice,
) -> Undone:
    """Bring a model back to before the frames that it learned last, and save it.

    An older state that the model folder kept learns again what came between. The journal has that
    in 8 bits a value, so the result differs by this rounding from a model that never met the frames
    taken back; counts are exact.

    Args:
        model: The model folder.
        seconds: How far back, counted from the last frame learned.
        frames: How many frames; give one of the two.
        device: "auto", "cpu" or "cuda".
        on_notice: Called with what the user should know.

    Raises:
        UsageError: Not one of `seconds` and `frames`, or one that is not above 0.
        DataError: The journal does not reach back that far; the text says how far it does.
        ModelError: There is no model, another process is at work on it, or it cannot be written.
    """
    _require_one(model, seconds, frames)
    store = Store(model, on_notice=on_notice)
    store.require_usable()
    if not store.exists():
        store.load()  # says what is missing and what to do
    with ModelLock(model):
        saved = store.load()
        from cfl_edge.model.checkpoint import config_of
        from cfl_edge.model.journalled import save_learner, saved_journal

        config = config_of(saved)
        journal = saved_journal(saved, config.journal_mib)
        if journal is None:
            raise DataError(
                f"{model} has no journal of what it learned last: it was learned with "
                "--journal-mib 0 or by an older cfl-edge, or its classes were changed since",
                hint=f"cfl-edge learn --model {model} --stream URI keeps one from now on",
            )
        journal.keep_bases(store.numbers())
        count = journal.frames_within(seconds) if seconds is not None else frames or 0
        cut = journal.end - count
        learner, again = _base(store, saved, journal, cut, config, device)
        if learner is None:
            raise _too_far(model, journal, seconds, frames)
        seconds_back = journal.seconds_of(count)
        names: list[str] = saved.manifest["classes"]
        taken = Counter(names[e.label] for e in journal.entries(cut, journal.end))
        if again:
            on_notice(f"learning {counted(again, 'frame')} again that stay")
        _learn_again(learner, journal, cut, names)
        _keep_examples(learner, saved, touched=set(taken))
        journal.cut(cut)
        learner.journal = journal
        save_learner(store, learner, {"runs": saved.manifest["counters"].get("runs", 0)})
    exported = model / "onnx"
    return Undone(
        frames_taken_back=count,
        seconds_taken_back=seconds_back,
        per_class={name: taken[name] for name in names if name in taken},
        classes_gone=[name for name in names if name not in learner.classes],
        frames_learned=learner.frames_learned,
        classes=list(learner.classes),
        samples=learner.samples(),
        frames_left=journal.reach(),
        exported=exported if (exported / "model.onnx").exists() else None,
    )


def counted(number: int, name: str) -> str:
    """Return a number and its noun.

    Example:
        >>> counted(1, "frame"), counted(2, "frame")
        ('1 frame', '2 frames')
    """
    return f"{number} {name}" + "s" * (number != 1)


def _require_one(model: Path, seconds: float | None, frames: int | None) -> None:
    example = f"cfl-edge undo {model} --seconds 30"
    if (seconds is None) == (frames is None):
        given = "neither --seconds nor --frames" if seconds is None else "--seconds and --frames"
        raise UsageError(f"undo was given {given}, expected one of them", hint=example)
    for option, value in (("--seconds", seconds), ("--frames", frames)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{option} is {value:g}, expected more than 0", hint=example)


def _base(
    store: Store, saved: Saved, journal: Journal, cut: int, config: LearnerConfig, device: str
) -> tuple[Learner | None, int]:
    """Return the newest state from before the cut, and how many frames it is behind; or None.

    States that turn out to be gone or damaged are struck out of the journal's bases.
    """
    from cfl_edge.commands.learn import choose_device
    from cfl_edge.model.checkpoint import from_saved
    from cfl_edge.online.learner import Learner

    chosen = choose_device(device)
    for base in sorted(journal.bases, key=lambda base: base.frames, reverse=True):
        if base.frames > cut:
            continue
        if base.generation == 0:
            return Learner(config, chosen), cut
        older = store.load_older(base.generation)
        if older is not None and older.manifest["counters"]["frames_learned"] == base.frames:
            names = older.manifest["classes"]
            if names == saved.manifest["classes"][: len(names)]:
                return from_saved(older, device=chosen, config=config), cut - base.frames
        journal.bases.remove(base)
    return None, 0


def _too_far(model: Path, journal: Journal, seconds: float | None, frames: int | None) -> DataError:
    """Say how much can be taken back, and how."""
    asked = f"{seconds:g} seconds" if seconds is not None else counted(frames or 0, "frame")
    reach = journal.reach()
    if not reach:
        return DataError(
            f"{model}: {asked} cannot be taken back, and nothing else either: no state from before "
            "the last frames is left",
            hint=f"cfl-edge learn --model {model} --stream URI keeps one from now on",
        )
    return DataError(
        f"{model}: {asked} cannot be taken back, the journal reaches back "
        f"{counted(reach, 'frame')} ({journal.seconds_of(reach):.0f} s)",
        hint=f"cfl-edge undo {model} --frames {reach}",
    )


def _learn_again(learner: Learner, journal: Journal, cut: int, names: list[str]) -> None:
    """Let an older state learn what the journal has between it and the cut."""
    import torch

    from cfl_edge.online.journal_entries import from_entry

    px = learner.image_px
    blank = torch.zeros(1, px, px, 3, dtype=torch.uint8, device=learner.device)
    examples = dict(learner.examples)
    for entry in journal.entries(learner.frames_learned, cut):
        encoded = learner.encode_stem(blank, *from_entry(entry.arrays, learner.device))
        learner.learn(encoded, [names[entry.label]])
    learner.settle()
    learner.examples = examples


def _keep_examples(learner: Learner, saved: Saved, touched: set[str]) -> None:
    """Keep the pictures that exports are checked on, but none that was taken back.

    The newest picture of each class is kept: of a class that loses frames, that is one of these.
    """
    import torch

    from cfl_edge.online.learner import EXAMPLES

    state, names = saved.tensors["state"], saved.manifest["classes"]
    numbers = state["examples.labels"].tolist() if "examples.labels" in state else []
    for i, number in enumerate(numbers):
        if number < len(learner.classes) and names[number] not in touched:
            picture = torch.from_numpy(state["examples"][i]).to(learner.device)
            learner.examples[number % EXAMPLES] = (picture, number)
    if learner.classes and not learner.examples:  # noise shows a difference as well
        shape = (learner.image_px, learner.image_px, 3)
        noise = np.random.default_rng(learner.config.seed).integers(0, 256, shape, np.uint8)
        learner.examples[0] = (torch.from_numpy(noise).to(learner.device), 0)

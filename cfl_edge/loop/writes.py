"""Counts what a run of `learn` writes to disk, and limits it to a budget per day."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfl_edge.config.learn import LearnSettings
from cfl_edge.learner.journal_stored import GROUP
from cfl_edge.model.store import VIEW_FILE, Store
from cfl_edge.model.write_budget import WriteBudget
from cfl_edge.notices import Notice

if TYPE_CHECKING:
    from cfl_edge.loop.publish import Publisher
    from cfl_edge.onnx.export import Exported

COUNTER = "write_budget"  # among the counters of a saved model
KINDS = ("state", "replay", "journal", "publish", "export")


@dataclass(frozen=True)
class Written:
    """What a run has written.

    Args:
        bytes: Bytes of each of `KINDS`; labels and `view.jpg` count as `state`.
        gb_per_day: What a day of learning without a pause would write, in 10^9 bytes; a
            correction is saved at once, even beyond it.
    """

    bytes: dict[str, int]
    gb_per_day: float

    def fields(self) -> dict[str, Any]:
        """Return it as fields of a summary."""
        return {
            "written_mb": {kind: count / 1e6 for kind, count in self.bytes.items()},
            "write_gb_per_day": self.gb_per_day,
        }

    def line(self) -> str:
        """Return it as a line of a summary.

        Example:
            >>> Written({"state": 1_500_000, "journal": 0, "publish": 0}, 2.0).line()
            '1.5 MB (state 1.5); a day of learning writes 2.00 GB at most, corrections aside'
        """
        parts = ", ".join(f"{kind} {n / 1e6:.1f}" for kind, n in self.bytes.items() if n)
        total = f"{sum(self.bytes.values()) / 1e6:.1f} MB" + f" ({parts})" * bool(parts)
        a_day = f"a day of learning writes {self.gb_per_day:.2f} GB at most, corrections aside"
        return f"{total}; {a_day}"


class Writes:
    """Counts the writes of a run, and says whether the next fits the budget.

    With `--publish`, the model folder and the published file get half of the daily bytes each:
    neither blocks the other.

    Args:
        settings: Settings of `learn`.
        store: The model folder.
        counters: Saved with the model; they hold the state of the budgets.
        on_notice: Told when writes become rarer than was asked for.
        clock: Monotonic seconds.
        unix_clock: Unix time in seconds.
    """

    def __init__(
        self,
        settings: LearnSettings,
        store: Store,
        counters: dict[str, Any],
        on_notice: Notice,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._store, self._counters = settings, store, counters
        self._unix_clock = unix_clock
        option = f"--write-gb-per-day {settings.write_gb_per_day:g}"
        names = {"save": "a checkpoint"}
        if settings.publish is not None:
            names["publish"] = f"--publish {settings.publish}"
        day_bytes = settings.write_gb_per_day * 1e9 / len(names)
        self._budgets = {
            key: WriteBudget(day_bytes, what, option, on_notice, clock=clock)
            for key, what in names.items()
        }
        before = counters.get(COUNTER, {})
        for key, budget in self._budgets.items():
            if key in before:
                budget.resume(before[key], unix_clock())

    @property
    def publishing(self) -> WriteBudget | None:
        """The budget of the published file; None without `--publish`."""
        return self._budgets.get("publish")

    def may_save(self) -> bool:
        """Return whether a checkpoint fits the budget."""
        return self._budgets["save"].allows()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the bytes that a save within the block writes, even if it fails."""
        before = self._store.written.total()
        now_s = self._unix_clock()
        self._counters[COUNTER] = {
            key: budget.saved(now_s) for key, budget in self._budgets.items()
        }
        try:
            yield
        finally:
            self._budgets["save"].note(self._store.written.total() - before)

    def written(self, publisher: Publisher | None, exported: Exported | None) -> Written:
        """Return what was written so far.

        Args:
            publisher: Of `--publish`.
            exported: The ONNX files of the end.
        """
        count: Counter[str] = Counter()
        for name, size_bytes in self._store.written.items():
            group = name.removesuffix(".safetensors")
            count["journal" if group.startswith(GROUP) else group] += size_bytes
        count["state"] += count.pop("manifest.json", 0) + count.pop(VIEW_FILE, 0)
        if publisher is not None:
            count["publish"] = publisher.written
        if exported is not None:
            files: tuple[Path, ...] = (exported.model, exported.classifier, exported.labels)
            count["export"] = sum(path.stat().st_size for path in files)
        a_day = self._budgets["save"].a_day_bytes(self._settings.checkpoint_s)
        if self.publishing is not None:
            a_day += self.publishing.a_day_bytes(self._settings.publish_seconds)
        return Written({kind: count[kind] for kind in KINDS}, a_day / 1e9)

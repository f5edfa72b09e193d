"""Peak memory: what was taken for a moment counts, and nothing is forgotten."""

import mmap
import sys
from pathlib import Path

import pytest
import torch

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.factor import Factor
from cfl_edge.core.rounding import from_levels, to_levels
from cfl_edge.loop.metrics import PeakMemory, peak_rss_mib

MIB = 2**20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/clear_refs")
pytestmark = LINUX


def take(mib):
    """Touch so much memory from the system itself, and give it back."""
    with mmap.mmap(-1, mib * MIB) as block:
        for start in range(0, len(block), mmap.PAGESIZE):
            block[start] = 1


def test_a_block_counts_after_it_was_freed():
    memory = PeakMemory()
    assert memory.growth_mib < 2
    take(64)
    assert memory.growth_mib == pytest.approx(64, abs=2)
    take(32)
    assert memory.growth_mib == pytest.approx(64, abs=2)
    take(96)
    assert memory.growth_mib == pytest.approx(96, abs=2)


def test_what_was_there_before_is_no_growth():
    take(128)
    memory = PeakMemory()
    take(64)
    assert memory.growth_mib == pytest.approx(64, abs=2)


def test_the_peak_does_not_fall_when_the_mark_is_set_back():
    before_mib = peak_rss_mib()
    first = PeakMemory()
    missing_mib = max(64, int(before_mib - first._start_mib) + 64)
    take(missing_mib)
    highest_mib = peak_rss_mib()
    assert highest_mib > before_mib + 32
    for _ in range(3):
        PeakMemory()
        assert peak_rss_mib() >= highest_mib


def refuse(*_):
    raise PermissionError("clear_refs is not there in this kernel")


def test_where_the_mark_cannot_be_set_back_growth_is_above_it(monkeypatch):
    PeakMemory()  # whatever other tests took
    take(64)
    monkeypatch.setattr(Path, "write_text", refuse)
    memory = PeakMemory()
    peak_mib = peak_rss_mib()
    take(32)
    assert memory.growth_mib < 2
    take(96)
    assert memory.growth_mib == pytest.approx(32, abs=3)
    assert peak_rss_mib() >= peak_mib


def test_where_there_is_no_proc_the_peak_is_the_systems(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(Path, "write_text", refuse)
    memory = PeakMemory()
    assert peak_rss_mib() > 10
    assert memory.growth_mib >= 0


def test_sums_of_products_take_no_memory_before_there_are_many_samples():
    x = torch.randn(300, 2048, generator=torch.Generator().manual_seed(0))
    for counts in (False, True):  # the first time libraries take memory of their own
        memory, statistics = PeakMemory(), ClassStatistics(2048, classes=1)
        statistics.update(x[:40], torch.zeros(40, dtype=torch.long))
        Factor(statistics).finish()
        if counts:
            assert memory.growth_mib < 6
    statistics.update(x[40:], torch.zeros(260, dtype=torch.long))
    statistics.triangle()
    assert memory.growth_mib > 8  # 2,048 x 2,049 / 2 numbers


def test_moments_are_rounded_with_one_copy_of_them():
    moments = torch.linspace(-1, 1, 16 * MIB)  # too large a block for what was freed before
    memory = PeakMemory()
    levels = to_levels(moments)
    assert 60 < memory.growth_mib < 100
    memory = PeakMemory()
    from_levels(levels)
    assert 60 < memory.growth_mib < 150

"""The journal: the last frames in bounded bytes, and the states that undo can begin from."""

import numpy as np
import pytest
import torch

from cfl_edge.learner.journal import (
    BASE_EVERY,
    MIB,
    MOST_BASES,
    SEGMENTS,
    Base,
    Journal,
)
from cfl_edge.learner.journal_entries import from_entries, to_entries
from cfl_edge.learner.journal_segment import Moment
from cfl_edge.learner.journal_stored import forget_journal, from_stored, to_tensors, to_words
from cfl_edge.learner.quantise import SMALLEST_STEP, dequantise, quantise
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.class_table import MOST_CHANGES, Change

VALUES = 100
ENTRY_BYTES = VALUES + 8 + 4 + 4 + 4  # values, time, session, label, hold
FRAMES = 80  # that the small journal has room for
SMALL_MIB = FRAMES * ENTRY_BYTES / MIB


def fill(journal, count, *, every_s=1.0, begin_s=1e9):
    for _ in range(count):
        n = journal.end
        journal.add(n % 7, {"x": np.full(VALUES, n % 251, np.uint8)}, time_s=begin_s + n * every_s)


def numbers(journal):
    """What the entries hold, which `fill` made of their number."""
    entries = list(journal.entries(journal.start, journal.end))
    for entry in entries:
        assert (entry.arrays["x"] == entry.arrays["x"][0]).all()
        assert entry.arrays.keys() == {"x"}
    return [(entry.label, int(entry.arrays["x"][0])) for entry in entries]


def expected(after, until):
    return [(n % 7, n % 251) for n in range(after, until)]


def test_the_newest_frames_stay_within_the_bytes():
    journal = Journal(SMALL_MIB, bases=[Base(0, 0)])
    for _ in range(400):
        fill(journal, 1)
        assert journal.reserved_bytes <= SMALL_MIB * MIB
        assert numbers(journal) == expected(journal.start, journal.end)
        kept = journal.end - journal.start
        assert kept > min(journal.end - 1, FRAMES * (SEGMENTS - 1) // SEGMENTS)
    assert journal.end == 400
    assert journal.bases == []  # the journal no longer reaches back to it
    assert journal.reach() == 0


def test_a_part_of_the_entries():
    journal = Journal(SMALL_MIB, start=10)
    fill(journal, 35)
    for after, until in ((10, 45), (10, 10), (12, 13), (19, 31), (44, 45)):
        found = [(e.label, int(e.arrays["x"][0])) for e in journal.entries(after, until)]
        assert found == expected(after, until)


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 11, 34, 35])
def test_a_cut_forgets_the_newest_and_their_bases(kept):
    journal = Journal(SMALL_MIB, bases=[Base(0, 0), Base(3, 10), Base(4, 35)])
    fill(journal, 35)
    journal.cut(kept)
    assert numbers(journal) == expected(0, kept)
    assert [base.frames for base in journal.bases] == [n for n in (0, 10, 35) if n <= kept]
    fill(journal, 35)
    assert numbers(journal) == expected(0, kept + 35)


def test_a_limit_below_one_frame_keeps_nothing_and_harms_nothing():
    journal = Journal(10 / MIB, bases=[Base(0, 0)])
    fill(journal, 5)
    assert (journal.start, journal.end, journal.reach()) == (5, 5, 0)
    assert journal.start_at == (0, 1e9 + 4)


# ------------------------------------------------------------------------------------------- time


def test_seconds_count_from_the_last_frame():
    journal = Journal(SMALL_MIB)
    fill(journal, 40, every_s=0.5)
    assert [journal.frames_within(s) for s in (0.1, 0.5, 0.7, 5.0, 1e9)] == [1, 2, 2, 11, 40]
    assert journal.seconds_of(1) == 0.5
    assert journal.seconds_of(10) == 5.0
    assert journal.seconds_of(40) == 19.5  # there was no frame before: since the first


def test_a_pause_before_the_last_frames_is_not_of_their_seconds():
    journal = Journal(SMALL_MIB)
    fill(journal, 10, every_s=0.1)
    fill(journal, 20, every_s=0.1, begin_s=1e9 + 39)  # a label held for 2 s, after 39.1 s without
    assert journal.seconds_of(19) == pytest.approx(1.9)
    assert journal.seconds_of(20) == pytest.approx(1.9)
    assert journal.seconds_of(21) == pytest.approx(1.9 + 39.1 + 0.1)  # and the pause


@pytest.mark.parametrize("begin_s", [1e9 + 3600, 1e9 + 9, 0.0, -1e9])
def test_sessions_are_apart_whatever_their_clocks_say(begin_s):
    """A board without a battery for its clock starts in 1970 each time."""
    journal = Journal(SMALL_MIB)
    fill(journal, 10)
    journal.session += 1
    fill(journal, 10, begin_s=begin_s)
    assert [journal.frames_within(s) for s in (5, 9, 60, 1e9)] == [6, 10, 10, 10]
    across = [journal.frames_within(s, across_sessions=True) for s in (5, 8.5, 9, 12, 1e9)]
    assert across == [6, 9, 11, 14, 20]  # the pause between the two is no time of learning
    assert journal.seconds_of(10) == 9.0
    assert journal.seconds_of(12) == 11.0


def test_the_session_before_the_first_frame_of_the_journal():
    journal = Journal(SMALL_MIB, start=5, start_at=Moment(3, 50.0))
    assert journal.session == 4
    fill(journal, 10, begin_s=0.0)
    assert journal.frames_within(1e9) == 10  # of its own session; the frame before is of another
    assert journal.frames_within(1e9, across_sessions=True) == 11
    journal.cut(5)
    assert journal.frames_within(1e9) == 1  # nothing left of it: the frame before, which is too far


def test_more_seconds_than_the_journal_has_is_told_apart_from_all_of_it():
    journal = Journal(SMALL_MIB, start=5, start_at=Moment(0, 1e9 + 4))
    journal.session = 0
    fill(journal, 10)
    assert journal.frames_within(9.5) == 10
    assert journal.frames_within(10.0) == 11  # the frame before it as well: too far
    assert Journal(SMALL_MIB).frames_within(30) == 0


# ------------------------------------------------------------------------------------------ bases


@pytest.mark.parametrize("every", [1, 3, 10, 17, 29, 30, 1000])
def test_half_of_the_journal_can_always_be_taken_back(every):
    """`every`: frames between saves; where the journal asks for one sooner, it gets it."""
    journal, checkpoint, saved_at = Journal(SMALL_MIB, bases=[Base(0, 0)]), 0, 0
    least, most_bases = FRAMES, 0
    for i in range(1, 20 * FRAMES):
        fill(journal, 1)
        if i > FRAMES:
            least = min(least, journal.reach())
        if i - saved_at >= every or journal.base_is_due:
            kept = journal.thin()
            assert len(kept) <= MOST_BASES + 1
            assert all(base.frames >= journal.start for base in journal.bases)
            assert kept <= {0, *range(checkpoint + 1)}
            most_bases = max(most_bases, len(kept))
            checkpoint, saved_at = checkpoint + 1, i
            journal.saved_as(checkpoint, sorted(kept | {checkpoint}, reverse=True))
    assert least >= FRAMES * 0.4
    if every >= 10:
        assert least >= FRAMES // 2
    assert most_bases > 1


def test_a_base_is_due_after_a_share_of_the_journal():
    journal = Journal(SMALL_MIB, bases=[Base(0, 0)])
    assert not journal.base_is_due
    due = []
    for _ in range(FRAMES):
        fill(journal, 1)
        if journal.base_is_due:
            due.append(journal.end)
            journal.saved_as(len(due), range(1, len(due) + 1))
    assert due == [int(FRAMES * BASE_EVERY), int(FRAMES * BASE_EVERY) * 2]


def test_what_a_full_disk_cost_is_no_base_any_more():
    journal = Journal(SMALL_MIB, bases=[Base(0, 0), Base(1, 2), Base(2, 4)])
    fill(journal, 6)
    journal.saved_as(3, [3, 2])
    assert journal.bases == [Base(0, 0), Base(2, 4), Base(3, 6)]


# ------------------------------------------------------------------------------------------ saving


def restored(journal, limit_mib=SMALL_MIB):
    groups = {"state": {}, **to_tensors(journal)}
    copied = {g: {n: a.copy() for n, a in arrays.items()} for g, arrays in groups.items()}
    return from_stored(to_words(journal), copied, limit_mib)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 79, 80, 81, 200])
def test_it_comes_back_and_goes_on(count):
    journal = Journal(SMALL_MIB, bases=[Base(0, 0)])
    fill(journal, count)
    journal.saved_as(1, [1])
    back = restored(journal)
    assert numbers(back) == expected(journal.start, count)
    assert back.frames_within(3) == journal.frames_within(3)
    assert back.session == journal.session + (count > 0)
    fill(journal, 95)
    fill(back, 95)
    assert (back.start, back.end, back.bases) == (journal.start, journal.end, journal.bases)
    assert numbers(back) == numbers(journal)
    assert back.reserved_bytes <= SMALL_MIB * MIB


def test_a_frame_a_run_does_not_make_a_file_a_frame():
    journal = Journal(SMALL_MIB)
    for _ in range(300):
        journal = restored(journal)
        fill(journal, 1)
        assert len(to_tensors(journal)) <= SEGMENTS
    assert journal.end - journal.start > FRAMES // 2
    assert numbers(journal) == expected(journal.start, journal.end)


def test_full_segments_are_stored_without_a_copy_and_never_change():
    journal = Journal(SMALL_MIB)
    fill(journal, 25)
    before = {name: arrays["x"].copy() for name, arrays in to_tensors(journal).items()}
    fill(journal, 25)
    after = to_tensors(journal)
    names = sorted(before)
    assert [np.array_equal(before[name], after[name]["x"]) for name in names] == [True, True, False]
    assert np.shares_memory(after[names[0]]["x"], to_tensors(journal)[names[0]]["x"])


def test_a_smaller_limit_drops_the_oldest():
    journal = Journal(SMALL_MIB, bases=[Base(0, 0)])
    fill(journal, 60)
    back = restored(journal, SMALL_MIB / 4)
    assert 0 < back.end - back.start <= FRAMES // 4
    assert back.end == 60
    assert numbers(back) == expected(back.start, 60)
    assert back.bases == []
    fill(back, 30)
    assert numbers(back) == expected(back.start, 90)
    assert back.reserved_bytes <= SMALL_MIB / 4 * MIB


def test_what_does_not_fit_together_is_refused():
    journal = Journal(SMALL_MIB)
    fill(journal, 5)
    groups = to_tensors(journal)
    [arrays] = groups.values()
    for change in ({"x": arrays["x"][:2]}, {"labels": arrays["labels"][:2]}):
        with pytest.raises(ValueError, match="frames, expected as many"):
            from_stored(to_words(journal), {"journal_000000001": arrays | change}, 1)
    with pytest.raises(KeyError):
        from_stored({}, groups, 1)


def test_changes_of_classes_come_back_and_are_bounded():
    journal = Journal(SMALL_MIB, bases=[Base(0, 0), Base(5, 0)])
    for number in range(5, 5 + MOST_CHANGES):
        journal.follow(Change("rename", ("cup",), f"mug {number}"), number, [0])
    assert restored(journal).changes == journal.changes
    journal.follow(Change("add", (), "pen"), 5 + MOST_CHANGES, [0])
    assert len(to_words(journal)["changes"]) == 0
    assert journal.bases == []  # no older state can follow all changes any more


def test_a_class_that_is_merged_twice_is_noted_once():
    journal = Journal(SMALL_MIB, bases=[Base(0, 0)])
    journal.follow(Change("merge", ("cup", "mug", "cup"), "drink"), 1, [0, 0])
    assert journal.changes == [(1, Change("merge", ("cup", "mug"), "drink"))]


def test_changes_that_no_base_needs_any_more_are_not_stored():
    journal = Journal(SMALL_MIB, bases=[Base(4, 0)])
    fill(journal, 3)
    journal.follow(Change("add", (), "mug"), 3, list(range(7)))
    assert to_words(journal)["changes"] == []


def test_a_removed_class_forgets_it():
    journal = Journal(SMALL_MIB)
    fill(journal, 25)
    saved = Saved(
        {"journal": to_words(journal), "classes": []}, {"state": {}, **to_tensors(journal)}
    )
    assert forget_journal(saved)
    assert (saved.manifest, saved.tensors) == ({"classes": []}, {"state": {}})
    assert not forget_journal(saved)


# ----------------------------------------------------------------------------------- 8 bits a value


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 2, 3, 3)])
def test_8_bits_round_by_half_a_step(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 10
    values, ranges = quantise(x)
    assert (values.shape, values.dtype, ranges.shape) == (x.shape, torch.uint8, (len(x), 2))
    error = (dequantise(values, ranges) - x).abs().flatten(1).amax(1)
    assert (error <= ranges[:, 1] * 0.5001 + 1e-6).all()
    flat = x.flatten(1)
    assert torch.equal(ranges[:, 0], flat.amin(1))
    wanted = ((flat.amax(1) - flat.amin(1)) / 255).clamp(min=SMALLEST_STEP)
    assert torch.allclose(ranges[:, 1], wanted)


def test_rounding_what_was_rounded_changes_nothing():
    """What is learned again comes from the journal and goes into the replay memory."""
    x = torch.rand(20, 50, generator=torch.Generator().manual_seed(1))
    values, ranges = quantise(x)
    assert torch.equal(quantise(dequantise(values, ranges))[0], values)


@pytest.mark.parametrize("has_end", [True, False])
def test_an_entry_holds_what_the_backbone_returned(has_end):
    random = torch.Generator().manual_seed(2)
    h0 = torch.rand(3, 4, 2, 2, generator=random)
    end = torch.rand(3, 6, generator=random) if has_end else None
    for i, entry in enumerate(to_entries(h0, end)):
        assert sum(array.nbytes for array in entry.values()) == (16 + 8) + has_end * (6 + 8)
        h0_back, end_back = from_entries([entry], "cpu")
        assert h0_back.shape == (1, 4, 2, 2)
        assert torch.allclose(h0_back[0], h0[i], atol=1 / 500)
        assert (end_back is not None) == has_end
        if end is not None:
            assert torch.allclose(end_back[0], end[i], atol=1 / 500)

"""The loop: what it counts, when it saves, how it ends."""

import os
import signal
import termios
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import final

import learner_checks
import pytest
from sessions import learn_stream
from test_checkpoint import assert_same

from cfl_edge.errors import (
    DataError,
    ModelWriteError,
    StreamError,
    StreamLostError,
    UsageError,
)
from cfl_edge.frame.frame import Frame
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.algorithms import local_contrast
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.loop import interrupts as interrupts_module
from cfl_edge.model.store import Store
from cfl_edge.stream.source import Skipped, Stream

KINDS = ("above", "left")
FULL = ModelWriteError("the disk is full", hint="free some space")
NEVER_S = 1e6
ALWAYS_S = 1e-9


def new_learner(algorithm="cfl"):
    return Learner(LearnerConfig(learner=algorithm, backbone="none", layers="8,16", image_px=16))


def frame(index, label=None):
    """An image of the kind that the label, or the index, names."""
    kind = KINDS.index(label) if label in KINDS else index % 2
    image = learner_checks.pictures(SimpleNamespace(image_px=16), kind, 1, seed=index)[0]
    return Frame(image, timestamp_s=float(index), index=index, label=label)


def frames(count, *, labelled=True):
    return [frame(i, KINDS[i % 2] if labelled else None) for i in range(count)]


@final
class Script(Stream):
    """Yields frames, calls what can be called, raises what is an error."""

    uri, live, dropped, damaged, total = "script:", False, 0, 0, None
    skipped = ()

    def __init__(self, *steps):
        self.steps, self.read = steps, 0

    def description(self):
        return "a script"

    def __iter__(self):
        for step in self.steps:
            if callable(step):
                step()
                continue
            if isinstance(step, Exception):
                raise step
            self.read += 1
            yield replace(step, index=max(step.index, self.read - 1 + step.dropped))

    def answer(self, label, score):
        pass

    def close(self):
        pass


class Saves:
    """A `save` that notes how much was learned each time; `failures` of the first calls fail."""

    def __init__(self, learner, failures=0):
        self.learner, self.failures, self.learned = learner, failures, []

    def __call__(self):
        if self.failures:
            self.failures -= 1
            raise FULL
        self.learned.append(self.learner.frames_learned)


def run(*steps, learner=None, labels=None, save=None, **options):
    learner = learner or new_learner()
    save = save or Saves(learner)
    options = {"checkpoint_s": NEVER_S} | options
    stream = Script(*steps)
    return learn_stream(stream, labels or FrameLabels.of_stream(), learner, save=save, **options)


def test_the_summary_counts_what_happened():
    learner, seen = new_learner(), []
    summary = run(
        *frames(6), frame(6), *frames(5)[:1], learner=learner, on_step=lambda p: seen.append(p)
    )
    assert (summary.frames, summary.seen, summary.learned) == (8, 8, 7)
    assert summary.classes == ["above", "left"]
    assert learner.samples() == {"above": 4, "left": 3}
    assert not summary.interrupted
    assert summary.fps == pytest.approx(8 / summary.seconds)
    assert summary.peak_rss_mib > 10
    assert [p.frames for p in seen] == list(range(1, 9))
    assert [p.lesson.learned for p in seen] == [True] * 6 + [False, True]


def test_a_frame_is_predicted_before_it_is_learned():
    seen = []
    summary = run(*[frame(i, "above") for i in range(4)], on_step=seen.append)
    assert [p.prediction.label for p in seen] == [None, "above", "above", "above"]
    assert summary.prequential_accuracy == 3 / 4
    assert run(frame(0, "above"), frame(1, "left")).prequential_accuracy == 0


def test_max_frames_ends_it_without_reading_on():
    stream, learner = Script(*frames(9)), new_learner()
    saves = Saves(learner)
    summary = learn_stream(stream, FrameLabels.of_stream(), learner, save=saves, max_frames=4)
    assert summary.frames == stream.read == 4
    assert saves.learned == [4]


def test_frames_that_were_dropped_count_for_max_frames_and_the_totals():
    slow = [replace(one, dropped=number) for number, one in enumerate(frames(9))]
    slow[3] = replace(slow[3], damaged=1, index=7)
    stream, learner, steps = Script(*slow), new_learner(), []
    options = {"save": Saves(learner), "on_step": steps.append, "max_frames": 6}
    summary = learn_stream(stream, FrameLabels.of_stream(), learner, **options)
    assert [(step.frames, step.seen) for step in steps] == [(1, 1), (3, 2), (5, 3), (8, 4)]
    assert steps[-1].counts() == "4 seen, 4 learned, 3 dropped, 1 damaged"
    assert (summary.frames, summary.seen, summary.dropped, summary.damaged) == (8, 4, 3, 1)


def test_images_that_cannot_be_read_count_as_frames_of_the_stream():
    stream, learner, steps = Script(*frames(3)), new_learner(), []
    stream.skipped, stream.total = [Skipped("torn.jpg", "it is damaged")], 4
    summary = learn_stream(
        stream, FrameLabels.of_stream(), learner, save=Saves(learner), on_step=steps.append
    )
    assert (steps[-1].frames, steps[-1].total, steps[-1].seen) == (4, 4, 3)
    assert (summary.frames, summary.seen, summary.skipped) == (4, 3, 1)


def test_checkpoints_when_due_and_only_after_learning():
    learner = new_learner()
    saves = Saves(learner)
    steps = [frame(0, "above"), frame(1), frame(2), frame(3, "left"), frame(4)]
    run(*steps, learner=learner, save=saves, checkpoint_s=ALWAYS_S)
    assert saves.learned == [1, 2, 2]  # the last one at the end
    learner = new_learner()
    saves = Saves(learner)
    run(*frames(5), learner=learner, save=saves, checkpoint_s=NEVER_S)
    assert saves.learned == [5]


def test_a_failed_checkpoint_is_told_and_tried_again_even_if_nothing_more_is_learned():
    learner, notices = new_learner(), []
    saves = Saves(learner, failures=2)
    summary = run(
        *frames(2),
        *frames(2, labelled=False),
        learner=learner,
        save=saves,
        checkpoint_s=ALWAYS_S,
        on_notice=notices.append,
    )
    assert summary.learned == 2
    assert saves.learned == [2, 2]
    assert len(notices) == 3
    assert all("the disk is full; learning goes on" in notice for notice in notices[:2])
    assert notices[2] == "saved again: 2 learned frames"


def test_a_failed_save_at_the_end_is_an_error():
    learner = new_learner()
    with pytest.raises(ModelWriteError, match="the disk is full"):
        run(*frames(3), learner=learner, save=Saves(learner, failures=99))
    assert learner.frames_learned == 3


@pytest.mark.parametrize(
    ("last", "error", "text"),
    [
        (StreamLostError("camera gone", hint="plug it in"), StreamLostError, "camera gone"),
        (frame(5, "two\nlines"), DataError, "holds control characters"),
        (UsageError("port taken", hint="another port"), UsageError, "port taken"),
        (termios.error(5, "I/O error"), StreamError, r"failed: error\(5, 'I/O error'\)"),
    ],
)
def test_whatever_ends_a_stream_keeps_what_it_taught(last, error, text):
    learner = new_learner()
    saves = Saves(learner)
    with pytest.raises(error, match=text):
        run(*frames(5), last, learner=learner, save=saves)
    assert saves.learned == [5]


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([StreamLostError("camera gone", hint="plug it in")], StreamLostError),
        ([], DataError),
    ],
)
def test_a_stream_that_never_gave_a_frame_leaves_no_model(steps, error):
    learner = new_learner()
    saves = Saves(learner)
    with pytest.raises(error):
        run(*steps, learner=learner, save=saves)
    assert saves.learned == []


@pytest.mark.parametrize("labels", [FrameLabels.none(), FrameLabels.of_stream()])
def test_unlabelled_frames_only_predict(labels):
    learner, seen = new_learner(), []
    learner_checks.teach(learner)
    before = learner_checks.everything(learner)
    summary = run(*frames(4, labelled=False), learner=learner, labels=labels, on_step=seen.append)
    assert learner_checks.everything(learner) == before
    assert (summary.frames, summary.learned, summary.prequential_accuracy) == (4, 0, None)
    assert [p.prediction.label for p in seen] == ["above", "left", "above", "left"]


ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def default_signals():
    """Leave the process as it was, and fail if the loop did not."""
    before = {number: signal.getsignal(number) for number in ENDS}
    yield
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


SIGNALS = pytest.mark.parametrize("number", ENDS)
WORDS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "the end of its terminal",
}


def test_a_summary_says_whether_frames_were_left():
    assert run(*frames(5), max_frames=3).ended_by == "--max-frames 3"
    assert run(*frames(2), max_frames=3).ended_by is None
    assert run(*frames(2)).lost() == ""


@SIGNALS
def test_a_signal_while_waiting_for_a_camera_ends_at_once(number, default_signals):
    silent = threading.Event()
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), number))
    learner = new_learner()
    saves = Saves(learner)
    begun_s = time.monotonic()
    summary = run(
        *frames(3), timer.start, lambda: silent.wait(30), *frames(9), learner=learner, save=saves
    )
    timer.join()
    assert time.monotonic() - begun_s < 10
    assert summary.interrupted
    assert summary.ended_by == WORDS[number]
    assert summary.lost() == f"; ended by {WORDS[number]}"
    assert summary.frames == 3
    assert saves.learned == [3]


@SIGNALS
def test_a_signal_before_the_first_frame_ends_without_an_error(number, default_signals):
    summary = run(lambda: signal.raise_signal(number), *frames(3))
    assert summary.interrupted
    assert (summary.frames, summary.seconds, summary.fps) == (0, 0, 0)


@SIGNALS
def test_a_signal_within_a_gradient_step_lets_it_finish(
    number, default_signals, monkeypatch, tmp_path
):
    slices_before = local_contrast.training_slices

    def struck_slices(*arguments, **options):
        if struck.algorithm.trainer.steps == 1:  # the second step, before a layer has moved
            signal.raise_signal(number)
        return (yield from slices_before(*arguments, **options))

    struck, store, seen = new_learner(), Store(tmp_path / "model"), []
    monkeypatch.setattr(local_contrast, "training_slices", struck_slices)

    def save():
        saved = to_saved(struck)
        store.save(saved.manifest, saved.tensors)

    summary = run(*frames(20), learner=struck, save=save, on_step=seen.append)
    monkeypatch.undo()
    assert summary.interrupted
    assert len(seen) == summary.frames == 8  # four new frames a step

    undisturbed = new_learner()
    for one in frames(8):
        undisturbed.learn(undisturbed.encode(one.image[None]), [one.label])
    assert_same(struck, undisturbed)
    assert_same(Learner.from_saved(store.load()), undisturbed)


def test_whoever_asks_again_gets_what_the_system_does(default_signals, monkeypatch):
    def insist(_):
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(interrupts_module, "AGAIN_S", 0)  # a second has passed
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(*frames(3), on_step=insist)


@SIGNALS
def test_a_signal_that_is_sent_twice_at_once_counts_once(number, default_signals):
    def twice(_):
        signal.raise_signal(number)
        signal.raise_signal(number)

    learner = new_learner()
    saves = Saves(learner)
    summary = run(*frames(3), learner=learner, save=saves, on_step=twice)
    assert (summary.interrupted, summary.frames, saves.learned) == (True, 1, [1])


def test_a_hangup_that_nohup_ignores_stays_ignored(default_signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        summary = run(*frames(3), on_step=lambda _: signal.raise_signal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert (summary.interrupted, summary.frames) == (False, 3)

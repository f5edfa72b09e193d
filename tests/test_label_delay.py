"""Labels that come late: the ring against a plain list, and the loop with a delay."""

import re
from pathlib import Path
from typing import final

import pytest
import torch
from command_line import SMALL, assert_error, cfl_edge
from hypothesis import given
from hypothesis import strategies as st
from learn_settings import load_settings
from test_session import Saves, frame, frames, new_learner, run

from cfl_edge.cli.learn import learned_lines
from cfl_edge.core.features import Encoded
from cfl_edge.errors import StreamLostError, UsageError
from cfl_edge.frame.step import Summary
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.ring import (
    MIB,
    FrameRing,
    Kept,
    LabelledError,
    NotKeptError,
    RingLimits,
)
from cfl_edge.labels.source import LabelSource
from cfl_edge.loop.label_delay import open_ring, tensor_bytes
from cfl_edge.loop.learn_model import Learned
from cfl_edge.loop.writes import Written
from cfl_edge.onnx.export import Exported

STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 1.0, 3.0, -50.0]), st.integers(1, 5)), max_size=40
)
LIMITS = st.builds(
    RingLimits,
    seconds=st.sampled_from([0.0, 0.5, 2.0, 10.0]),
    frames=st.integers(1, 6),
    size_bytes=st.integers(1, 12),
)


class PlainRing:
    """The same as `FrameRing`, from lists made anew with every frame."""

    def __init__(self, delay_s, limits):
        self.delay_s, self.limits = delay_s, limits
        self.all, self.now_s = [], 0.0  # (index, time, bytes)
        self.done: set[int] = set()

    def add(self, index, step_s, size):
        self.now_s += max(0.0, step_s) if self.all else 0.0
        self.all.append((index, self.now_s, size))
        due = [
            i
            for i, time_s, _ in self.all
            if self.now_s - time_s >= self.delay_s and i not in self.done
        ]
        self.done.update(due)
        kept = {i for i, _, _ in self.kept()}
        early = [i for i, _, _ in self.all if i not in kept and i not in self.done]
        self.done.update(early)
        return due, early

    def kept(self):
        """The longest run of the newest frames that is within the limits."""
        for start in range(len(self.all)):
            part = self.all[start:]
            fits = (
                self.now_s - part[0][1] < self.limits.seconds
                and len(part) <= self.limits.frames
                and sum(size for _, _, size in part) <= self.limits.size_bytes
            )
            if fits or len(part) == 1:
                return part
        return []


@given(steps=STEPS, delay_s=st.sampled_from([0.0, 0.5, 2.0]), limits=LIMITS)
def test_the_ring_is_a_list_with_limits(steps, delay_s, limits):
    ring, plain = FrameRing(delay_s, limits), PlainRing(delay_s, limits)
    timestamp_s, seen = 7.0, []
    for index, (step_s, size) in enumerate(steps):
        timestamp_s += step_s
        due, early = ring.add(Kept(index, None, size), timestamp_s)
        assert ([k.index for k in due], [k.index for k in early]) == plain.add(index, step_s, size)
        seen += due + early
        kept = plain.kept()
        assert (ring.frames, ring.size_bytes) == (len(kept), sum(size for _, _, size in kept))
        assert ring.reach_s == plain.now_s - kept[0][1]
        for ago_s in (0.0, 0.25, 3.0):
            old = [i for i, time_s, _ in kept if plain.now_s - time_s >= ago_s]
            if old:
                found = ring.claim("mug", seconds_ago=ago_s)
                assert found.index == old[-1]
                found.label = None
            else:
                with pytest.raises(NotKeptError):
                    ring.claim("mug", seconds_ago=ago_s)
    seen += ring.rest()
    assert [k.index for k in seen] == list(range(len(steps)))  # each frame once, in order
    assert ring.rest() == []


def filled(count=5, **limits):
    ring = FrameRing(limits=RingLimits(**limits))
    for index in range(count):
        ring.add(Kept(index, None, 1), float(index))
    return ring


def test_time_goes_on_with_frames_that_are_not_kept():
    ring = FrameRing(2.0, RingLimits(seconds=9))
    for index in range(2):
        assert ring.add(Kept(index, None, 1), float(index)) == ([], [])
    assert ring.pass_time(1.9) == []
    assert [kept.index for kept in ring.pass_time(2.5)] == [0]
    due, _ = ring.add(Kept(7, None, 1), 2.9)
    assert due == []  # frame 1 is 1.9 s old, and not as many frames
    assert [kept.index for kept in ring.pass_time(3.0)] == [1]
    assert ring.frames == 3


def test_a_past_frame_is_labelled_once():
    ring = filled()
    kept = ring.claim("mug", frame=3)
    assert (kept.index, kept.label) == (3, "mug")
    with pytest.raises(LabelledError, match="frame 3 is labelled mug already"):
        ring.claim("pen", seconds_ago=1.0)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"frame": 1}, "frame 1 is not in memory, expected 2 to 4, the last 2.0 s"),
        ({"frame": 5}, "frame 5 is not in memory, expected 2 to 4, the last 2.0 s"),
        ({"seconds_ago": 2.5}, "seconds_ago is 2.5, expected 2 to 4, the last 2.0 s"),
    ],
)
def test_what_is_not_kept(asked, text):
    with pytest.raises(NotKeptError) as caught:
        filled(frames=3).claim("mug", **asked)
    assert str(caught.value) == text


def test_a_frame_that_was_dropped():
    ring = FrameRing()
    for index in (3, 4, 7):
        ring.add(Kept(index, None, 1), float(index))
    with pytest.raises(NotKeptError, match="frame 5 was dropped, nobody has seen it"):
        ring.claim("mug", frame=5)


def test_an_empty_ring():
    with pytest.raises(NotKeptError, match="no frame has come yet"):
        FrameRing().claim("mug", seconds_ago=0.0)
    assert FrameRing().reach_s == 0


def test_bytes_are_those_that_stay_in_memory():
    whole = torch.zeros(100)
    encoded = Encoded(torch.zeros(1, 10, dtype=torch.uint8), whole[:10], [whole[10:20]])
    assert tensor_bytes(encoded) == 400 + 10


def test_what_a_ring_holds():
    by_http = open_labels(label=None, labels_from="http")
    assert open_ring(by_http).limits == RingLimits(10.0, 300, 64 * MIB)
    late_ring = open_ring(FrameLabels.of_stream(), delay_s=0.5, max_bytes=7)
    assert late_ring.limits == RingLimits(0.5, 300, 7)


def late(*steps, delay_s, labels=None, ring=None, **options):
    learner = options.pop("learner", None) or new_learner()
    labels = labels or FrameLabels.of_stream()
    ring = ring or open_ring(labels, delay_s=delay_s)
    return run(*steps, learner=learner, labels=labels, ring=ring, **options)


def test_a_folder_is_predicted_at_once_and_learned_later_and_nothing_is_lost():
    learner, seen = new_learner(), []
    summary = late(*frames(6), delay_s=2.0, learner=learner, on_step=seen.append)
    assert [p.lesson.learned for p in seen] == [False, False, True, True, True, True]
    assert [p.lesson.learned_frames for p in seen] == [0, 0, 1, 2, 3, 4]
    assert [p.lesson.label for p in seen] == [None] * 6
    assert [p.prediction.label is None for p in seen] == [True, True, True, False, False, False]
    assert summary.learned == 6
    assert learner.samples() == {"above": 3, "left": 3}


def test_the_prediction_that_counts_is_the_one_of_the_first_sight():
    same = [frame(i, "above") for i in range(6)]
    assert late(*same, delay_s=0.0).prequential_accuracy == 5 / 6
    assert late(*same, delay_s=2.0).prequential_accuracy == 3 / 6  # 0, 1 and 2 knew no class
    assert late(*same, delay_s=10.0).prequential_accuracy == 0


def test_without_delay_all_is_as_without_a_ring():
    learner, other = new_learner(), new_learner()
    summary = late(*frames(9), delay_s=0.0, learner=learner)
    for one in frames(9):
        other.learn(other.encode(one.image[None]), [one.label])
    other.recalibrate()
    shown = learner.encode(frame(0).image[None])
    assert summary.learned == 9
    assert learner.predict(shown).tolist() == other.predict(shown).tolist()


def test_a_lost_camera_keeps_what_waited():
    learner = new_learner()
    saves = Saves(learner)
    with pytest.raises(StreamLostError):
        late(
            *frames(4),
            StreamLostError("gone", hint="plug it in"),
            delay_s=9.0,
            learner=learner,
            save=saves,
        )
    assert saves.learned == [4]


@final
class Said(LabelSource):
    """Somebody says a label from one frame to another; the frames' own labels are not seen."""

    with_frame = False

    def __init__(self, said):
        self.said = said

    def label(self, frame):
        return self.said.get(frame.index)

    @property
    def waiting(self):
        return ""


def test_a_label_that_is_said_belongs_to_what_was_seen_then():
    learner = new_learner()
    said = {2: "above", 3: "left", 4: "above", 6: "left"}  # of frames 0, 1, 2 and 4
    summary = late(*frames(8), delay_s=2.0, labels=Said(said), learner=learner)
    assert summary.learned == 4
    assert learner.samples() == {"above": 2, "left": 2}


def test_what_nobody_could_label_in_time_is_counted_and_told():
    learner, notices = new_learner(), []
    ring = FrameRing(5.0, RingLimits(seconds=5.0, frames=3))
    summary = late(
        *frames(8),
        delay_s=5.0,
        ring=ring,
        labels=Said(dict.fromkeys(range(8), "above")),
        learner=learner,
        on_notice=notices.append,
    )
    assert (summary.learned, summary.let_go) == (0, 5)
    [notice] = notices
    assert notice == (
        "--label-delay 5 is longer than the last 3 frames, 2.0 s, that fit into memory: older "
        "ones are not learned; --label-delay 2 fits"
    )


def test_a_folder_that_comes_too_fast_is_learned_sooner():
    learner, notices = new_learner(), []
    ring = FrameRing(5.0, RingLimits(seconds=5.0, frames=3))
    summary = late(*frames(8), delay_s=5.0, ring=ring, learner=learner, on_notice=notices.append)
    assert (summary.learned, summary.let_go) == (8, 0)
    assert len(notices) == 1
    assert "older ones are learned sooner" in notices[0]


def test_memory_for_late_labels_comes_out_of_the_budget(tmp_path):
    """Whoever follows the hint of a refusal is not refused again."""
    options = ("--label-delay", 2, "--label", "mug", "--replay-mib", 1, "--optimizer", "adamw")
    learn = ("learn", "--stream", "demo:?frames=3", "--model", tmp_path / "m", *options, *SMALL)
    refused = cfl_edge(*learn, "--memory-mib", 8, "--json")
    assert_error(refused, 2, "--memory-mib is 8", "for frames whose labels come late")
    assert refused.notices[-1] == "1 of 8 MiB are for frames whose labels come late"
    least_mib = int(re.search(r"try: --memory-mib (\d+)", refused.err)[1])
    assert_error(cfl_edge(*learn, "--memory-mib", least_mib - 1), 2, f"at least {least_mib}")
    accepted = cfl_edge(*learn, "--memory-mib", least_mib, "--json")
    assert accepted.code == 0, accepted.err
    (fitted,) = (text for text in accepted.notices if text.startswith("learning will add"))
    assert f"of {least_mib * 7 / 8:g} MiB" in fitted


def test_the_option_has_a_limit():
    with pytest.raises(UsageError, match=r"--label-delay is 11.*at most 10"):
        load_settings(None, stream="demo:", label_delay=11)


def test_the_end_says_why_nothing_was_learned(tmp_path):
    summary = Summary(frames=4, withheld=4, flagged={"dark": 4}, layer_steps=[0])
    settings = load_settings(None, stream="demo:", model=tmp_path, label="red mug")
    lines = learned_lines(Learned(summary, {}, None, 0, Written({}, 0.0)), settings)
    assert "flagged    dark 4; 4 labelled frames not learned" in lines
    assert lines[-1].endswith("--label 'red mug' --learn-flagged")


@pytest.mark.parametrize(
    ("samples", "exports", "told", "next_command"),
    [
        ({"mug": 9}, True, "such as the view without it", "--model m --labels-from dirs"),
        ({"mug": 9, "pen": 8}, True, None, "cfl-edge export m -o m/onnx"),
        ({"mug": 9, "pen": 8}, False, "cannot be exported", "cfl-edge classes list m"),
    ],
)
def test_what_comes_next_can_be_done(samples, exports, told, next_command):
    settings = load_settings(None, stream="demo:", model="m")
    summary = Summary(frames=20, learned=17, classes=list(samples))
    learned = Learned(summary, samples, None, 0, Written({}, 0.0), exports)
    *lines, last = learned_lines(learned, settings)
    assert last.startswith("next ")
    assert next_command in last
    assert told is None or told in "\n".join(lines)


@pytest.mark.parametrize(
    ("given", "samples", "next_command"),
    [
        ({"stream": "0"}, {"mug": 9}, "--stream 0 --model m --label empty"),
        ({"stream": "0"}, {"empty": 9}, "--stream 0 --model m --label thing"),
        ({"stream": "pics/mug"}, {"mug": 9}, "--stream pics/empty --model m --label empty"),
        ({"stream": "mug.mp4"}, {"mug": 9}, "--stream empty.mp4 --model m --label empty"),
        ({"stream": "{}/mug/*.jpg"}, {"mug": 9}, "--stream {}/empty --model m --label empty"),
        ({"stream": "{}", "labels_from": "dirs"}, {"a": 1}, "--stream {}/empty --model m --label "),
    ],
)
def test_a_recording_of_one_class_is_not_proposed_for_a_second_one(
    given, samples, next_command, tmp_path
):
    given = {"label": None} | {key: text.format(tmp_path) for key, text in given.items()}
    settings = load_settings(None, **given, model="m")
    summary = Summary(frames=9, learned=9, classes=list(samples))
    last = learned_lines(Learned(summary, samples, None, 0, Written({}, 0.0), True), settings)[-1]
    assert f"cfl-edge learn {next_command.format(tmp_path)}" in last
    assert ("record a second class as " in last) == (given["stream"] != "0")


@pytest.mark.parametrize(
    ("stream", "next_command"),
    [
        ("push://", "cfl-edge teach --stream push:// --model m"),  # `run` has no page
        ("rtsp://ann:secret@cam/live", "run m/onnx/model.onnx --stream 'rtsp://***@cam/live'"),
    ],
)
@pytest.mark.parametrize("samples", [{"mug": 9, "pen": 8}, {"mug": 9}, {}])
def test_what_comes_next_can_be_run_and_shows_no_password(stream, next_command, samples):
    settings = load_settings(None, stream=stream, model="m", ui=True, label=None)
    exported = Exported(*map(Path, ["m/onnx/model.onnx", "c", "l"]), 0.0, 0.0)
    summary = Summary(frames=17, learned=17, classes=list(samples))
    learned = Learned(summary, samples, exported if samples else None, 0, Written({}, 0.0))
    lines = learned_lines(learned, settings)
    assert "secret" not in "\n".join(lines)
    assert next_command in lines[-1] or len(samples) < 2

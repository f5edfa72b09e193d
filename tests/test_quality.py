"""The quality gate: what is measured of an image, what is flagged, what the loop does with it."""

import io

import numpy as np
import pytest
from dataset_files import of_data_folder
from learner_checks import pictures
from PIL import Image, ImageFilter
from rich.console import Console
from sessions import learn_stream
from steps import MUG, changed
from test_session import Script, frame, new_learner, run

from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import predict_label, softmax
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.ring import RingLimits
from cfl_edge.learner.conflicts import INSISTED, KNOWN_FRAMES, excluded_classes
from cfl_edge.loop.label_delay import Seen, open_ring
from cfl_edge.loop.quality import (
    USUAL_FRAMES,
    Quality,
    QualityGate,
    grey,
    quality,
    sharpness,
)
from cfl_edge.loop.teaching import Teaching
from cfl_edge.stream.open import open_stream
from cfl_edge.view.reporter import Reporter
from cfl_edge.view.terminal import panel

RNG = np.random.default_rng(0)


def scene(seed=0, px=96):
    """An image with edges of all directions, soft by about a pixel, as a camera's is."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 225, (px // 4, px // 4, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((2 * px, 2 * px), Image.Resampling.NEAREST).rotate(20)
    inner = large.crop((px // 2, px // 2, 3 * px // 2, 3 * px // 2))
    return np.asarray(inner.filter(ImageFilter.GaussianBlur(0.7)))


def blurred(image, radius):
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def level(value, px=32):
    return np.full((px, px, 3), value, np.uint8)


def test_grey_is_bt_601():
    image = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    assert grey(image) == pytest.approx(np.asarray(Image.fromarray(image).convert("L")), abs=0.51)


def test_sharpness_against_loops():
    levels = RNG.integers(0, 256, (7, 9)).astype(np.float32)
    laplacians, squares = [], []
    for y in range(1, 6):
        for x in range(1, 8):
            around = levels[y - 1, x] + levels[y + 1, x] + levels[y, x - 1] + levels[y, x + 1]
            laplacians.append(around - 4 * levels[y, x])
            squares.append(
                ((levels[y, x + 1] - levels[y, x - 1]) / 2) ** 2
                + ((levels[y + 1, x] - levels[y - 1, x]) / 2) ** 2
            )
    assert sharpness(levels) == pytest.approx(np.var(laplacians) / np.mean(squares), rel=1e-3)


def test_sharpness_is_that_of_a_wave_in_closed_form():
    x = np.arange(240)
    for period in (8, 16):  # variance (4 sin^2(pi/p))^2 / 2 over mean square sin^2(2 pi/p) / 2
        wave = np.tile(128 + 100 * np.cos(2 * np.pi * x / period), (242, 1)).astype(np.float32)
        wave = np.pad(wave, ((0, 0), (1, 1)), mode="wrap")
        expected = (4 * np.sin(np.pi / period) ** 2 / np.sin(2 * np.pi / period)) ** 2
        assert sharpness(wave) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("gain", [0.3, 0.6, 1.1])
def test_sharpness_does_not_depend_on_exposure_but_falls_with_every_blur(gain):
    image = scene()
    as_is = quality(image).sharpness
    exposed = (image * gain).clip(0, 255).astype(np.uint8)
    assert quality(exposed).sharpness == pytest.approx(as_is, rel=0.1)
    falling = [quality(blurred(exposed, radius)).sharpness for radius in (0, 1, 2, 3, 5)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < falling[0] / 10


@pytest.mark.parametrize(
    ("image", "flags"),
    [
        (level(0), ("dark",)),
        (RNG.integers(0, 12, (32, 32, 3), dtype=np.uint8), ("dark",)),  # a sensor's noise
        (level(255), ("bright",)),
        ((scene().astype(float) * 40).clip(0, 255).astype(np.uint8), ("bright",)),
        (level(127), ("flat",)),
        (level(30), ("flat",)),
        (scene(), ()),
        ((scene() * 0.2).astype(np.uint8), ()),
    ],
)
def test_exposure_and_structure(image, flags):
    assert quality(image).flags == flags


@pytest.mark.parametrize("px", [8, 28, 96])
def test_a_few_strokes_on_black_or_white_are_a_image(px):
    image = level(0, px)
    image[px // 4 : 3 * px // 4, px // 2] = 255  # 1 column of 28: darker on average than a digit
    assert quality(image).brightness < 20
    assert quality(image).flags == quality(255 - image).flags == ()


def test_the_smallest_images():
    for px in (3, 8):
        assert quality(level(90, px)) == Quality(
            0.0, pytest.approx(90.0), pytest.approx(0, abs=1e-3), ("flat",)
        )


def test_blur_is_told_once_it_is_known_what_is_usual():
    gate = QualityGate()
    soft = blurred(scene(99), 3)
    assert gate.check(soft).flags == ()
    for seed in range(USUAL_FRAMES):
        assert gate.check(scene(seed)).flags == ()
        assert gate.check(level(0)).flags == ("dark",)  # says nothing of sharpness
    assert gate.check(soft).flags == ("blurred",)
    assert gate.check(scene(50)).flags == ()


def test_a_set_that_is_soft_throughout_is_not_blurred():
    gate = QualityGate()
    assert {gate.check(blurred(scene(seed), 3)).flags for seed in range(60)} == {()}


def test_a_change_that_lasts_becomes_usual(monkeypatch):
    monkeypatch.setattr("cfl_edge.loop.quality.WINDOW_FRAMES", 40)
    gate = QualityGate()
    for seed in range(40):
        gate.check(scene(seed))
    flags = [gate.check(blurred(scene(seed), 3)).flags for seed in range(60)]
    assert flags[:15] == [("blurred",)] * 15
    assert flags[25:] == [()] * 35


def test_softmax():
    scores = np.array([1000.0, 1001.0, -1000.0], np.float32)
    assert softmax(scores) == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e), 0.0])


SURE = np.array([0.995, 0.002, 0.001, 0.002], np.float32)
NAMES = ["mug", "pen", "cup", "key"]


def test_which_labels_contradict_a_confident_prediction():
    many = dict.fromkeys(NAMES, KNOWN_FRAMES)
    assert excluded_classes(SURE, NAMES, many) == {"pen", "cup", "key"}
    assert excluded_classes(SURE, NAMES, many | {"cup": KNOWN_FRAMES - 1}) == {"pen", "key"}
    assert excluded_classes(SURE, NAMES, many | {"mug": KNOWN_FRAMES - 1}) == set()
    assert excluded_classes(np.array([0.9, 0.056, 0.004, 0.04]), NAMES, many) == {"cup"}
    assert excluded_classes(np.array([0.35, 0.34, 0.31, 0]), NAMES, many) == set()


def test_a_head_without_probabilities_contradicts_no_label():
    sure = predict_label(np.log(np.array([0.996, 0.004], np.float32)), ["above", "left"])
    for head, excluded in ("cfl", {"left"}), ("slda", set()):
        learner = new_learner(head)
        for i in range(2 * KNOWN_FRAMES):
            learner.learn(learner.encode(frame(i, "above").image[None]), [("above", "left")[i % 2]])
        assert learner.excluded(sure) == excluded


def black(index, label="above"):
    return Frame(level(0, 16), timestamp_s=float(index), index=index, label=label)


def test_flagged_frames_are_predicted_counted_told_once_and_not_learned():
    learner, seen, notices = new_learner(), [], []
    steps = [frame(0, "above"), frame(1, "left"), black(2), black(3), black(4, None)]
    summary = run(*steps, learner=learner, on_step=seen.append, on_notice=notices.append)
    assert learner.samples() == {"above": 1, "left": 1}
    assert (summary.learned, summary.withheld, summary.flagged) == (2, 2, {"dark": 3})
    assert [p.lesson.flags for p in seen] == [(), (), ("dark",), ("dark",), ("dark",)]
    assert [p.lesson.learned for p in seen] == [True, True, False, False, False]
    assert all(p.prediction.label for p in seen[2:])
    assert seen[-1].lesson.flagged == {"dark": 3}
    [notice] = notices
    assert notice.startswith(
        "frame 2 is nearly black (brightness 0 of 255): such frames are not learned"
    )
    assert "--learn-flagged" in notice


def test_they_are_learned_on_request():
    learner, notices = new_learner(), []
    summary = run(
        *[black(i) for i in range(3)],
        learner=learner,
        learn_flagged=True,
        on_notice=notices.append,
    )
    assert (summary.learned, summary.withheld, summary.flagged) == (3, 0, {"dark": 3})
    assert learner.samples() == {"above": 3}
    assert notices == []


def test_only_black_frames_teach_nothing_and_the_summary_says_so():
    learner = new_learner()
    summary = run(*[black(i) for i in range(4)], learner=learner)
    assert (summary.learned, summary.withheld, summary.classes) == (0, 4, [])
    assert summary.prequential_accuracy == 0


def teach(teaching, label, *, excluded=(), flags=()):
    found = Quality(1.0, 100.0, 50.0, flags)
    learner = teaching._learner
    shown = learner.encode(pictures(learner, 0, 1))
    seen = Seen(shown, "left", frozenset(excluded), found)
    number = teaching.accuracy.count
    one = Frame(level(0), timestamp_s=float(number), index=number, label=label)
    return teaching.flags(teaching.take(one, seen, lambda: None))


@pytest.fixture
def teaching():
    learner, labels = new_learner(), FrameLabels.of_stream()
    notices = []
    made = Teaching(
        learner, labels, open_ring(labels), learn_flagged=False, on_notice=notices.append
    )
    made.notices = notices
    return made


def test_a_label_at_odds_with_a_sure_prediction_is_not_learned(teaching):
    assert teach(teaching, "above", excluded={"above"}) == ("conflict",)
    assert teach(teaching, "left", excluded={"above"}) == ()
    assert (teaching.learned, teaching.withheld) == (1, 1)
    assert teaching.flagged == {"conflict": 1}
    [notice] = teaching.notices
    assert notice.startswith(
        "frame 0 is labelled above, but looks like left: such frames are not learned"
    )


def test_who_insists_is_believed(teaching):
    flags = [teach(teaching, "above", excluded={"above"}) for _ in range(INSISTED + 3)]
    assert flags == [("conflict",)] * INSISTED + [()] * 3
    assert (teaching.learned, teaching.withheld) == (3, INSISTED)
    assert teach(teaching, "above") == ()  # agreed
    assert teach(teaching, "above", excluded={"above"}) == ("conflict",)


def test_who_names_a_frame_has_looked_at_it(teaching):
    """A correction contradicts the prediction by its nature: it is learned the first time."""
    teaching._ring.limits = RingLimits(seconds=10)
    seen = teach_unlabelled(teaching, excluded={"above"})
    assert teaching.teach_past("above", frame=seen) == (seen, True)
    assert (teaching.learned, teaching.withheld) == (1, 0)
    dark = teach_unlabelled(teaching, flags=("dark",))
    assert teaching.teach_past("above", frame=dark) == (dark, False)


@pytest.mark.parametrize("label", ["above", "left"])
def test_who_names_the_frame_that_was_withheld_is_believed(teaching, label):
    """Whether the label stays or becomes the one that the frame looks like."""
    teaching._ring.limits = RingLimits(seconds=10)
    assert teach(teaching, "above", excluded={"above"}) == ("conflict",)
    assert teaching.teach_past(label, frame=0) == (0, True)
    assert (teaching.learned, teaching.withheld) == (1, 1)


def test_a_label_that_came_with_its_frame_is_learned_although_the_next_are_not_looked_at(teaching):
    teaching._ring = open_ring(FrameLabels.of_stream(), delay_s=2.0)
    teach(teaching, "above")
    assert teaching.learned == 0  # its label is late
    for second in (1, 2):
        passed = Frame(level(0), timestamp_s=float(second), index=second)
        teaching.pass_over(passed, None, lambda: None)
    assert teaching.learned == 1


def teach_unlabelled(teaching, **how):
    number = teaching.accuracy.count
    teach(teaching, None, **how)
    return number


def test_a_dark_frame_says_nothing_of_its_label(teaching):
    assert teach(teaching, "above", excluded={"above"}, flags=("dark",)) == ("dark",)
    assert teaching.flagged == {"dark": 1}


def test_a_wrong_label_after_enough_right_ones():
    learner, seen = new_learner(), []
    right = [frame(i, ("above", "left")[i % 2]) for i in range(2 * KNOWN_FRAMES + 8)]
    wrong = Frame(right[0].image, 1e3, len(right), label="left", name="left/7 \udce9.png")
    stream, told = Script(*right, wrong, *right[:6]), []
    summary = learn_stream(
        stream,
        FrameLabels.of_stream(),
        learner,
        save=lambda: None,
        on_step=seen.append,
        on_notice=told.append,
    )
    assert seen[len(right)].lesson.flags == ("conflict",)
    assert (summary.withheld, summary.flagged) == (1, {"conflict": 1})
    [notice] = told
    number = len(right)
    assert notice.startswith(
        f"frame {number} (left/7 \\udce9.png) is labelled left, but looks like above: such frames"
    )


def shown(step):
    console = Console(width=70, height=24, file=io.StringIO())
    console.print(panel(step, console, []))
    return console.file.getvalue()


def test_the_view_shows_flags():
    clean = MUG
    dark = changed(clean, flags=("dark",), flagged={"dark": 3, "conflict": 1})
    assert "flagged   dark 3, conflict 1" in shown(dark)
    assert "flagged" not in shown(clean)
    out = io.StringIO()
    with Reporter(file=out) as view:
        view.step(dark)
    assert "mug 90.0 % (is mug) [dark]" in out.getvalue()


@pytest.mark.data
@pytest.mark.timeout(600)
@pytest.mark.parametrize("px", [32, 96])
@pytest.mark.parametrize("name", ["cifar10", "mnist", "coil100_32"])
def test_real_images_pass_and_blurred_ones_do_not(name, px):
    images = of_data_folder(name)["x_train"]
    chosen = images[np.random.default_rng(0).choice(len(images), 500, replace=False)]
    if chosen.ndim == 3 or chosen.shape[-1] == 1:
        chosen = np.repeat(chosen.reshape(*chosen.shape[:3], 1), 3, axis=3)
    gate, flagged, caught, tried = QualityGate(), 0, 0, 0
    for image in chosen:
        picture = to_model_input(image, px)
        usual = gate.usual_sharpness
        flagged += bool(gate.check(picture).flags)
        if usual is not None:
            tried += 1
            strong = blurred(picture, 4 * px / 96)
            caught += "blurred" in quality(strong, usual_sharpness=usual).flags
    assert flagged <= 3
    assert caught >= 0.95 * tried


def test_the_demo_stream_passes():
    gate = QualityGate()
    with open_stream("demo:?frames=100") as stream:
        flags = [gate.check(to_model_input(one.image, 96)).flags for one in stream]
    assert sum(map(bool, flags)) <= 1

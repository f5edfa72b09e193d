"""Splitting a class: the last frames learned again, or replayed samples divided in two groups."""

import json
import os
import shutil

import learner_checks
import numpy as np
import pytest
import torch
from command_line import SMALL, assert_error, cfl_edge, contents, learn, write_pictures
from test_undo import Lesson, alternating, assert_alike, oracle

from cfl_edge.commands.split import split
from cfl_edge.commands.undo import undo
from cfl_edge.errors import DataError, ModelNotFoundError, ModelWriteError, UsageError
from cfl_edge.model import class_table, divide, writing
from cfl_edge.model.checkpoint import from_saved, to_saved
from cfl_edge.model.inference import OnnxModel
from cfl_edge.model.store import Store
from cfl_edge.online.features import Encoded
from cfl_edge.online.journal import Base, Journal
from cfl_edge.online.learner import Learner, LearnerConfig
from cfl_edge.online.learner_config import HEADS

WITH_REPLAY = ("cfl", "knn", "bp-replay", "layer-bp")


# ------------------------------------------------------------------- the last frames learned again


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    return Lesson(tmp_path / "model", monkeypatch)


def relabelled(names, last, old="above", new="over"):
    return names[:-last] + [new if name == old else name for name in names[-last:]]


@pytest.mark.parametrize("save_every", [None, 7])
def test_the_model_is_what_it_would_be_had_the_label_been_right(lesson, save_every):
    names = alternating(40)
    lesson.run(names, save_every=save_every)
    result = split(lesson.folder, "above", "over", frames=12)
    assert (result.moved, result.stayed, result.apart) == (6, 14, None)
    assert result.counts.frames == {"above": 14, "left": 20, "over": 6}
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 12)))


def test_seconds_count_back_from_the_last_frame(lesson):
    names = alternating(30) + ["above"] * 8
    lesson.run(names)
    assert split(lesson.folder, "above", "over", seconds=7).moved == 8
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 8)))


def test_a_class_of_which_all_frames_move_is_gone(lesson):
    names = ["left"] * 20 + alternating(10, ("over", "right"))
    lesson.run(names)
    result = split(lesson.folder, "over", "above", frames=10)
    assert (result.moved, result.stayed) == (5, 0)
    assert result.counts.frames == {"left": 20, "above": 5, "right": 5}
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 10, "over", "above")))


def test_undo_reaches_behind_a_split(lesson):
    names = alternating(40)
    lesson.run(names, save_every=6)
    split(lesson.folder, "above", "over", frames=12)
    assert undo(lesson.folder, frames=4).per_class == {"left": 2, "over": 2}
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 12)[:-4]))
    assert undo(lesson.folder, frames=20).samples == {"above": 8, "left": 8}
    assert_alike(lesson.load(), oracle(lesson, names[:16]))


def test_a_split_twice(lesson):
    names = alternating(40)
    lesson.run(names)
    split(lesson.folder, "above", "over", frames=12)
    split(lesson.folder, "left", "right", frames=6)
    expected = relabelled(relabelled(names, 12), 6, "left", "right")
    assert_alike(lesson.load(), oracle(lesson, expected))


def test_pictures_for_an_export_go_with_their_frames(lesson):
    lesson.run(alternating(10))
    newest = lesson.load().examples[0][0]
    split(lesson.folder, "above", "over", frames=2)
    learner = lesson.load()
    pictures = {learner.classes[number]: picture for picture, number in learner.examples.values()}
    assert (pictures["over"] == newest).all()


def test_relabelling_a_journal_that_was_read_from_a_file():
    journal = Journal(1.0, bases=[Base(0, 0), Base(3, 4), Base(4, 6)])
    for i in range(6):
        journal.add(i, {"h0": np.zeros(2, np.uint8)}, time_s=float(i))
    tensors = journal.tensors()
    for arrays in tensors.values():
        arrays["labels"].setflags(write=False)
    words = {**journal.words()}
    restored = Journal.restored(words, tensors, 1.0)
    restored.relabel(4, [8, 9])
    assert [entry.label for entry in restored.entries(0, 6)] == [0, 1, 2, 3, 8, 9]
    assert [base.frames for base in restored.bases] == [0, 4]
    assert [entry.label for entry in journal.entries(0, 6)] == list(range(6))


def test_relabelling_crosses_the_segments_of_a_journal():
    entry_bytes = 4 + 8 + 2
    journal = Journal(24 * entry_bytes / 2**20)
    for i in range(20):
        journal.add(0, {"h0": np.zeros(2, np.uint8)}, time_s=float(i))
    assert len(journal.tensors()) > 3
    journal.relabel(11, list(range(1, 10)))
    assert [entry.label for entry in journal.entries(0, 20)] == [0] * 11 + list(range(1, 10))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"frames": 3, "name": "cup"}, DataError, "no class 'cup'; it knows above, left"),
        ({"frames": 3, "into": "left"}, DataError, "has a class 'left' already"),
        ({"frames": 3, "into": "above"}, DataError, "has a class 'above' already"),
        ({"frames": 1}, DataError, "none of the last 1 frame was learned as 'above'"),
        ({"frames": 99}, DataError, r"99 frames cannot be taken back, .* back 10 frames"),
        ({"frames": 0}, UsageError, "--frames is 0, expected more than 0"),
        ({"seconds": -1.0}, UsageError, "--seconds is -1"),
        ({"seconds": 1.0, "frames": 1}, UsageError, "split was given --seconds and --frames"),
    ],
)
def test_refusals_leave_the_model_as_it_was(lesson, options, error, message):
    lesson.run(alternating(10))
    before = contents(lesson.folder)
    names = {"name": "above", "into": "over"}
    with pytest.raises(error, match=message):
        split(lesson.folder, **{**names, **options})
    assert contents(lesson.folder) == before


def test_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        split(tmp_path / "none", "a", "b")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("options", [{"frames": 4}, {}])
def test_a_full_disk_leaves_the_model_as_it_was(lesson, monkeypatch, options):
    lesson.run(alternating(16))
    before = contents(lesson.folder)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(ModelWriteError, match="is intact"):
        split(lesson.folder, "above", "over", **options)
    assert contents(lesson.folder) == before


# -------------------------------------------------------------------- groups of replayed samples


def lit(colour, count, seed):
    """Noisy pictures whose upper half is red (0), green (1), blue (2) or white (3)."""
    rng = np.random.default_rng([seed, colour])
    images = rng.integers(0, 80, (count, 16, 16, 3), dtype=np.uint8)
    images[:, :8, :, colour if colour < 3 else slice(None)] += 150
    return images


def two_in_one(head, **config):
    """A learner whose class "both" is really two things, the second of them rarer."""
    learner = Learner(
        LearnerConfig(
            stem="none", layers="8,16", image_px=16, replay_mib=0.2, head=head, batch=16, **config
        )
    )
    for i in range(12):
        for name, colour, count in (("both", 0, 3), ("other", 2, 3), ("both", 1, 1)):
            learner.learn(learner.encode(lit(colour, count, i)), [name] * count)
    learner.settle()
    return learner


def answers(learner, colour):
    scores = learner.predict(learner.encode(lit(colour, 20, 777)))
    return [learner.classes[i] for i in scores.argmax(1)]


@pytest.mark.parametrize("head", WITH_REPLAY)
def test_the_rarer_of_two_things_becomes_the_new_class(head):
    rate = {} if head == "cfl" else {"learning_rate": 1e-2}  # steps alone make those heads sure
    saved = to_saved(two_in_one(head, **rate), {})
    learner, divided = divide.divide(saved, "both", "rare", device="cpu", otherwise="")
    assert (divided.stayed, divided.moved, divided.shared_end) == (36, 12, False)
    assert 0.3 < divided.apart < 1
    assert learner.samples() == {"both": 36, "other": 36, "rare": 12}
    right = [
        np.mean([answer == name for answer in answers(learner, colour)])
        for colour, name in ((0, "both"), (1, "rare"), (2, "other"))
    ]
    assert min(right) >= 0.9, right
    back = from_saved(to_saved(learner, {"runs": 0}))  # it can be stored, and learns on
    assert answers(back, 1) == answers(learner, 1)
    for i in range(20, 24):
        for name, colour in (("both", 0), ("rare", 1), ("other", 2)):
            back.learn(back.encode(lit(colour, 3, i)), [name] * 3)
    back.settle()
    assert np.mean([answer == "rare" for answer in answers(back, 1)]) >= 0.9


def test_the_samples_that_move_are_those_of_the_thing_itself():
    learner = two_in_one("cfl")
    saved = to_saved(learner, {})
    after, _ = divide.divide(saved, "both", "rare", device="cpu", otherwise="")
    replay = after.head.replay
    places = torch.tensor(replay.places[after.classes.index("rare")])
    red, green, _ = replay.read(places).mean(dim=(2, 3)).unbind(1)
    assert (green > red).all()
    again, _ = divide.divide(saved, "both", "rare", device="cpu", otherwise="")
    assert again.head.replay.labels == replay.labels


def test_the_picture_of_an_export_goes_with_its_group():
    learner = two_in_one("cfl")
    [picture] = [p for p, number in learner.examples.values() if number == 0]  # the rare thing
    after, _ = divide.divide(to_saved(learner, {}), "both", "rare", device="cpu", otherwise="")
    pictures = {after.classes[number]: p for p, number in after.examples.values()}
    assert (pictures["rare"] == picture).all()
    assert "both" not in pictures


class Stemmed:
    """What a stem would return, without one: sources are its end, its cut and the layers."""

    def __init__(self, head):
        from cfl_edge.core.networks import build_network
        from cfl_edge.online.heads.build import build_head
        from cfl_edge.online.heads.head import HeadInputs

        config = LearnerConfig(head=head, layers="8,8", replay_mib=0.2, batch=16)
        self.network = build_network("8,8", (3, 8, 8)).eval()
        generator = torch.Generator().manual_seed(0)
        channels = [5, 3, *self.network.channels]
        inputs = HeadInputs(
            config, self.network, (3, 8, 8), channels, 2, generator, torch.device("cpu")
        )
        self.head, self.device, self.config = build_head(inputs), torch.device("cpu"), config

    @torch.inference_mode()
    def encode(self, kind, count, seed):
        noise = torch.Generator().manual_seed(seed)
        h0 = torch.randn(count, 3, 8, 8, generator=noise)
        h0[:, kind] += 2
        end = torch.randn(count, 5, generator=noise)
        end[:, kind] += 2
        features = [end, h0.mean(dim=(2, 3)), *self.network(h0)]
        return Encoded(torch.zeros(0), h0, features)


@pytest.mark.parametrize("head", ["cfl", "bp-replay", "layer-bp"])
def test_features_of_replayed_samples_are_those_that_were_learned(head):
    stemmed = Stemmed(head)
    stemmed.head.add_class()
    encoded = stemmed.encode(0, 6, seed=1)
    stemmed.head.learn(encoded, torch.zeros(6, dtype=torch.long), None)
    stemmed.head.settle()
    features, scales = divide.replayed_features(stemmed, torch.arange(6))
    sources = encoded.features if head != "cfl" else encoded.features[1:]
    expected = torch.cat(sources, dim=1)
    assert features.shape == (6, len(scales)) == expected.shape
    frozen = 8 if head != "cfl" else 3  # the layers have moved since, where there was a step
    apart = (features - expected)[:, :frozen].norm() / expected[:, :frozen].norm()
    assert apart < 0.02
    widths = [source.shape[1] for source in sources]
    spreads = [x.var(dim=0, unbiased=False).mean().sqrt() for x in features.split(widths, dim=1)]
    measured = [scale.unique() for scale in scales.split(widths)]
    torch.testing.assert_close(torch.cat(measured), torch.stack(spreads))


def test_the_cut_of_a_stem_is_estimated_from_the_replay_memory():
    head = (stemmed := Stemmed("cfl")).head
    for z in range(2):
        head.add_class()
        numbers = torch.full((20,), z)
        head.learn(stemmed.encode(z, 20, seed=z), numbers, None)
    head.settle()
    exact, estimated = head.statistics[1], divide._cut_statistics(head)
    assert estimated.counts.tolist() == [20, 20]
    torch.testing.assert_close(estimated.means, exact.means, rtol=0.02, atol=0.02)
    torch.testing.assert_close(estimated.scatter, exact.scatter, rtol=0.05, atol=0.5)


def test_a_divided_row_of_statistics_keeps_mean_and_total():
    saved = to_saved(two_in_one("cfl"), {})
    state = saved.tensors["state"]
    before = {name: state[name].copy() for name in saved.manifest["class_rows"]}
    moved = np.zeros(len(saved.tensors["replay"]["labels"]), bool)
    moved[np.flatnonzero(saved.tensors["replay"]["labels"] == 0)[:12]] = True
    class_table.split(saved, "both", "rare", moved)
    assert saved.manifest["classes"] == ["both", "other", "rare"]
    for name, rows in before.items():
        after = state[name]
        if name.endswith(".counts"):
            np.testing.assert_allclose(after, [rows[0] * 0.75, rows[1], rows[0] * 0.25])
        else:
            np.testing.assert_array_equal(after, rows[[0, 1, 0]])
    assert saved.tensors["replay"]["seen"].tolist() == [36, 36, 12]


@pytest.mark.parametrize("head", [head for head in HEADS if head not in WITH_REPLAY])
def test_heads_without_replay_say_what_works(tmp_path, head):
    saved = to_saved(two_in_one(head), {})
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    before = contents(tmp_path / "m")
    with pytest.raises(DataError, match=f"The head {head} keeps no samples") as caught:
        split(tmp_path / "m", "both", "rare")
    assert f"split {tmp_path}/m both --into rare --frames N" in caught.value.hint
    assert contents(tmp_path / "m") == before


def test_too_few_samples_and_samples_that_are_all_the_same(tmp_path):
    learner = two_in_one("knn")
    learner.learn(learner.encode(lit(3, 3, 0)), ["few"] * 3)
    learner.learn(learner.encode(np.repeat(lit(3, 1, 0), 5, axis=0)), ["same"] * 5)
    saved = to_saved(learner, {})
    class_table.add(saved, "none")
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    for name, message in {
        "few": "'few' has 3 replayed samples, expected at least 4",
        "none": "'none' has 0 replayed samples",
        "same": "5 replayed samples of 'same' are all the same",
    }.items():
        with pytest.raises(DataError, match=message):
            split(tmp_path / "m", name, "new")


# ------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    data = write_pictures(folder / "data", count=12)
    for picture in (data / "left").iterdir():  # two things under one name
        picture.rename(data / "above" / f"left-{picture.name}")
    shutil.rmtree(data / "left")
    write_pictures(data, count=12, kinds=("above",), seed=0)
    shutil.copytree(data / "above", data / "other")
    for picture in (data / "other").glob("left-*"):
        picture.unlink()
    model = folder / "model"
    assert learn(data, model, *SMALL).code == 0
    assert cfl_edge("export", model, "-o", model / "onnx").code == 0
    return model


@pytest.fixture
def model(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("options", [("--frames", 6), ()])
def test_onnx_files_follow(model, options):
    command = ("classes", "split", model, "above", "--into", "new", "--onnx", model / "onnx")
    result = cfl_edge(*command, *options, "--json")
    if options:  # the last frames were of the class that came last
        command = ("classes", "split", model, "other", *command[4:])
        result = cfl_edge(*command, *options, "--json")
    assert result.code == 0, result.err
    listed = cfl_edge("classes", "list", model, "--json").summary
    summary = result.summary
    assert {key: summary[key] for key in listed} == listed
    assert summary["moved"] > 0
    learner, network = from_saved(Store(model).load()), OnnxModel(model / "onnx" / "model.onnx")
    assert learner.classes == list(network.classes)
    assert "new" in learner.classes
    images = np.concatenate([learner_checks.pictures(learner, kind, 4, seed=9) for kind in (0, 1)])
    scores = learner.predict(learner.encode(images))
    np.testing.assert_allclose(network.scores(images), scores, rtol=1e-3, atol=1e-3)


def test_what_people_read(model):
    lines = cfl_edge("classes", "split", model, "above", "--into", "new").out.splitlines()
    assert lines[0].startswith("split off  ")
    assert "samples of the replay memory are new" in lines[0]
    assert lines[1].startswith("apart ")
    assert lines[2] == "  frames  replay  class"
    manifest = json.loads(max(model.glob("generation-*/manifest.json")).read_text())
    assert "journal" not in manifest
    assert_error(cfl_edge("undo", model, "--frames", 1), 4, "its classes were changed since")


def test_errors_of_the_command(model):
    before = contents(model)
    command = ("classes", "split", model)
    assert_error(cfl_edge(*command, "cup", "--into", "new"), 4, "no class 'cup'")
    assert_error(cfl_edge(*command, "above", "--into", "other"), 4, "'other' already")
    assert_error(cfl_edge(*command, "above", "--into", " "), 2, "empty")
    both = ("--frames", 1, "--seconds", 2)
    assert_error(cfl_edge(*command, "above", "--into", "new", *both), 2, "--seconds and --frames")
    missing = ("--into", "new", "--onnx", model / "nowhere.onnx")
    assert_error(cfl_edge(*command, "above", *missing), 4, "nowhere")
    assert contents(model) == before
    assert os.listdir(model).count("lock") <= 1

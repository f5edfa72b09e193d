"""Classes come, stay away for long, become many, and go: in a bounded number of bytes."""

import numpy as np
import pytest
import torch
from command_line import SMALL, cfl_edge, learn, write_images

from cfl_edge.errors import ModelWriteError
from cfl_edge.lab.learners.offered import MEASURED
from cfl_edge.learner.classes import remove
from cfl_edge.learner.export import export_learner
from cfl_edge.learner.journalled import open_journal, save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.learners import LEARNERS, declaration
from cfl_edge.model import class_table, writing
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store
from cfl_edge.onnx.inference import OnnxModel

pytestmark = pytest.mark.usefixtures("offered")
MIB = 2**20
WITH_REPLAY = ("cfl", "knn", "bp-replay", "layer-bp", "bp-deep")
FROM_ONE_FRAME = ("cfl", "slda", "ncm", "imprint", "last-layer-sgd")


def make(algorithm="cfl", **config):
    small = {"backbone": "none", "layers": "4,8", "image_px": 16}
    small |= {"replay_mib": 0.5, "statistics_mib": 0.25}
    return Learner(LearnerConfig(learner=algorithm, **{**small, **config}))


def pictures(number, count, seed=0, noise=40):
    """Return noisy images of a class: a pattern of coloured tiles that its number chooses."""
    tiles = np.random.default_rng([7, number]).integers(0, 216, (4, 4, 3))
    pattern = np.kron(tiles, np.ones((4, 4, 1), int))
    grain = np.random.default_rng([8, number, seed]).integers(0, noise, (count, 16, 16, 3))
    return (pattern + grain).astype(np.uint8)


def teach(learner, numbers, count=1, seed=0):
    for number in numbers:
        encoded = learner.encode(pictures(number, count, seed))
        learner.learn(encoded, [f"class {number}"] * count)


def recall(learner, numbers, count=5):
    """Return the share of unseen images of these classes that are recognised."""
    images = np.concatenate([pictures(number, count, seed=10**6) for number in numbers])
    found = learner.predict(learner.encode(images)).argmax(1)
    expected = [f"class {number}" for number in numbers for _ in range(count)]
    return np.mean([learner.classes[i] == name for i, name in zip(found, expected, strict=True)])


# ------------------------------------------------------------------------------- one frame, again


@pytest.mark.parametrize("algorithm", FROM_ONE_FRAME)
def test_a_class_is_predicted_from_one_frame_on(algorithm):
    learner = make(algorithm)
    teach(learner, [0])
    assert recall(learner, [0]) == 1  # of one class
    teach(learner, [1, 2, 3] * 4, seed=1)
    teach(learner, [4])
    assert learner.samples()["class 4"] == 1
    assert recall(learner, [4]) >= 0.8


def away(algorithm, frames):
    """Learn a class from eight frames, then so many of nine others."""
    gradient = {"learning_rate": 1e-2} if algorithm == "bp-replay" else {}
    learner = make(
        algorithm,
        batch=32,
        new_per_step=16,
        refresh_frames=256,
        replay_mib=0.01 if algorithm == "knn" else 0.25,  # full after 600 frames
        **gradient,
    )
    teach(learner, [0], count=8)
    learner.recalibrate()
    batch = 48
    for i in range(frames // batch + 1):
        teach(learner, [1 + i % 9], count=batch, seed=i)
    learner.recalibrate()
    return learner


def replay_of(learner):
    return getattr(learner.algorithm, "classifier", learner.algorithm).replay


def still_there(algorithm, learner):
    assert recall(learner, [0]) >= 0.8
    if algorithm in WITH_REPLAY:  # its full memory is shared fairly: no sample of it went
        replay = replay_of(learner)
        assert len(replay) == replay.capacity
        assert replay.counts[0] == 8
        first = torch.tensor(sorted(replay.places[0]))
        kept = replay.read(first)
        if algorithm == "cfl":
            seen = learner.encode(pictures(0, 8)).h0
            half_step = float(seen.max() - seen.min()) / 15 / 2
            torch.testing.assert_close(kept, seen.float(), rtol=0, atol=1.01 * half_step)
    before = learner.samples()["class 0"]
    teach(learner, [0], count=2, seed=99)
    assert recall(learner, [0]) >= 0.8
    assert learner.samples()["class 0"] == before + 2


@pytest.mark.parametrize("algorithm", ["cfl", "slda", "ncm", "knn", "bp-replay"])
def test_a_class_is_known_after_1_000_frames_of_others(algorithm):
    still_there(algorithm, away(algorithm, 1_000))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["cfl", "slda", "ncm", "knn", "bp-replay"])
def test_a_class_is_known_after_10_000_frames_of_others(algorithm):
    still_there(algorithm, away(algorithm, 10_000))


# ----------------------------------------------------------------------------------- many classes


@pytest.mark.parametrize(
    ("count", "exports"),
    [(1, False), (2, False), (200, True), pytest.param(1, True, marks=pytest.mark.slow)],
)
def test_one_two_and_two_hundred_classes(tmp_path, count, exports):
    learner = make(batch=32, new_per_step=32, refresh_frames=400, replay_mib=0.25)
    teach(learner, range(count), count=4)
    learner.recalibrate()
    assert len(learner.classes) == count
    assert learner.predict(learner.encode(pictures(0, 3))).shape == (3, count)
    replay = replay_of(learner)
    assert min(replay.counts) >= 1
    assert len(replay) <= replay.capacity
    assert recall(learner, range(count), count=1) >= 0.8
    saved = to_saved(learner)
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    back = Learner.from_saved(Store(tmp_path / "m").load())
    images = np.concatenate([pictures(z, 1, seed=5) for z in range(min(count, 20))])
    scores = learner.predict(learner.encode(images))
    np.testing.assert_array_equal(back.predict(back.encode(images)), scores)
    teach(back, [count], count=2)
    assert recall(back, [count]) >= 0.8
    if not exports:  # it takes the longest of all this
        return
    export_learner(learner, tmp_path / "onnx")
    network = OnnxModel(tmp_path / "onnx" / "model.onnx")
    assert list(network.classes) == learner.classes
    np.testing.assert_allclose(network.scores(images), scores, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("algorithm", MEASURED)
def test_replay_mib_is_a_hard_bound_across_100_classes(tmp_path, algorithm):
    limit_mib = {"knn": 0.005, "bp-deep": 0.12}.get(algorithm, 0.1)  # what 100 samples need
    learner = make(algorithm, replay_mib=limit_mib, batch=32, new_per_step=32, refresh_frames=400)
    for z in range(100):
        teach(learner, [z], count=4)
    learner.recalibrate()
    saved = to_saved(learner)
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    stored = saved.tensors["replay"]
    if algorithm not in WITH_REPLAY:
        assert stored == {}
        return
    replay = replay_of(learner)
    limit = limit_mib * MIB
    assert replay.values.nbytes + replay.ranges.nbytes <= limit
    assert stored["values"].nbytes + stored["ranges"].nbytes <= limit
    numbers = sum(array.nbytes for name, array in stored.items() if name != "values")
    [file] = (tmp_path / "m").glob("checkpoint-*/replay.safetensors")
    assert file.stat().st_size <= limit + numbers + 1024  # whose class, and a header
    assert len(replay) == replay.capacity >= 100  # full
    assert min(replay.counts) >= 1
    assert max(replay.counts) - min(replay.counts) <= 1


# ---------------------------------------------------------------------------------------- removal

NEEDLE = 12  # bytes: more than chance makes equal


def traces(learner, encoded):
    """Return what could be stored of samples: names and bytes."""
    found = {}
    parts = {
        "image": encoded.images.numpy(),
        "h0": encoded.h0.float().numpy(),
        **{f"features {i}": x.float().numpy() for i, x in enumerate(encoded.features)},
    }
    for name, values in parts.items():
        for i, value in enumerate(values):
            found[f"{name} of {i}"] = value.tobytes()
    return {name: data[len(data) // 2 :][:64] for name, data in found.items()}


def stored_rows(saved, name):
    """Return every row and sample of a class in a saved model: names and bytes."""
    number, found = saved.manifest["classes"].index(name), {}
    for tensor_name in saved.manifest["tensors"]["rows"]:
        row = saved.tensors["state"][tensor_name][number]
        if row.nbytes >= NEEDLE and row.any():
            found[tensor_name] = row.tobytes()
    for group, tensors in saved.tensors.items():
        for labels_name in [each for each in tensors if each.endswith("labels")]:
            mine = tensors[labels_name] == number
            for other, values in tensors.items():
                kind = labels_name.removesuffix("labels").removesuffix(".")
                related = other.startswith(kind)
                if not related or values.ndim < 2 or len(values) != len(mine):
                    continue
                for i in np.flatnonzero(mine):
                    if values[i].nbytes >= NEEDLE:
                        found[f"{group}/{other} of {i}"] = values[i].tobytes()
    return found


def folder_bytes(folder):
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_nothing_of_a_removed_class_is_in_any_file(tmp_path, algorithm):
    learner, store = make(algorithm, optimizer="adamw"), Store(tmp_path / "m")
    learner.journal = open_journal(None, learner, pytest.fail)
    secret = learner.encode(pictures(9, 6, seed=3))
    for i in range(3):
        teach(learner, [0, 1], count=3, seed=i)
    save_learner(store, learner)
    learner.learn(secret, ["secret"] * 6)
    save_learner(store, learner)
    teach(learner, [0, 1], count=3, seed=7)
    learner.learn(learner.encode(pictures(9, 1, seed=4)), ["secret"])  # waits for a step
    save_learner(store, learner)
    needles = traces(learner, secret)
    for number in store.numbers():
        older = store.load_older(number)
        if "secret" in older.manifest["classes"]:
            rows = stored_rows(older, "secret")
            needles |= {f"{number}: {name}": data for name, data in rows.items()}
    before = folder_bytes(tmp_path / "m")
    there = {name for name, data in needles.items() if data in before}
    assert any("image" in name or "examples" in name for name in there)
    assert any("journal" in name for name in there)  # the test can see what it looks for
    if algorithm in WITH_REPLAY:
        assert any("replay/values" in name for name in there)
    if algorithm in ("cfl", "slda", "ncm"):
        assert any("means" in name for name in there)

    notices, view = [], tmp_path / "m" / "view.jpg"
    view.write_bytes(b"a whole frame")
    counts = remove(FolderModel(tmp_path / "m"), "secret", on_notice=notices.append)
    after = folder_bytes(tmp_path / "m")
    assert [name for name in there if needles[name] in after] == []
    assert b"secret" not in after
    assert list(counts.frames) == ["class 0", "class 1"]
    assert len(store.numbers()) == 2  # a second one, should the newest be damaged
    back = Learner.from_saved(Store(tmp_path / "m").load())
    assert back.classes == ["class 0", "class 1"]
    teach(back, [0, 1], count=3, seed=11)
    back.recalibrate()
    assert notices[0].startswith("removing 'secret' ends what cfl-edge undo can take back")
    gone = "gone: classifier weights, statistics, replayed samples and images of 'secret'"
    assert notices[1].startswith(gone)
    assert notices[2] == f"stays: {declaration(algorithm).what_stays}"
    assert notices[3].endswith(f": rm {view}")


@pytest.mark.parametrize("algorithm", ["ncm", "imprint", "knn"])
def test_where_nothing_stays_the_model_is_what_it_was_before_the_class(algorithm):
    without, with_it = make(algorithm), make(algorithm)
    for i in range(3):
        teach(without, [0, 1], count=2, seed=i)
        teach(with_it, [0, 1], count=2, seed=i)
        teach(with_it, [2], count=2, seed=i)
    saved = to_saved(with_it)
    class_table.remove(saved, "class 2")
    images = pictures(0, 3, seed=50)
    scores = [each.predict(each.encode(images)) for each in (Learner.from_saved(saved), without)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("algorithm", [h for h in LEARNERS if h not in ("ncm", "imprint", "knn")])
def test_where_something_stays_it_says_so(algorithm):
    assert declaration(algorithm).what_stays != "nothing of it"


def test_a_removal_that_could_not_clear_the_older_state_says_so(tmp_path, monkeypatch):
    learner = make("ncm")
    teach(learner, [0, 1])
    saved = to_saved(learner)
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    rename = writing.os.rename

    def failing(old, new):
        if "checkpoint-000003" in str(new):
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(writing.os, "rename", failing)
    with pytest.raises(ModelWriteError, match="is saved, but an older checkpoint is still in"):
        remove(FolderModel(tmp_path / "m"), "class 0")
    monkeypatch.undo()
    assert Store(tmp_path / "m").load().manifest["classes"] == ["class 1"]


def test_exported_files_that_still_know_the_class_are_pointed_out(tmp_path):
    data = write_images(tmp_path / "data", count=3)
    model = tmp_path / "model"
    assert learn(data, model, *SMALL).code == 0
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").write_text("exported")
    result = cfl_edge("classes", "remove", model, "left", "--json")
    assert result.code == 0
    told = f"{model}/onnx still has 'left'; bring it up to date: cfl-edge export {model} -o "
    assert result.notices[-1] == f"{told}{model}/onnx"
    assert result.summary == {"classes": {"above": 3}, "replay": {"above": 3}}


# ------------------------------------------------------------------------------------------- list


def test_list_shows_frames_and_samples_in_replay(tmp_path):
    data = write_images(tmp_path / "data", count=12)
    for algorithm, replay in (("cfl", {"above": 12, "left": 12}), ("ncm", None)):
        model = tmp_path / algorithm
        assert learn(data, model, *SMALL, "--learner", algorithm).code == 0
        listed = cfl_edge("classes", "list", model, "--json").summary
        assert listed == {"classes": {"above": 12, "left": 12}, "replay": replay}
        lines = cfl_edge("classes", "list", model).out.splitlines()
        expected = ["frames", "replay", "class"] if replay else ["frames", "class"]
        assert lines[0].split() == expected
        assert lines[2].split() == (["12", "12", "left"] if replay else ["12", "left"])


def test_names_and_kinds_do_not_matter_for_what_is_learned_later(tmp_path):
    """Rename, merge, remove and learn again: numbers move up, nothing gets mixed up."""
    learner = make()
    teach(learner, range(6), count=4)
    saved = to_saved(learner)
    class_table.remove(saved, "class 1")
    class_table.rename(saved, "class 2", "class 20")
    class_table.merge(saved, ["class 3", "class 5"], into="odd")
    back = Learner.from_saved(saved)
    assert back.classes == ["class 0", "class 20", "odd", "class 4"]
    for i in range(3):
        teach(back, [0, 4], count=2, seed=20 + i)
        back.learn(back.encode(pictures(2, 2, seed=20 + i)), ["class 20"] * 2)
        for number in (3, 5):
            back.learn(back.encode(pictures(number, 2, seed=20 + i)), ["odd"] * 2)
    back.recalibrate()
    for number, name in ((0, "class 0"), (2, "class 20"), (3, "odd"), (5, "odd"), (4, "class 4")):
        scores = back.predict(back.encode(pictures(number, 5, seed=10**6)))
        assert [back.classes[i] for i in scores.argmax(1)].count(name) >= 4, name


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_the_only_class_is_removed_and_another_learned(tmp_path, algorithm):
    learner = make(algorithm)
    teach(learner, [0], count=5)
    saved = to_saved(learner)
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    counts = remove(FolderModel(tmp_path / "m"), "class 0", on_notice=[].append)
    assert counts.frames == {}
    back = Learner.from_saved(Store(tmp_path / "m").load())
    assert back.predict(back.encode(pictures(1, 2))).shape == (2, 0)
    teach(back, [1, 2] * 3, count=2)
    back.recalibrate()
    assert back.samples() == {"class 1": 6, "class 2": 6}

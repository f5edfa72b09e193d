"""What is unknown in `learn`, `evaluate`, `run` and `bench streams`."""

import json
import re
import shutil

import numpy as np
import onnx
import pytest
from command_line import SMALL, assert_error, cfl_edge, write_images
from PIL import Image
from test_video_file import write_clip
from unknown_samples import COLOURS, new_learner, pictures, teach

from cfl_edge import Learner
from cfl_edge.errors import DataError, UsageError
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store
from cfl_edge.onnx.classes import patch_classes
from cfl_edge.onnx.inference import OnnxModel


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder that has learned three colours, and images: of them, and of others."""
    folder = tmp_path_factory.mktemp("unknown")
    for part, seed, count in (("train", 0, 30), ("test", 9999, 12)):
        for kind, name in enumerate(COLOURS):
            (folder / part / name).mkdir(parents=True)
            for i, image in enumerate(pictures(kind, count, seed)):
                Image.fromarray(image).save(folder / part / name / f"{i}.png")
    (folder / "grey").mkdir()
    for i, image in enumerate(pictures(3, 12)):
        Image.fromarray(image).save(folder / "grey" / f"{i}.png")
    result = cfl_edge(
        *("learn", "--stream", folder / "train", "--labels-from", "dirs", "--order", "shuffled"),
        *("--model", folder / "model", "--epochs", 2, "--reject", 0.95, "--json", *SMALL),
    )
    assert result.code == 0, result.err
    (folder / "learn.json").write_text(result.out)
    return folder


def test_learn_says_how_unknown_each_frame_is(model):
    events = [json.loads(line) for line in (model / "learn.json").read_text().splitlines()]
    frames = [event for event in events if event["event"] == "frame"]
    assert frames[0]["unknown"] is None
    assert 0 <= frames[-1]["unknown"] <= 1
    rejected = [frame for frame in frames if frame["rejected"]]
    assert all(f["prediction"] == "unknown" and f["unknown"] > 0.95 for f in rejected)
    assert all(f["unknown"] is None or f["unknown"] <= 0.95 for f in frames if not f["rejected"])
    assert events[-1]["rejected"] == len(rejected)


def test_evaluate_measures_unknown_images(model):
    arguments = ("evaluate", model / "model", "--data", model / "test", "--unknown", model / "grey")
    plain = cfl_edge(*arguments, "--json").summary
    assert plain["auroc_unknown"] > 0.8
    assert 0 <= plain["fpr95_unknown"] < 0.6
    assert (plain["unknown_samples"], plain["unknown_rejected"]) == (12, None)
    assert "rejected" not in plain
    refusing = cfl_edge(*arguments, "--reject", 0.9, "--json").summary
    assert refusing["auroc_unknown"] == plain["auroc_unknown"]
    assert refusing["unknown_rejected"] > 0.4
    answered = refusing["samples"] - refusing["rejected"]
    right = round(refusing["accuracy"] * refusing["samples"])
    assert refusing["answered_accuracy"] == pytest.approx(right / answered, abs=1e-3)
    assert refusing["accuracy"] <= plain["accuracy"]
    text = cfl_edge(*arguments, "--reject", 0.9).out
    assert "AUROC" in text
    assert "rejected" in text


def test_images_of_what_is_unknown_may_lie_in_subfolders(model, tmp_path):
    folder = write_images(tmp_path / "others", count=3)
    arguments = ("evaluate", model / "model", "--data", model / "test", "--json")
    assert cfl_edge(*arguments, "--unknown", folder).summary["unknown_samples"] == 6
    (tmp_path / "empty").mkdir()
    assert_error(cfl_edge(*arguments, "--unknown", tmp_path / "empty"), 3, "empty")
    assert_error(cfl_edge(*arguments, "--unknown", tmp_path / "nowhere"), 3, "nowhere")


@pytest.mark.parametrize("share", [0, -1, 1.5, "nan"])
def test_a_share_that_is_none_is_refused(model, share):
    for command in (
        ("evaluate", model / "model", "--data", model / "test"),
        ("run", model / "model/onnx/model.onnx", "--stream", model / "test"),
        ("learn", "--stream", model / "test", "--model", model / "other"),
    ):
        assert_error(cfl_edge(*command, "--reject", share), 2, "--reject")


def test_a_class_called_unknown_and_reject_do_not_go_together(learned, tmp_path):
    """A model may have one from before no class could be called so."""
    model = shutil.copytree(learned, tmp_path / "model")
    store = Store(model)
    saved = store.load()
    saved.manifest["classes"][1] = "unknown"
    store.save(saved.manifest, saved.tensors)
    data = write_images(tmp_path / "data", count=6)
    (data / "left").rename(data / "unknown")
    evaluate = ("evaluate", model, "--data", data)
    assert cfl_edge(*evaluate).code == 0  # without --reject a name as any other
    for command in (("learn", "--stream", data, "--model", model, "--label", "mug"), evaluate):
        result = cfl_edge(*command, "--reject", 0.95)
        assert_error(result, 2, "class 'unknown'")
        assert "try: rename that class" in result.err
    assert cfl_edge("classes", "rename", model, "unknown", "left").code == 0


@pytest.mark.parametrize("name", ["unknown", "Unknown", " UNKNOWN"])
def test_no_class_is_called_unknown_whoever_asks(learned, tmp_path, name):
    model = shutil.copytree(learned, tmp_path / "model")
    told = f"is {name.strip()!r}, which is no name for a class"
    data = write_images(tmp_path / "data", count=2)
    learn = ("learn", "--stream", data, "--model", tmp_path / "m", *SMALL)
    assert_error(cfl_edge(*learn, "--label", name), 2, f"--label {told}")
    for words in (
        ("add", model, name),
        ("rename", model, "left", name),
        ("merge", model, "left", "above", "--into", name),
        ("split", model, "left", "--into", name, "--frames", 2),
    ):
        result = cfl_edge("classes", *words)
        assert_error(result, 2, told)
        assert "'empty'" in result.err
    verbs = Verbs(FolderModel(model))
    for verb, arguments in (
        ("label", {"label": name}),
        ("label_frame", {"label": name, "frame": 1}),
        ("relabel", {"label": name, "last_s": 1.0}),
        ("add", {"name": name}),
    ):
        with pytest.raises(UsageError, match=told):
            verbs.do(verb, arguments)
    learner = Learner.load(model)
    with pytest.raises(DataError, match=told):
        learner.learn_one(np.zeros((8, 8, 3), np.uint8), name)


@pytest.mark.parametrize("name", ["unknown", " unknown ", "Unknown"])
def test_a_class_folder_called_unknown_is_refused_before_the_first_frame(tmp_path, name):
    data = write_images(tmp_path / "data", kinds=("above", name), count=6)
    learn = ("learn", "--labels-from", "dirs", "--model", tmp_path / "m", *SMALL)
    result = cfl_edge(*learn, "--stream", data)
    assert_error(result, 4, f"the class folder is {name.strip()!r}, which is no name for a class")
    assert result.out == ""
    assert not Store(tmp_path / "m").exists()
    # Whoever says what the frames show is not asked for the names of folders.
    labelled = ("learn", "--label", "mug", "--model", tmp_path / "n", "--reject", 0.95, *SMALL)
    assert cfl_edge(*labelled, "--stream", data, "--no-export").code == 0


def test_a_clip_called_unknown_is_refused_before_the_first_frame(tmp_path):
    clip = write_clip(tmp_path / "unknown.mp4", 3)
    learn = ("learn", "--labels-from", "dirs", "--model", tmp_path / "m", *SMALL)
    result = cfl_edge(*learn, "--stream", clip)
    assert_error(result, 4, "the clip's name is 'unknown'")
    assert result.out == ""


def test_a_class_of_which_nothing_was_learned_is_no_second_one(tmp_path):
    data = write_images(tmp_path / "data", kinds=("above",), count=3)
    learn = ("learn", "--stream", data, "--labels-from", "dirs", "--model", tmp_path / "m", *SMALL)
    assert cfl_edge(*learn, "--no-export").code == 0
    assert cfl_edge("classes", "add", tmp_path / "m", "ghost").code == 0
    sentence = "above is predicted for everything"
    assert sentence in cfl_edge(*learn).out  # and it is exported
    assert (tmp_path / "m" / "onnx" / "labels.txt").read_text() == "above\nghost\n"
    assert sentence in cfl_edge("evaluate", tmp_path / "m", "--data", data).err


@pytest.mark.parametrize("classes", [1, 2])
def test_a_model_of_one_class_is_said_to_need_a_second(tmp_path, classes):
    data = write_images(tmp_path / "data", kinds=("above", "left")[:classes], count=3)
    learn = ("learn", "--stream", data, "--labels-from", "dirs", "--model", tmp_path / "m", *SMALL)
    learned = cfl_edge(*learn)
    assert learned.code == 0, learned.err
    evaluated = cfl_edge("evaluate", tmp_path / "m", "--data", data)
    ran = cfl_edge("run", tmp_path / "m/onnx/model.onnx", "--stream", data)
    assert (evaluated.code, ran.code) == (0, 0)
    sentence = "above is predicted for everything: teach a second one, such as the view without it"
    for text in (learned.out, evaluated.err, ran.err):
        assert text.count(sentence) == (classes == 1)


def test_a_model_that_learned_too_little_refuses_nothing_and_says_so(tmp_path):
    data = write_images(tmp_path / "data", count=3)
    learn = ("learn", "--stream", data, "--model", tmp_path / "m", "--labels-from", "dirs", *SMALL)
    assert cfl_edge(*learn).code == 0
    result = cfl_edge("evaluate", tmp_path / "m", "--data", data, "--reject", 0.5, "--json")
    assert result.summary["rejected"] == 0
    assert any("--reject refuses nothing yet" in notice for notice in result.notices)
    run = ("run", tmp_path / "m/onnx/model.onnx", "--stream", data, "--reject", 0.5)
    assert_error(cfl_edge(*run), 4, "before enough was learned")
    write_images(data, count=30)
    learned = cfl_edge(*learn, "--reject", 0.95, "--json")
    begin, end = [text for text in learned.notices if "--reject" in text]
    assert "refuses nothing yet" in begin
    assert "is set by" in end
    few = cfl_edge("evaluate", tmp_path / "m", "--data", data, "--reject", 0.95, "--json")
    (doubt,) = [text for text in few.notices if "--reject" in text]
    words = r"--reject 0.95 is set by (\d+) frames: expect 0 to (\d+) % of known images refused"
    frames, percent = map(int, re.fullmatch(f"{words}, not 5 %", doubt).groups())
    assert 30 <= frames <= 66
    assert 10 <= percent <= 13  # 5 % and two standard errors of a share among so few


def test_an_exported_model_refuses_what_the_model_folder_refuses(model):
    def ran_with(reject):
        exported = model / "model/onnx/model.onnx"
        stream = ("--stream", model / "test", "--labels-from", "dirs")
        ran = cfl_edge("run", exported, *stream, "--reject", reject, "--json")
        return ran.summary, [event for event in ran.events if event["event"] == "frame"]

    # Distances of torch and ONNX Runtime differ by rounding, so no score may lie at the limit.
    scores = np.sort([frame["unknown"] for frame in ran_with(0.8)[1]])
    upper = scores[scores > 0.5]
    widest = np.diff(upper).argmax()
    reject = float(upper[widest : widest + 2].mean())
    evaluated = cfl_edge(
        "evaluate", model / "model", "--data", model / "test", "--reject", reject, "--json"
    ).summary
    summary, frames = ran_with(reject)
    assert 0 < summary["rejected"] == evaluated["rejected"] < len(frames)
    assert summary["accuracy"] == pytest.approx(evaluated["accuracy"])
    assert sum(frame["prediction"] == "unknown" for frame in frames) == evaluated["rejected"]
    assert all(0 <= frame["unknown"] <= 1 for frame in frames)


@pytest.mark.parametrize("algorithm", ["slda", "ncm"])
def test_exported_distances_are_those_of_torch(algorithm, tmp_path):
    from cfl_edge.learner.export import export_learner

    learner = new_learner(algorithm)
    teach(learner)
    learner.recalibrate()
    export_learner(learner, tmp_path)
    images = np.concatenate([pictures(k, 3, 7) for k in range(4)])
    _, distances = OnnxModel(tmp_path / "model.onnx").scores_and_distances(images)
    expected = learner.distances(learner.encode(images))
    np.testing.assert_allclose(distances, expected, rtol=1e-3, atol=0.05)
    exact = algorithm not in ("cfl", "slda")
    notices = []
    rows = np.ascontiguousarray(learner.algorithm.readout.T.numpy())
    patch_classes(tmp_path, rows, ["a", "b", "c"], on_notice=notices.append)  # other names alone
    later = np.zeros((len(rows), 1), np.float32)
    later[-1] = -1e4
    patch_classes(
        tmp_path, np.hstack([rows, later]), ["a", "b", "c", "d"], on_notice=notices.append
    )
    assert notices == []
    _, again = OnnxModel(tmp_path / "model.onnx").scores_and_distances(images)
    np.testing.assert_array_equal(again, distances)
    patch_classes(tmp_path, rows[:, :2].copy(), ["a", "b"], on_notice=notices.append)
    patched = OnnxModel(tmp_path / "model.onnx")
    assert patched.has_distance is exact
    assert [("export its model folder again" in notice) for notice in notices] == [True, True][
        : 2 - 2 * exact
    ]
    scores, distances = patched.scores_and_distances(images)
    assert np.isnan(distances).all() if not exact else (distances == -scores.max(axis=1)).all()
    for name in ("model.onnx", "classifier.onnx"):
        onnx.checker.check_model(tmp_path / name, full_check=True)


def test_a_file_without_the_distance_says_what_to_do(model, tmp_path):
    proto = onnx.load(model / "model/onnx/model.onnx")
    del proto.graph.output[1]
    for items in (proto.graph.node, proto.graph.initializer):
        for item in [item for item in items if item.name.startswith("unknown_")]:
            items.remove(item)
    onnx.save(proto, tmp_path / "model.onnx")
    run = ("run", tmp_path / "model.onnx", "--stream", model / "test")
    frames = [e for e in cfl_edge(*run, "--json").events if e["event"] == "frame"]
    assert {frame["unknown"] for frame in frames} == {None}
    refused = cfl_edge(*run, "--reject", 0.9)
    assert_error(refused, 4, "unknown_distance")
    assert "export its model folder again" in refused.err


def test_bench_streams_holds_classes_back(tmp_path):
    images = [np.concatenate([pictures(k, 30, seed) for k in range(4)]) for seed in (0, 1)]
    labels = np.repeat(np.arange(4), 30)
    np.savez(
        tmp_path / "colours.npz",
        **{"x_train": images[0], "y_train": labels, "x_test": images[1], "y_test": labels},
    )
    bench = ("bench", "streams", "--data", tmp_path / "colours.npz", "--learners", "cfl,ncm")
    result = cfl_edge(*bench, *SMALL, "--unknown-classes", 1, "--train-images", 60, "--json")
    *runs, summary = result.events
    assert (summary["classes"], summary["train_images"]) == (3, 60)
    assert (summary["test_images"], summary["unknown_images"]) == (90, 30)
    for run in runs:
        assert run["auroc_unknown"] > 0.6
        assert 0 <= run["fpr95_unknown"] <= 1
        assert run["curve"][-1]["classes"] == 3
    assert summary["learners"]["cfl"]["auroc_unknown"]["mean"] == runs[0]["auroc_unknown"]
    refused = cfl_edge(*bench, *SMALL, "--unknown-classes", 3)
    assert_error(refused, 2, "--unknown-classes is 3 of the 4 classes")
    assert "--unknown-classes 2" in refused.err
    assert_error(cfl_edge(*bench, "--unknown-classes", -1), 2, "--unknown-classes")

"""Commands on a learned model: run, evaluate, classes, JSON, settings, signals."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import (
    MAIN,
    SMALL,
    assert_error,
    cfl_edge,
    contents,
    learn,
    process,
    write_images,
)
from learner_checks import pictures
from PIL import Image

from cfl_edge.errors import ModelWriteError
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.model.store import Store
from cfl_edge.onnx.inference import OnnxModel


def test_run_with_what_is_no_model(data, tmp_path):
    (tmp_path / "model.onnx").write_text("not a network")
    assert_error(cfl_edge("run", tmp_path / "model.onnx", "--stream", data), 4, "model.onnx")
    assert_error(
        cfl_edge("run", tmp_path / "none.onnx", "--stream", data, "--no-watch"), 4, "none.onnx"
    )
    assert_error(cfl_edge("run", tmp_path, "--stream", data), 4, str(tmp_path))


def test_run_never_loads_torch_and_says_what_evaluate_says(learned, data):
    code = """
import sys
from cfl_edge.cli.app import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""
    options = ("--labels-from", "dirs", "--json", "--threads", 1)
    command = ("run", learned / "onnx/model.onnx", "--stream", data, *options)
    out, err = process(code, *command).communicate(timeout=60)
    assert err.splitlines() == ["False"]
    summary = json.loads(out.splitlines()[-1])
    evaluated = cfl_edge("evaluate", learned, "--data", data, "--json").summary
    for name in ("accuracy", "per_class", "samples"):
        assert summary[name] == evaluated[name], name
    assert summary["accuracy"] > 0.8
    assert summary["samples"] == 16
    assert summary["peak_rss_mib"] > 0


# evaluate


def test_evaluate_counts_unknown_classes_as_wrong_and_says_so(learned, tmp_path):
    data = write_images(tmp_path / "data", count=4)
    known = cfl_edge("evaluate", learned, "--data", data, "--json").summary
    (data / "left").rename(data / "zebra")
    result = cfl_edge("evaluate", learned, "--data", data, "--json")
    assert result.summary["unknown_classes"] == ["zebra"]
    assert result.summary["per_class"] == {"above": known["per_class"]["above"], "zebra": 0.0}
    assert result.summary["accuracy"] == known["per_class"]["above"] / 2
    (said,) = [text for text in result.notices if "zebra" in text and "wrong" in text]
    run = ("run", learned / "onnx/model.onnx", "--stream", data, "--labels-from", "dirs", "--json")
    ran = cfl_edge(*run)
    assert ran.summary["unknown_classes"] == ["zebra"]
    assert ran.notices[-1] == said
    (data / "zebra").rename(data / "left")
    assert cfl_edge(*run).summary["unknown_classes"] == []


def test_what_takes_long_to_load_is_said_at_once(model, data, monkeypatch):
    """Torch does, of a command that nobody has given before; where it is there, nothing does."""
    monkeypatch.setattr("cfl_edge.notices.sys", SimpleNamespace(modules={}))
    learned = learn(data, model.parent / "new", *SMALL)
    assert learned.notices[1:2] == ["loading torch and none"]
    evaluate = ("evaluate", model, "--data", data, "--json")
    undo = ("undo", model, "--frames", 1, "--json")
    for command in (evaluate, undo):
        assert cfl_edge(*command).notices[0] == f"loading torch and {model}"
    monkeypatch.undo()
    assert not any("loading" in text for text in cfl_edge(*evaluate).notices)


def test_evaluate_without_subfolders(learned, data):
    result = cfl_edge("evaluate", learned, "--data", data / "left")
    assert_error(result, 4, "no image with a label")


def test_evaluate_draws_the_confusion(learned, data, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "confusion.png"
    result = cfl_edge("evaluate", learned, "--data", data, "--plot", plot)
    assert (result.code, result.out.splitlines()[-1]) == (0, f"plot       {plot}")
    with Image.open(plot) as image:
        assert image.format == "PNG"
    nowhere = tmp_path / "none/confusion.png"
    result = cfl_edge("evaluate", learned, "--data", data, "--plot", nowhere)
    assert_error(result, 4, "cannot be written")
    result = cfl_edge("evaluate", learned, "--data", data, "--plot", "/dev/full")
    assert_error(result, 4, "No space left")
    assert "accuracy" in result.out  # what was measured is not lost
    photo = tmp_path / "confusion.jpg"
    result = cfl_edge("evaluate", learned, "--data", data, "--plot", photo)
    assert_error(result, 2, f"--plot is {photo}, expected a name that ends in .png")
    assert not photo.exists()
    monkeypatch.setattr("os.access", lambda place, mode: place != tmp_path)  # root may all
    result = cfl_edge("evaluate", learned, "--data", data, "--plot", tmp_path / "new.png")
    assert_error(result, 4, "new.png cannot be written: you may not write there")
    assert result.out == ""


# classes

CHANGES = {
    "add": (["add", "cup"], ["above", "left", "cup"]),
    "rename": (["rename", "left", "port side"], ["above", "port side"]),
    "remove": (["remove", "above"], ["left"]),
    "merge": (["merge", "left", "above", "--into", "lit"], ["lit"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_classes_are_the_same_in_torch_and_onnx(model, change):
    (verb, *arguments), names = CHANGES[change]
    result = cfl_edge("classes", verb, model, *arguments, "--onnx", model / "onnx", "--json")
    assert result.code == 0, result.err
    assert list(result.summary["classes"]) == names
    assert cfl_edge("classes", "list", model, "--json").summary == result.summary
    assert (model / "onnx/labels.txt").read_text().splitlines() == names
    learner, network = Learner.from_saved(Store(model).load()), OnnxModel(model / "onnx/model.onnx")
    assert learner.classes == list(network.classes) == names
    images = np.concatenate([pictures(learner, kind, 4, seed=9) for kind in range(2)])
    scores = learner.predict(learner.encode(images))
    np.testing.assert_allclose(network.scores(images), scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("algorithm", ["cfl", "joint", "slda", "ncm"])
def test_a_merge_says_where_the_export_has_other_weights_than_the_model(tmp_path, algorithm):
    config = LearnerConfig(algorithm, "none", "8", 16, new_per_step=1, replay_mib=0.1)
    learner = Learner(config)
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    learner.learn(learner.encode(images), list("aaaaabbccccc"))
    learner.save(tmp_path / "m")
    learner.export(tmp_path / "onnx")
    merge = ("classes", "merge", tmp_path / "m", "a", "b", "--into", "a")
    result = cfl_edge(*merge, "--onnx", tmp_path / "onnx")
    scores = Learner.load(tmp_path / "m").predict(learner.encode(images))
    alike = np.allclose(OnnxModel(tmp_path / "onnx").scores(images), scores, rtol=1e-3, atol=1e-3)
    again = f"cfl-edge export {tmp_path / 'm'} -o {tmp_path / 'onnx'}"
    assert (result.code, result.err.endswith(f"{again}\n")) == (0, not alike)
    assert alike == (algorithm == "cfl")


@pytest.mark.parametrize("change", CHANGES)
def test_changed_classes_without_onnx_leave_the_files_alone(model, data, change):
    (verb, *arguments), names = CHANGES[change]
    before = contents(model / "onnx")
    result = cfl_edge("classes", verb, model, *arguments)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["class", *names]
    assert contents(model / "onnx") == before
    assert learn(data, model).code == 0  # and it learns on


def test_a_class_that_is_called_so_already_is_not_written_again(model):
    """Nor is its export told to be out of date."""
    before = contents(model)
    result = cfl_edge("classes", "rename", model, "left", "left")
    said = "nothing to rename: the class is called 'left' already\n"
    assert (result.code, result.err, contents(model)) == (0, said, before)


def test_a_merge_into_a_third_class_says_how(model):
    assert cfl_edge("classes", "add", model, "lit").code == 0
    result = cfl_edge("classes", "merge", model, "left", "above", "--into", "lit")
    assert_error(result, 4, "The model has a class 'lit' already")
    assert result.err.endswith("try: another name, or merge with 'lit'\n")


def test_the_model_folder_in_place_of_its_export(learned, data, tmp_path):
    """The export is named, not one of its parts, nor a command that writes it once more."""
    whole = learned / "onnx" / "model.onnx"
    for path in (learned / "checkpoint-000001", learned / "onnx" / "classifer.onnx"):
        result = cfl_edge("run", path, "--stream", data)
        assert result.code == 4
        assert f"try: {whole}, which is " in result.err


def test_a_model_folder_or_that_of_its_export_is_run(learned, data):
    words = ("--stream", data, "--labels-from", "dirs", "--json")
    runs = [cfl_edge("run", path, *words) for path in (learned, learned / "onnx")]
    expected = cfl_edge("run", learned / "onnx" / "model.onnx", *words).summary
    for result in runs:
        assert result.code == 0, result.err
        assert result.summary["per_class"] == expected["per_class"]
        assert result.summary["samples"] > 0


def test_an_export_to_the_name_of_a_file_is_refused(learned, tmp_path):
    result = cfl_edge("export", learned, "-o", tmp_path / "pets.onnx")
    assert_error(result, 2, "pets.onnx, the name of a file, expected a folder")
    assert result.err.endswith(f"try: -o {tmp_path / 'pets'}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "left"],
        ["rename", "zebra", "cup"],
        ["rename", "left", "above"],
        ["remove", "zebra"],
        ["merge", "left", "zebra", "--into", "lit"],
        ["merge", "left", "--into", "lit"],
    ],
    ids=" ".join,
)
def test_changes_of_classes_that_are_not_possible(model, arguments):
    before = contents(model)
    verb, *rest = arguments
    assert_error(cfl_edge("classes", verb, model, *rest, "--onnx", model / "onnx"), 4)
    assert contents(model) == before


def test_a_class_name_that_nobody_could_read(model):
    assert_error(cfl_edge("classes", "add", model, " "), 2, "empty")
    assert_error(cfl_edge("classes", "rename", model, "left", "a\x1b[31m"), 2, "control")


def test_wrong_onnx_files_of_a_change(model):
    before = contents(model)
    none = model.parent / "none"
    assert_error(cfl_edge("classes", "remove", model, "left", "--onnx", none), 4, "none")
    assert contents(model) == before


# JSON, settings, ends

LEARN_FIELDS = "frames learned dropped fps prequential_accuracy classes seconds peak_rss_mib"
MEASURE_FIELDS = "accuracy per_class samples peak_rss_mib"


def test_files_that_were_changed_before_a_full_disk_are_named(model, monkeypatch):
    def full(*_args, **_options):
        raise ModelWriteError("the disk is full.", hint="free some space")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", full)
        result = cfl_edge("classes", "rename", model, "left", "aside", "--onnx", model / "onnx")
    assert_error(result, 4, f"The files in {model / 'onnx'} already have the new classes")
    assert OnnxModel(model / "onnx" / "model.onnx").classes == ["above", "aside"]
    again = cfl_edge("classes", "rename", model, "left", "aside", "--onnx", model / "onnx")
    assert again.code == 0, again.err
    assert Store(model).load().manifest["classes"] == ["above", "aside"]


def test_every_command_speaks_json(data, learned, tmp_path):
    onnx = learned / "onnx/model.onnx"
    results = {
        "learn": (learn(data, tmp_path / "model", *SMALL), LEARN_FIELDS),
        "run": (
            cfl_edge("run", onnx, "--stream", data, "--labels-from", "dirs", "--json"),
            MEASURE_FIELDS,
        ),
        "evaluate": (cfl_edge("evaluate", learned, "--data", data, "--json"), MEASURE_FIELDS),
        "list": (cfl_edge("classes", "list", learned, "--json"), "classes"),
    }
    for name, (result, fields) in results.items():
        assert result.code == 0, name
        kinds = [event["event"] for event in result.events]
        assert kinds[-1] == "summary"
        assert kinds.count("summary") == 1
        assert kinds.count("frame") == (16 if name in ("learn", "run") else 0)
        assert set(fields.split()) <= set(result.summary), name
        assert result.err == "", name
    summary = results["learn"][0].summary
    assert (summary["frames"], summary["learned"], summary["dropped"]) == (16, 16, 0)
    assert summary["classes"] == ["above", "left"]
    assert 0 < summary["prequential_accuracy"] < 1


def test_a_second_start_goes_on(data, model):
    result = learn(data, model, "--max-frames", "5")
    assert [text for text in result.notices if "resuming" in text and "16 frames" in text]
    assert (result.summary["frames"], sum(result.summary["samples"].values())) == (5, 21)


def test_settings_come_from_the_command_line_the_environment_and_a_file(
    data, tmp_path, monkeypatch
):
    config = tmp_path / "learn.toml"
    config.write_text(
        f'stream = "{data}"\nlabels_from = "dirs"\nbackbone = "none"\nlayers = "8,16"\nimage = 16\n'
        "max_frames = 3\nepochs = 2\nexport = false\n"
    )
    monkeypatch.setenv("CFL_EDGE_MODEL", str(tmp_path / "model"))
    monkeypatch.setenv("CFL_EDGE_MAX_FRAMES", "4")
    command = ("learn", "--config", config, "--json")
    result = cfl_edge(*command)
    assert result.code == 0, result.err
    assert result.summary["model"] == str(tmp_path / "model")
    assert result.summary["learned"] == 4
    assert cfl_edge(*command, "--max-frames", "5").summary["learned"] == 5
    monkeypatch.setenv("CFL_EDGE_MAX_FRAMES", "none")
    assert_error(cfl_edge(*command), 2, "CFL_EDGE_MAX_FRAMES is 'none'")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("epoch = 2", "setting epoch in "),
        ("epochs = 0", "learn.toml is 0"),
        ("epochs = ", "is not TOML"),
    ],
)
def test_a_wrong_settings_file(data, tmp_path, text, word):
    config = tmp_path / "learn.toml"
    config.write_text(text)
    assert_error(learn(data, tmp_path / "model", "--config", config), 2, word)


def test_a_settings_file_that_is_not_there(data, tmp_path):
    result = learn(data, tmp_path / "model", "--config", tmp_path / "none.toml")
    assert_error(result, 2, "none.toml")


def frames_learned(model):
    return Store(model).load().manifest["counters"]["frames_learned"]


def test_a_closed_stdout_ends_the_loop_and_saves(tmp_path):
    model = tmp_path / "model"
    command = ["learn", "--stream", "demo:?frames=100000", "--model", model, *SMALL]
    with process(MAIN, *command, "--no-export", "--json") as learning:
        assert json.loads(learning.stdout.readline())["event"] == "notice"
        learning.stdout.close()
        assert learning.wait(60) == 0
        assert learning.stderr.read() == ""
    assert 1 <= frames_learned(model) < 10_000


def test_sigterm_ends_with_a_summary_and_saves(tmp_path):
    model = tmp_path / "model"
    command = ["learn", "--stream", "demo:?frames=100000", "--model", model, *SMALL, "--json"]
    with process(MAIN, *command) as learning:
        for line in learning.stdout:
            if json.loads(line)["event"] == "frame":
                break
        learning.send_signal(signal.SIGTERM)
        out, err = learning.communicate(timeout=60)
    assert (learning.returncode, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert (summary["event"], summary["interrupted"]) == ("summary", True)
    assert frames_learned(model) == summary["learned"] >= 1
    assert (model / "onnx/model.onnx").exists()


def test_a_second_signal_ends_the_export_and_not_the_report(data, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cfl_edge.onnx.export.agree", interrupt)
    model = tmp_path / "model"
    command = ["learn", "--stream", data, "--labels-from", "dirs", "--model", model, "--json"]
    result = cfl_edge(*command, *SMALL)
    assert result.code == 0
    assert f"cfl-edge export {model} -o {model / 'onnx'}" in result.notices[-1]
    assert frames_learned(model) == result.summary["learned"] >= 1
    assert not (model / "onnx").exists()
    assert not list(model.glob(".writing-*"))

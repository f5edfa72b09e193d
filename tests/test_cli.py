"""The command line: what it prints, what it refuses, its exit codes, what it leaves behind."""

import contextlib
import json
import os
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import (
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

from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store

COMMANDS = [
    ["learn"],
    ["run"],
    ["evaluate"],
    ["export"],
    ["classes"],
    *(["classes", name] for name in ("list", "add", "rename", "remove", "merge")),
    ["bench"],
    *(["bench", name] for name in ("memory", "speed")),
]


# Help and start


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help(command):
    result = cfl_edge(*command, "--help")
    assert result.code == 0
    assert " ".join(["cfl-edge", *command]) in result.out
    assert result.err == ""


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from cfl_edge.cli.app import main
heavy = "torch torchvision av numpy onnx onnxruntime PIL safetensors serial multiprocessing".split()
loaded = lambda names: [name for name in names if name in sys.modules]
print(loaded([*heavy, "rich"]))
for command in {[[], *COMMANDS]}:
    sys.argv = ["cfl-edge", *command, "--help"]
    try:
        main()
    except SystemExit as exit:
        assert not exit.code
print(loaded(heavy))
"""
    out, err = process(code).communicate(timeout=60)
    lines = out.splitlines()
    assert (lines[0], lines[-1], err) == ("[]", "[]", "")


def test_version_and_no_arguments():
    from cfl_edge import __version__

    assert cfl_edge("--version").out == f"cfl-edge {__version__}\n"
    nothing = cfl_edge()
    assert nothing.code == 2
    assert "learn" in nothing.out + nothing.err


# Wrong usage


@pytest.mark.parametrize("command", COMMANDS[:4], ids=" ".join)
def test_an_unknown_option(command):
    result = cfl_edge(*command, "--bogus")
    assert result.code == 2
    assert "--bogus" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--order", "random"),
        ("--labels-from", "nobody"),
        ("--device", "tpu"),
        ("--image", "3"),
        ("--image", "4000"),
        ("--epochs", "0"),
        ("--backbone", "nonsense"),
        ("--layers", "x"),
        ("--layers", "8,0"),
        ("--replay-mib", "0"),
        ("--replay-mib", "0.0001"),
        ("--replay-mib", "inf"),
        ("--replay-mib", "1e9"),
        ("--checkpoint-s", "0"),
        ("--seed", "-1"),
        ("--seed", str(10**30)),
        ("--labels-port", "70000"),
        ("--label", ""),
        ("--label", "a\nb"),
        ("--stream", "ftp://host/clip"),
    ],
)
def test_a_wrong_value(data, tmp_path, option, value):
    options = {"--stream": data, "--model": tmp_path / "model", "--backbone": "none", option: value}
    result = cfl_edge("learn", *(part for pair in options.items() for part in pair))
    assert_error(result, 2, value if option == "--stream" else option)
    assert not Store(tmp_path / "model").exists()


def test_options_that_contradict_each_other(data, tmp_path):
    both = learn(data, tmp_path / "model", "--label", "mug")
    assert_error(both, 2, "--label mug", "--labels-from dirs")


def test_a_missing_stream(learned):
    assert_error(cfl_edge("learn"), 2, "--stream is missing")
    assert_error(cfl_edge("run", learned / "onnx/model.onnx"), 2, "--stream is missing")


def test_evaluate_on_a_device_that_does_not_exist(learned, data):
    result = cfl_edge("evaluate", learned, "--data", data, "--device", "tpu")
    assert_error(result, 2, "--device is 'tpu'")


@pytest.mark.parametrize(
    "option", [("--backbone", "efficientnet-lite0"), ("--layers", "8,8"), ("--image", "32")]
)
def test_going_on_with_another_network(data, model, option):
    before = contents(model)
    result = learn(data, model, *option)
    assert_error(result, 2, " is ".join(option), "was learned with")
    assert contents(model) == before


# The source of frames


def sources(folder):
    (folder / "empty").mkdir()
    (folder / "talk.mp4").write_text("not a film")
    (folder / "torn/cup").mkdir(parents=True)
    torn_jpeg(folder / "torn/cup/1.jpg")
    return folder


def torn_jpeg(path):
    Image.fromarray(pictures(SimpleNamespace(image_px=64), 0, 1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/dev/video99", ["/dev/video99"]),
        ("missing/", ["missing", "no such folder"]),
        ("missing/*.jpg", ["no image matches"]),
        ("empty", ["empty"]),
        ("talk.mp4", ["talk.mp4", "cannot be read as a video"]),
        ("torn", ["not one of 1 file can be read", "1.jpg"]),
    ],
)
def test_a_source_that_fails(tmp_path, name, words):
    stream = os.path.join(sources(tmp_path), name)
    of_a_camera = ["--labels-from", "http"] if name.startswith("/dev") else []
    result = learn(stream, tmp_path / "model", *SMALL, *of_a_camera)
    assert_error(result, 3, *words)
    assert not Store(tmp_path / "model").exists()


def test_the_same_sources_fail_for_run_and_evaluate(learned, tmp_path):
    folder = sources(tmp_path)
    for name in ("missing/", "empty", "talk.mp4", "torn"):
        stream = os.path.join(folder, name)
        assert_error(cfl_edge("run", learned / "onnx/model.onnx", "--stream", stream), 3)
        assert_error(cfl_edge("evaluate", learned, "--data", stream), 3)


def test_a_torn_image_among_good_ones_is_skipped_and_counted(learned, tmp_path):
    data = write_images(tmp_path / "data", count=3)
    torn_jpeg(data / "left/torn.jpg")
    result = learn(data, tmp_path / "model", *SMALL)
    assert result.code == 0
    assert (result.summary["skipped"], result.summary["learned"]) == (1, 6)
    assert [text for text in result.notices if "torn.jpg skipped" in text]
    evaluated = cfl_edge("evaluate", learned, "--data", data, "--json")
    assert (evaluated.summary["skipped"], evaluated.summary["samples"]) == (1, 6)
    for number in range(6):
        torn_jpeg(data / f"above/{number}0.jpg")
    first = [str(data / f"above/{number}0.jpg") for number in range(5)]
    more = f"{', '.join(first)} and 2 more"
    ran = cfl_edge("run", learned / "onnx/model.onnx", "--stream", data)
    assert f", 7 not readable ({more})\n" in ran.out
    text = cfl_edge("evaluate", learned, "--data", data, "--unknown", data).out
    for name in ("--data", "--unknown"):
        assert f"skipped    7 files of {name} that cannot be read: {more}\n" in text
    assert learn(data, tmp_path / "other", *SMALL).summary["skipped_names"] == first


def test_frames_that_come_again_are_told_as_passes(data, tmp_path):
    command = ("learn", "--stream", data, "--labels-from", "dirs", "--no-export", *SMALL)
    lines = cfl_edge(*command, "--model", tmp_path / "three", "--epochs", 3).out
    assert "\npasses     3 of 16 images: each counts every image again" in lines
    torn_jpeg(write_images(tmp_path / "torn", count=2) / "left/torn.jpg")
    events = learn(tmp_path / "torn", tmp_path / "t", *SMALL, "--epochs", 3).events
    last = [event for event in events if event["event"] == "frame"][-1]
    assert (last["seen"], last["frames"], last["total"]) == (12, 13, 13)  # it ends where it said
    ended = cfl_edge(*command, "--model", tmp_path / "m", "--epochs", 3, "--max-frames", 20).out
    assert "\npasses     up to 3: each counts" in ended
    assert "passes" not in cfl_edge(*command, "--model", tmp_path / "one").out


def test_a_class_with_few_frames_beside_many_is_told(tmp_path):
    data = write_images(tmp_path / "data", count=30)
    for number in range(4, 30):
        (data / f"left/{number}.png").unlink()
    command = ("learn", "--stream", data, "--labels-from", "dirs", "--no-export", *SMALL)
    assert (
        "unequal    left 4 beside above 30: teach more of left\n"
        in cfl_edge(*command, "--model", tmp_path / "m").out
    )
    (data / "left/3.png").unlink()
    write_images(data.parent / "even", count=4)
    even = (*command[:2], data.parent / "even", *command[3:], "--model", tmp_path / "even-model")
    assert "unequal" not in cfl_edge(*even).out


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (1, 1), "red"),
        Image.new("L", (9, 5), 80),
        Image.new("RGBA", (20, 30), (1, 2, 3, 100)),
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)),
        Image.new("P", (8, 8)),
        Image.new("1", (8, 8)),
    ],
    ids=["1x1", "grey", "RGBA", "16-bit", "palette", "bits"],
)
def test_unusual_pictures(tmp_path, image):
    data = write_images(tmp_path / "data", count=2)
    image.save(data / "left/unusual.png")
    summary = learn(data, tmp_path / "model", *SMALL, "--learn-flagged").summary
    assert (summary["learned"], summary["skipped"]) == (5, 0)
    assert summary["samples"] == {"above": 2, "left": 3}


# The model folder


def test_a_model_of_a_newer_format_is_left_alone(data, model):
    for manifest in model.glob("checkpoint-*/manifest.json"):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    before = contents(model)
    for result in (
        learn(data, model),
        cfl_edge("classes", "add", model, "new"),
        cfl_edge("evaluate", model, "--data", data),
        cfl_edge("export", model, "-o", model / "other"),
    ):
        assert_error(result, 4, "99")
    assert contents(model) == before


def test_a_folder_of_something_else_is_left_alone(data):
    before = sorted(data.rglob("*"))
    for result in (
        learn(data, data, *SMALL),
        cfl_edge("classes", "add", data, "new"),
        cfl_edge("evaluate", data, "--data", data),
    ):
        assert_error(result, 4, str(data))
    assert sorted(data.rglob("*")) == before


def test_a_place_that_cannot_be_written(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file/model", "/proc/cfl-edge"):
        assert_error(learn(data, place, *SMALL), 4, str(place), "cannot be written")


def test_a_model_that_is_not_there(data, tmp_path):
    for result in (
        cfl_edge("evaluate", tmp_path / "none", "--data", data),
        cfl_edge("export", tmp_path / "none", "-o", tmp_path / "out"),
        cfl_edge("classes", "list", tmp_path / "none"),
        cfl_edge("classes", "add", tmp_path / "none", "cup"),
    ):
        assert_error(result, 4, "none does not exist")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_another_process_learns_on(data, model):
    code = """
import pathlib, sys
from cfl_edge.learner.journal import Journal
from cfl_edge.model.lock import ModelLock
with ModelLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
    before = contents(model)
    with process(code, model, stdin=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == "held\n"
        for result in (learn(data, model), cfl_edge("classes", "remove", model, "left")):
            assert_error(result, 4, f"process {holder.pid} is at work on it")
        holder.stdin.close()
    assert contents(model) == before
    with ModelLock(model):
        pass


@pytest.mark.parametrize("small_disk", [3], indirect=True)
def test_a_full_disk(data, small_disk):
    model = small_disk / "model"
    assert learn(data, model, *SMALL).code == 0
    before = contents(model)
    state_bytes = (model / "checkpoint-000001" / "state.safetensors").stat().st_size
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        while shutil.disk_usage(small_disk).free > state_bytes + 4096:  # and not for the rest
            filler.write(bytes(4096))
        result = learn(data, model, "--checkpoint-s", "0.001")
        assert_error(result, 4, "the disk is full: it needs", "free", "is intact")
        assert [text for text in result.notices if "learning goes on" in text]
        assert (result.summary["samples"], result.summary["unsaved"]) == (
            {"above": 16, "left": 16},
            16,
        )
        assert contents(model) == before
        told = cfl_edge("learn", "--stream", data, "--labels-from", "dirs", "--model", model)
        assert f"model      {model}: 16 learned frames saved, the last 16 are not" in told.out
        again = f"cfl-edge learn --stream {data} --model {model} --labels-from dirs"
        assert f"next       {again}" in told.out
        with contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
    result = learn(data, model)
    assert_error(result, 4, "there is no room to save what would be learned", "0.0 KiB are free")
    assert contents(model) == before
    (small_disk / "filler").unlink()
    assert cfl_edge("classes", "list", model, "--json").summary["classes"] == {
        "above": 8,
        "left": 8,
    }
    assert sum(learn(data, model).summary["samples"].values()) == 32


# run

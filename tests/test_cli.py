"""The command line: what it prints, what it refuses, its exit codes, what it leaves behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge, learn, write_pictures
from learner_checks import pictures
from PIL import Image

from cfl_edge.model.checkpoint import from_saved
from cfl_edge.model.inference import OnnxModel
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store

COMMANDS = [
    ["learn"],
    ["run"],
    ["evaluate"],
    ["export"],
    ["classes"],
    *(["classes", name] for name in ("list", "add", "rename", "remove", "merge")),
]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="session")
def learned(data, tmp_path_factory):
    """A model folder with its ONNX files in `onnx`; not to be changed."""
    model = tmp_path_factory.mktemp("cli") / "model"
    result = cfl_edge("learn", "--stream", data, "--labels-from", "dirs", "--model", model, *SMALL)
    assert result.code == 0, result.err
    assert f"cfl-edge run {model}/onnx/model.onnx" in result.out.splitlines()[-1]
    return model


@pytest.fixture
def model(learned, tmp_path):
    """A copy of the learned model, to be changed."""
    return shutil.copytree(learned, tmp_path / "model")


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def process(code, *arguments, **options):
    """Start a Python process of its own."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


MAIN = "from cfl_edge.cli import main; main()"


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
from cfl_edge.cli import main
heavy = "torch torchvision av numpy onnx onnxruntime PIL safetensors serial".split()
loaded = lambda names: [name for name in names if name in sys.modules]
print(loaded([*heavy, "pydantic", "pydantic_settings", "rich"]))
for command in {[[], *COMMANDS]}:
    sys.argv = ["cfl-edge", *command, "--help"]
    try:
        main()
    except SystemExit as exit:
        assert not exit.code
print(loaded([*heavy, "pydantic_settings"]))  # typer itself looks for pydantic
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
        ("--stem", "nonsense"),
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
    options = {"--stream": data, "--model": tmp_path / "model", "--stem": "none", option: value}
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
    "option", [("--stem", "efficientnet-lite0"), ("--layers", "8,8"), ("--image", "32")]
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
        ("missing/*.jpg", ["no picture matches"]),
        ("empty", ["empty"]),
        ("talk.mp4", ["talk.mp4", "cannot be read as a video"]),
        ("torn", ["not one of 1 files can be read", "1.jpg"]),
    ],
)
def test_a_source_that_fails(tmp_path, name, words):
    stream = os.path.join(sources(tmp_path), name)
    result = learn(stream, tmp_path / "model", *SMALL)
    assert_error(result, 3, *words)
    assert not Store(tmp_path / "model").exists()


def test_the_same_sources_fail_for_run_and_evaluate(learned, tmp_path):
    folder = sources(tmp_path)
    for name in ("missing/", "empty", "talk.mp4", "torn"):
        stream = os.path.join(folder, name)
        assert_error(cfl_edge("run", learned / "onnx/model.onnx", "--stream", stream), 3)
        assert_error(cfl_edge("evaluate", learned, "--data", stream), 3)


def test_a_torn_picture_among_good_ones_is_skipped_and_counted(learned, tmp_path):
    data = write_pictures(tmp_path / "data", count=3)
    torn_jpeg(data / "left/torn.jpg")
    result = learn(data, tmp_path / "model", *SMALL)
    assert result.code == 0
    assert (result.summary["skipped"], result.summary["learned"]) == (1, 6)
    assert [text for text in result.notices if "torn.jpg skipped" in text]
    evaluated = cfl_edge("evaluate", learned, "--data", data, "--json")
    assert (evaluated.summary["skipped"], evaluated.summary["samples"]) == (1, 6)


@pytest.mark.parametrize(
    "picture",
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
def test_unusual_pictures(tmp_path, picture):
    data = write_pictures(tmp_path / "data", count=2)
    picture.save(data / "left/unusual.png")
    summary = learn(data, tmp_path / "model", *SMALL).summary
    assert (summary["learned"], summary["skipped"]) == (5, 0)
    assert summary["samples"] == {"above": 2, "left": 3}


# The model folder


def test_a_model_of_a_newer_format_is_left_alone(data, model):
    for manifest in model.glob("generation-*/manifest.json"):
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
from cfl_edge.model.lock import ModelLock
with ModelLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
    before = contents(model)
    with process(code, model, stdin=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == "held\n"
        for result in (learn(data, model), cfl_edge("classes", "remove", model, "left")):
            assert_error(result, 4, f"process {holder.pid} is learning on it")
        holder.stdin.close()
    assert contents(model) == before
    with ModelLock(model):
        pass


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(data, small_disk):
    model = small_disk / "model"
    assert learn(data, model, *SMALL).code == 0
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    assert shutil.disk_usage(small_disk).free == 0
    before = contents(model)
    result = learn(data, model, "--checkpoint-s", "0.001")
    assert_error(result, 4, "the disk is full", "is intact")
    assert [text for text in result.notices if "learning goes on" in text]
    assert contents(model) == before
    (small_disk / "filler").unlink()
    assert cfl_edge("classes", "list", model, "--json").summary["classes"] == {
        "above": 8,
        "left": 8,
    }
    assert sum(learn(data, model).summary["samples"].values()) == 32


# run


def test_run_with_what_is_no_model(data, tmp_path):
    (tmp_path / "model.onnx").write_text("not a network")
    assert_error(cfl_edge("run", tmp_path / "model.onnx", "--stream", data), 4, "model.onnx")
    assert_error(cfl_edge("run", tmp_path / "none.onnx", "--stream", data), 4, "none.onnx")
    assert_error(cfl_edge("run", tmp_path, "--stream", data), 4, str(tmp_path))


def test_run_never_loads_torch_and_says_what_evaluate_says(learned, data):
    code = """
import sys
from cfl_edge.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""
    command = ("run", learned / "onnx/model.onnx", "--stream", data, "--json", "--threads", 1)
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
    data = write_pictures(tmp_path / "data", count=4)
    known = cfl_edge("evaluate", learned, "--data", data, "--json").summary
    (data / "left").rename(data / "zebra")
    result = cfl_edge("evaluate", learned, "--data", data, "--json")
    assert result.summary["unknown_classes"] == ["zebra"]
    assert result.summary["per_class"] == {"above": known["per_class"]["above"], "zebra": 0.0}
    assert result.summary["accuracy"] == known["per_class"]["above"] / 2
    assert [text for text in result.notices if "zebra" in text and "wrong" in text]


def test_evaluate_without_subfolders(learned, data):
    result = cfl_edge("evaluate", learned, "--data", data / "left")
    assert_error(result, 4, "no picture with a label")


def test_evaluate_draws_the_confusion(learned, data, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "confusion.png"
    assert cfl_edge("evaluate", learned, "--data", data, "--plot", plot).code == 0
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
    nowhere = tmp_path / "none/confusion.png"
    result = cfl_edge("evaluate", learned, "--data", data, "--plot", nowhere)
    assert_error(result, 4, "cannot be written")


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
    learner, network = from_saved(Store(model).load()), OnnxModel(model / "onnx/model.onnx")
    assert learner.classes == list(network.classes) == names
    images = np.concatenate([pictures(learner, kind, 4, seed=9) for kind in range(2)])
    scores = learner.predict(learner.encode(images))
    np.testing.assert_allclose(network.scores(images), scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_classes_without_onnx_leave_the_files_alone(model, data, change):
    (verb, *arguments), names = CHANGES[change]
    before = contents(model / "onnx")
    result = cfl_edge("classes", verb, model, *arguments)
    assert result.code == 0, result.err
    assert [line.split(maxsplit=1)[1] for line in result.out.splitlines()] == names
    assert contents(model / "onnx") == before
    assert learn(data, model).code == 0  # and it learns on


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


def test_every_command_speaks_json(data, learned, tmp_path):
    onnx = learned / "onnx/model.onnx"
    results = {
        "learn": (learn(data, tmp_path / "model", *SMALL), LEARN_FIELDS),
        "run": (cfl_edge("run", onnx, "--stream", data, "--json"), MEASURE_FIELDS),
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
    assert [text for text in result.notices if "going on with" in text and "16 frames" in text]
    assert (result.summary["frames"], sum(result.summary["samples"].values())) == (5, 21)


def test_settings_come_from_the_command_line_the_environment_and_a_file(
    data, tmp_path, monkeypatch
):
    config = tmp_path / "learn.toml"
    config.write_text(
        f'stream = "{data}"\nlabels_from = "dirs"\nstem = "none"\nlayers = "8,16"\nimage = 16\n'
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
    assert_error(cfl_edge(*command), 2, "max-frames")


@pytest.mark.parametrize(
    ("text", "word"),
    [("epoch = 2", "'epoch'"), ("epochs = 0", "--epochs is 0"), ("epochs = ", "is not TOML")],
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
    command = ["learn", "--stream", "demo:?frames=100000", "--model", model, *SMALL, "--json"]
    with process(MAIN, *command) as learning:
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

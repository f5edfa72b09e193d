"""A model of a stranger is tried in a process of its own, within limits."""

import io
import json
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clock import Clock
from command_line import MAIN, assert_error, cfl_edge, process
from mjpeg_server import Board, serve
from page_session import until
from service_checks import RED, model_bytes, replace, with_work
from trials import RUN_CHILD, Trials

from cfl_edge.errors import (
    UPGRADE_HINT,
    ModelDamagedError,
    ModelNotFoundError,
    ModelVersionError,
)
from cfl_edge.loop.model_watch import WatchedModel
from cfl_edge.onnx import model_trial, trial
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.model_trial import predict_checked, try_model

REFUSED = {
    "minutes": "its trial did not end, stopped after ",
    "memory": "bad_alloc",
}
NOT_NUMBERS = r"its weights 'sizes' are not all numbers \(NaN\)"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(["red", "green"]))
    return path


def tried(path, image):
    try_model(path, image)
    return OnnxModel(path, threads=1)


@pytest.fixture
def in_new_processes(monkeypatch):
    """Trials are as in use: each a new process, none forked and none remembered."""
    monkeypatch.setattr(model_trial, "run_child", RUN_CHILD)


def test_a_forked_trial_says_what_a_new_process_says(path):
    request = io.BytesIO()
    np.save(request, RED)
    trials = Trials()
    for content in (path.read_bytes(), with_work("NaN"), b"no model"):
        path.write_bytes(content)
        asked = ("cfl_edge.onnx.model_trial", [str(path)], request.getvalue())
        new, forked = RUN_CHILD(*asked), trials.run(*asked)
        assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)
        assert forked.stderr == new.stderr
    trials.end()


@pytest.mark.usefixtures("in_new_processes")
def test_a_good_model_passes(path, learned):
    try_model(path, RED)
    try_model(learned / "onnx/model.onnx", RED)


def test_the_hidden_nan_is_what_is_refused(path):
    """Its scores are as good as those of the model without it."""
    path.write_bytes(with_work("NaN"))
    with pytest.raises(ModelDamagedError, match=f"{path} cannot be used: {NOT_NUMBERS}"):
        try_model(path, RED)
    model = OnnxModel(path, threads=1)
    assert np.isfinite(predict_checked(model, RED).scores).all()


@pytest.mark.parametrize("kind", REFUSED)
def test_a_hostile_file_is_refused_at_a_low_cost(path, kind):
    good = path.rename(path.with_name("good.onnx"))
    path.write_bytes(with_work(kind))
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from cfl_edge.errors import ModelDamagedError
from cfl_edge.onnx.model_trial import try_model
def seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
image = np.zeros((8, 8, 3), np.uint8)
try_model(Path(sys.argv[2]), image)
good_s = seconds()
try:
    try_model(Path(sys.argv[1]), image)
except ModelDamagedError as error:
    mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(mib, seconds() - good_s, good_s, error.problem)
"""
    command = [sys.executable, "-c", code, path, good]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    mib, seconds, good_s, problem = done.stdout.split(maxsplit=3)
    assert re.search(f"^{path} cannot be used.*{REFUSED[kind]}", problem)
    assert float(mib) < 300
    assert float(seconds) < 10 * float(good_s) + 1  # ten imports, rounded up: 4 s where one is 0.4


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, ModelNotFoundError), (b"", ModelDamagedError), (b"no model", ModelDamagedError)],
)
def test_errors_are_those_of_the_model(path, content, error):
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as inside:
        OnnxModel(path)
    with pytest.raises(error) as raised:
        try_model(path, RED)
    assert str(raised.value) == str(inside.value)


def test_a_crash_and_another_exit_code(path, monkeypatch):
    for code, stderr, said in (
        (-signal.SIGSEGV, b"", "its trial ended with exit code -11"),
        (1, b"Traceback\nValueError: x\n", "its trial ended with exit code 1: ValueError: x"),
    ):
        child = SimpleNamespace(returncode=code, stdout=b"", stderr=stderr)
        monkeypatch.setattr(model_trial, "run_child", lambda *_, child=child: child)
        with pytest.raises(ModelDamagedError, match=f"{path} cannot be used: {said}"):
            try_model(path, RED)


def test_a_newer_format_keeps_its_hint(path):
    path.write_bytes(
        path.read_bytes().replace(b"format_version\x12\x011", b"format_version\x12\x019")
    )
    with pytest.raises(ModelVersionError) as raised:
        try_model(path, RED)
    assert raised.value.hint == UPGRADE_HINT


# In service


def test_an_update_that_never_ends_stops_no_later_one(path, notices, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cfl_edge.loop.file_watch.monotonic", clock)
    watched = WatchedModel(path, tried, notices.append)

    def look():
        for _ in range(4):
            clock.now_s += 1.1
            prediction = watched.predict_one(RED)
            if watched._loading is not None:
                watched._loading.join()
        return prediction.label

    replace(path, with_work("minutes"))
    assert look() == "red"
    (notice,) = notices
    assert f"{path} has changed, but cannot be used: " in notice
    assert "its trial did not end" in notice
    assert "keeping the previous model" in notice
    replace(path, model_bytes(["pen", "green"]))
    assert look() == "pen"
    assert (watched.swaps, watched.failures) == (1, 1)


@pytest.mark.usefixtures("in_new_processes")
def test_the_end_does_not_wait_for_a_trial(path, notices, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cfl_edge.loop.file_watch.monotonic", clock)
    watched = WatchedModel(path, tried, notices.append)
    replace(path, with_work("minutes"))
    while watched._loading is None:
        clock.now_s += 1.1
        watched.predict_one(RED)
    until(lambda: trial._children)
    watched.close()
    assert not watched._loading.is_alive()
    assert notices == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_first_model_is_tried(path, number):
    path.write_bytes(with_work("minutes"))
    with process(MAIN, "run", path, "--stream", "demo:") as running:
        try:
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            until(children.read_text)
            running.send_signal(number)
            _, err = running.communicate(timeout=30)  # its trial may take minutes
        finally:
            running.kill()
    assert (running.returncode, err) == (130, "run was interrupted\n")


def test_a_first_model_with_nan_is_refused(path, data):
    for content, words in (
        (model_bytes(["pen", "green"], scale=np.nan), "not all numbers (NaN)"),
        (model_bytes(["pen", "green"], scale=3e38), "scores that are not finite"),
    ):
        path.write_bytes(content)
        result = cfl_edge("run", path, "--stream", data)
        assert_error(result, 4, str(path), words)


# A file that is not there yet


@pytest.mark.parametrize("stream", ["camera", "demo:"])
def test_run_waits_for_the_file_of_a_publisher(path, stream):
    """As long as for a camera's frames; with a stream that ends only if told so."""
    content, other = path.read_bytes(), path.with_name("models.onnx")
    path.replace(other)
    with serve(Board()) as board, ExitStack() as stack:
        command = ["run", path, "--stream", board.url, "--max-frames", "5", "--json"]
        if stream == "demo:":
            command[3:4] = ["demo:", "--watch"]
        running = stack.enter_context(process(MAIN, *command))
        stack.callback(running.kill)
        first = json.loads(running.stdout.readline())
        assert first["event"] == "notice"
        assert f"{path} does not exist yet: waiting for learn --publish {path}" in first["text"]
        assert first["text"].endswith(f"if that is a typing error: {other} is there")
        path.write_bytes(content[:100])
        threading.Timer(0.5, replace, (path, content)).start()
        out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["frames"] >= 5


def test_a_missing_file_that_nobody_waits_for(path, data):
    missing, folder = path.with_name("modle.onnx"), path.with_name("out")
    path.with_name("another.onnx").write_bytes(b"")

    def refused(model, *options, stream=data):
        result = cfl_edge("run", model, "--stream", stream, *options)
        assert_error(result, 4, f"{model} does not exist")
        return result.err

    waits = "; with --watch it waits for learn --publish\n"
    for stream in (data, data / "above" / "0.png", "demo:?frames=5", "demo:"):
        assert f"try: {path}, which is there{waits}" in refused(missing, stream=stream)
    assert f"try: {path}, which is there{waits}" in refused(missing, "--no-watch", stream="0")
    deep = path.with_name("run") / "onnx" / "modle.onnx"  # no folder of it is there
    assert f"try: {path}, which is there{waits}" in refused(deep)
    path.with_name("another.onnx").unlink()
    assert f"try: {path}, which is there\n" in refused(folder)
    path.unlink()
    made = "cfl-edge learn --stream demo: --model demo writes demo/onnx/model.onnx"
    assert f"try: {made}{waits}" in refused(missing)


def test_a_part_of_an_export_says_which_file_is_whole(learned, data):
    part, whole = (learned / "onnx" / name for name in ("classifier.onnx", "model.onnx"))
    result = cfl_edge("run", part, "--stream", data)
    assert_error(result, 4, f"{part} reads features, not images")
    assert f"try: {whole}, the whole model\n" in result.err

"""`learn --publish`: the file of a model that goes on learning, and the service that follows it."""

import errno
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from command_line import MAIN, SMALL, assert_error, cfl_edge, process
from learn_settings import load_settings
from learner_checks import pictures

from cfl_edge.errors import ExportError, UsageError
from cfl_edge.learner.export import backbone_on_cpu, snapshot_learner
from cfl_edge.loop.learn import learn
from cfl_edge.loop.open_learner import load_learner
from cfl_edge.loop.publish import Publisher, check_publish, open_publisher, write_snapshot
from cfl_edge.model.store import Store
from cfl_edge.model.write_budget import WriteBudget
from cfl_edge.onnx.export import model_parts
from cfl_edge.onnx.inference import OnnxModel


@pytest.fixture
def learner(model):
    return load_learner(model, device="cpu")


@pytest.fixture
def publisher(learner, tmp_path, notices, clock):
    return Publisher(learner, tmp_path / "out/p.onnx", notices.append, clock=clock)


def snapshot(learner):
    return snapshot_learner(learner, backbone_on_cpu(learner), images=1)


def initializers(content):
    return [
        tensor.SerializeToString() for tensor in onnx.load_from_string(content).graph.initializer
    ]


def teach(learner, name, kind=0, count=4, seed=5):
    encoded = learner.encode(pictures(learner, kind, count, seed))
    learner.learn(encoded, [name] * count)


def wait(publisher):
    publisher._writing.join()
    publisher.after_frame()


def test_the_file_says_what_the_learner_says(learner, tmp_path):
    path = tmp_path / "deep/p.onnx"
    for step in range(3):  # the layers move, and a class comes
        with torch.no_grad():
            for weight in learner.network.parameters():
                weight.add_(0.05 * torch.randn(weight.shape))
        teach(learner, f"new {step}", kind=step % 2)
        write_snapshot(snapshot(learner), path)
        network = OnnxModel(path, threads=1)
        assert network.classes == learner.classes
        images = pictures(learner, 1, 6, seed=9)
        expected = learner.predict(learner.encode(images))
        np.testing.assert_allclose(
            network.scores(images), expected, atol=1e-4 * np.abs(expected).max()
        )
    assert [entry.name for entry in path.parent.iterdir()] == ["p.onnx"]


def test_a_snapshot_shares_nothing_with_the_learner(learner, tmp_path):
    taken = snapshot(learner)
    before = b"".join(model_parts(taken))
    with torch.no_grad():
        for weight in learner.network.parameters():
            weight.zero_()
        learner.algorithm.readout.zero_()
    assert initializers(b"".join(model_parts(taken))) == initializers(before)
    write_snapshot(taken, tmp_path / "p.onnx")


def test_what_torch_does_not_say_is_not_published(learner, tmp_path):
    path = tmp_path / "p.onnx"
    path.write_bytes(b"old")
    taken = snapshot(learner)
    with torch.no_grad():
        for weight in taken.extractor.network.parameters():
            weight *= 2
    with pytest.raises(ExportError, match="disagree"):
        write_snapshot(taken, path)
    assert path.read_bytes() == b"old"


def test_a_new_class_at_once_and_the_rest_now_and_then(learner, publisher, clock, tmp_path):
    path = tmp_path / "out/p.onnx"
    publisher.after_frame()
    wait(publisher)
    assert publisher.published == 1  # what it is at the start
    for _ in range(100):  # nothing is learned: nothing to publish
        clock.now_s += 60
        publisher.after_frame()
    assert publisher._writing is None
    teach(learner, "above")
    publisher.after_frame()
    wait(publisher)
    assert publisher.published == 2
    teach(learner, "above", seed=6)
    clock.now_s += 59
    publisher.after_frame()
    assert publisher._writing is None
    teach(learner, "mug", seed=7)
    publisher.after_frame()
    wait(publisher)
    assert publisher.published == 3
    assert OnnxModel(path).classes[-1] == "mug"
    publisher.finish()
    assert publisher.published == 3
    teach(learner, "mug", seed=8)
    publisher.finish()
    assert publisher.published == 4


def test_a_full_disk_is_told_once_and_learning_goes_on(
    learner, publisher, clock, notices, monkeypatch
):
    def full(path, parts, *, written):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cfl_edge.model.replacing.write_file", full)
        publisher.after_frame()
        wait(publisher)
        (notice,) = notices
        assert "the disk is full" in notice
        assert notice.endswith("learning goes on, next try in 60 s")
        teach(learner, "mug")
        publisher.after_frame()
        assert publisher._writing is None  # not at each frame
        for _ in range(3):
            clock.now_s += 61
            publisher.after_frame()
            wait(publisher)
    assert (publisher.published, len(notices)) == (0, 1)
    clock.now_s += 61
    publisher.after_frame()
    wait(publisher)
    assert publisher.published == 1
    assert notices[1].startswith("published ")


def test_what_cannot_begin_is_told_once_and_learning_goes_on(
    learner, publisher, clock, notices, monkeypatch
):
    def no_thread(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(6):
            publisher.after_frame()
            clock.now_s += 31
        (notice,) = notices
        assert notice.endswith('start new thread"); learning goes on, next try in 60 s')
        failed = publisher.finish()
        assert failed.problem.endswith('start new thread"); the model itself is saved')
    assert publisher.finish() is None
    assert publisher.published == 1


def test_a_last_file_that_fails_is_told_though_others_failed_before(
    learner, publisher, notices, monkeypatch
):
    def full(path, parts, *, written):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cfl_edge.model.replacing.write_file", full)
    publisher._begin()
    failed = publisher.finish()
    (notice,) = notices
    assert notice.endswith("Nothing was replaced; trying once more")
    assert "the disk is full" in failed.problem
    assert failed.problem.endswith("Nothing was replaced; the model itself is saved")
    assert failed.hint.endswith(f"; then learn again with --publish {publisher._path}")
    monkeypatch.setattr("cfl_edge.loop.publish.write_snapshot", lambda *_, **__: 1 / 0)
    assert "failed: ZeroDivisionError(" in publisher.finish().problem
    monkeypatch.undo()
    assert publisher.finish() is None
    assert [text.partition(" ")[0] for text in notices] == ["--publish", "published"]


def test_it_keeps_to_its_bytes_but_for_the_last_file(learner, publisher, clock, notices, tmp_path):
    publisher.budget = WriteBudget(100.0, "--publish p", "--write-x 1", notices.append, clock=clock)
    sizes = []
    for number in range(3):
        teach(learner, f"class {number}")
        clock.now_s += 3600.0
        publisher.after_frame()
        if publisher._writing is not None:
            wait(publisher)
            sizes.append((tmp_path / "out/p.onnx").stat().st_size)
    assert len(sizes) == publisher.published == 1  # it is larger than a day's bytes
    assert publisher.written == sizes[0]
    (told,) = [text for text in notices if text.startswith("--publish p writes ")]
    assert f"writes {sizes[0] / 1e6:.1f} MB: --write-x 1 allows one every " in told
    publisher.finish()
    assert publisher.published == 2
    assert publisher.written == sizes[0] + (tmp_path / "out/p.onnx").stat().st_size


def test_frames_do_not_wait_for_a_publication(publisher, monkeypatch, learner):
    frames_are_over, begun = threading.Event(), threading.Event()

    def write(*_, **__):
        begun.set()
        assert frames_are_over.wait(60)

    monkeypatch.setattr("cfl_edge.loop.publish.write_snapshot", write)
    for _ in range(1000):
        publisher.after_frame()
    assert begun.wait(20)
    publisher.after_frame()
    frames_are_over.set()
    publisher.finish()
    assert publisher.published == 1


# The command


@pytest.mark.parametrize(
    ("path", "memory_mib", "problem"),
    [("p.txt", None, "ends in .onnx"), ("p", None, "ends in"), ("p.onnx", 50.0, "--memory-mib 50")],
)
def test_refused_at_the_start(tmp_path, path, memory_mib, problem):
    with pytest.raises(UsageError, match=problem):
        check_publish(tmp_path / path, memory_mib)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UsageError, match="expected a file"):
        check_publish(tmp_path / "folder.onnx", None)


def test_what_cannot_be_replaced_is_refused_at_the_start(tmp_path):
    fifo, loop, device = (tmp_path / name for name in ("f.onnx", "loop.onnx", "device.onnx"))
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    device.symlink_to("/dev/null")
    (tmp_path / "file").touch()
    to_fifo = tmp_path / "to_fifo.onnx"
    to_fifo.symlink_to(fifo)
    for path, kind in (
        (fifo, "is a FIFO"),
        (to_fifo, "is a FIFO"),
        (loop, "is a link to itself"),
        (device, "is a device"),
        (tmp_path / "file/deeper/p.onnx", f"but {tmp_path / 'file'} is a file, expected a folder"),
    ):
        with pytest.raises(UsageError, match=kind) as raised:
            check_publish(path, None)
        check_publish(Path(raised.value.hint.split()[1]), None)  # what it proposes
    check_publish(tmp_path / "new/deep/p.onnx", None)


def test_a_link_stays_and_its_file_keeps_the_mode(learner, tmp_path):
    real = tmp_path / "real/v1.onnx"
    real.parent.mkdir()
    real.touch(mode=0o600)
    link = tmp_path / "p.onnx"
    link.symlink_to("real/v1.onnx")
    check_publish(link, None)
    write_snapshot(snapshot(learner), link)
    assert os.readlink(link) == "real/v1.onnx"
    assert OnnxModel(real).classes == learner.classes
    assert real.stat().st_mode & 0o777 == 0o600
    assert (os.listdir(real.parent), sorted(os.listdir(tmp_path))) == (
        ["v1.onnx"],
        ["model", "p.onnx", "real"],
    )


def test_leftovers_of_a_killed_publisher_go_at_the_start(learner, tmp_path, notices):
    for name in (f".writing-{2**40}-p.onnx", ".writing-1-of-somebody"):
        (tmp_path / name).mkdir()
    settings = SimpleNamespace(publish=tmp_path / "p.onnx", publish_seconds=60.0)
    open_publisher(learner, settings, notices.append)
    left = [name for name in os.listdir(tmp_path) if name.startswith(".writing")]
    assert left == [".writing-1-of-somebody"]  # process 1 lives


def test_an_algorithm_without_label_embeddings(data, tmp_path):
    result = cfl_edge(
        *("learn", "--stream", data, "--labels-from", "dirs", "--model", tmp_path / "m"),
        *(
            "--publish",
            tmp_path / "p.onnx",
            "--learner",
            "knn",
            "--backbone",
            "none",
            "--image",
            "16",
        ),
    )
    assert_error(result, 2, "--publish with --learner knn")


def test_learner_and_service_are_two_processes(model, tmp_path):
    """The service sees a class that is new at the learner, and loses no frame to it."""
    path = tmp_path / "shared/p.onnx"
    path.parent.mkdir()
    path.write_bytes((model / "onnx/model.onnx").read_bytes())
    stream = ("--stream", "demo:?frames=100000", "--realtime", "20", "--json")
    service = process(MAIN, "run", path, *stream, "--threads", "1")
    events = []
    try:
        for line in service.stdout:  # it has begun
            events.append(json.loads(line))
            if events[-1]["event"] == "frame":
                break
        learned = cfl_edge(
            *("learn", *stream, "--max-frames", "10", "--model", model, "--publish", path),
            *("--no-export", *SMALL),
        )
        assert learned.code == 0, learned.err
        assert learned.summary["published"] >= 2
        for line in service.stdout:
            events.append(json.loads(line))
            if "now in service" in events[-1].get("text", "") and "mug" in events[-1]["text"]:
                service.terminate()
        code = service.wait(30)
        errors = service.stderr.read()
    finally:
        service.kill()
        service.wait()
        service.stdout.close()
        service.stderr.close()
    assert (code, errors) == (0, "")
    notices = [event["text"] for event in events if event["event"] == "notice"]
    assert any("now in service" in text and "mug" in text for text in notices), notices
    summary = events[-1]
    assert summary["event"] == "summary"
    assert summary["model_swaps"] >= 1
    assert summary["model_failures"] == 0
    shown = [event for event in events if event["event"] == "frame"]
    assert len(shown) == summary["seen"]


@pytest.mark.parametrize("publish", [None, "pets.onnx"])
def test_what_is_published_has_a_model_that_is_saved(publish, tmp_path):
    """A power cut would leave a file beside no model, in a folder that learn then refuses."""
    model, there = tmp_path / "m", []
    asked = load_settings(
        stream="demo:?frames=6",
        model=model,
        backbone="none",
        layers="8",
        image=16,
        checkpoint_s=1e6,
        export=False,
        publish=publish and model / publish,
    )
    learn(asked, on_step=lambda step: there.append(Store(model).exists()))
    assert any(there) == (publish is not None)
    assert not publish or (model / publish).exists()

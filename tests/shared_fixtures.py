"""Fixtures that several test files share."""

import errno
import os
import shutil
import stat
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from browser_page import chromium
from clock import Clock
from command_line import SMALL, cfl_edge, write_images
from fleet_boards import board, config
from frigate_server import Frigate, serving
from lessons import Lesson
from mosquitto import Mosquitto, free_port, require_mosquitto
from page_session import CountingSession
from PIL import Image
from served_status import serve
from trials import Trials
from verb_room import Room
from zone_scenes import TWO, scene, teach, truth

from cfl_edge.core import networks
from cfl_edge.doctor import providers  # noqa: F401 - its `run_child` is not the one below
from cfl_edge.lab.learners.offered import rivals
from cfl_edge.loop import learning, open_learner
from cfl_edge.model import replacing
from cfl_edge.model.store import Store
from cfl_edge.onnx import model_trial, trial
from cfl_edge.serve.http_status import Metrics
from cfl_edge.serve.status import Status


@pytest.fixture(scope="session", autouse=True)
def _trials_once():
    """The same bytes are tried on the same images once, in a process that is forked."""
    trials, succeeded = Trials(), {}

    def once(module, words, request):
        files = [sha256(Path(word).read_bytes()).digest() for word in words if Path(word).is_file()]
        names = [word for word in words if not Path(word).is_file()]
        key = (module, *files, *names, request)
        child = succeeded.get(key) or trials.run(module, words, request)
        if child.returncode == 0:
            succeeded[key] = child
        return child

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "run_child", once)
        patch.setattr(model_trial, "run_child", once)
        yield
    trials.end()


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_a_disk():
    """Files of tests need not outlive a power cut; that those of a model do is `test_vm_power`'s.

    A bad descriptor is still an error.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session", autouse=True)
def _code_stays_resident():
    """What a command takes out of memory, the next test would take 0.2 s to read again."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (learning, open_learner):
            patch.setattr(module, "drop_idle_code", lambda: None)
        yield


@pytest.fixture
def lesser_file_system(monkeypatch):
    """What a share or a FAT disk refuses: links, modes, owners, exchange, fsync on a folder."""

    def refuse(*_args, **_keywords):
        raise OSError(errno.EPERM, "Operation not permitted")

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    for call in ("link", "chmod", "chown"):
        monkeypatch.setattr(os, call, refuse)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(replacing, "_rename", lambda *_: False)


@pytest.fixture
def small_disk(request, tmp_path):
    """A disk of 1 MiB, or of more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={getattr(request, 'param', 1)}m"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("cli") / "data")


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


@pytest.fixture
def offered():
    """The learners of `bench streams` alone can be built, as there."""
    with rivals():
        yield


@pytest.fixture
def narrow_networks(monkeypatch):
    """Networks of the papers with fewer channels: the same layers in a tenth of the time."""
    convs = {"conv256": ((16, 1, 0), (64, 2, 1)), "conv512": ((16, 1, 0), (64, 2, 1), (128, 2, 1))}
    fcs = {"fc": (384, 24, 0.0), "fc-mnist": (256, 8, 0.0), "fc-cifar100": (384, 12, 0.3)}
    monkeypatch.setattr(networks, "PAPER_CONVS", convs)
    monkeypatch.setattr(networks, "PAPER_FCS", fcs)
    vgg = ((16, 1), (32, 1), (32, 2), (64, 1), (64, 2), (64, 2))
    monkeypatch.setattr(networks, "VGG8B", vgg)


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path, notices) -> Store:
    return Store(tmp_path / "deep" / "model", on_notice=notices.append)


@pytest.fixture
def broker(tmp_path):
    """A real MQTT broker that listens on loopback."""
    require_mosquitto()
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def frigate():
    """A Frigate that nobody serves yet."""
    return Frigate()


@pytest.fixture
def port(frigate):
    """Where that Frigate is served."""
    port = free_port()
    with serving(frigate, port):
        yield port


@pytest.fixture
def status(clock, monkeypatch):
    """What `run --http` tells, by a clock that stands still."""
    monkeypatch.setattr("cfl_edge.serve.status.monotonic", clock)
    return Status()


@pytest.fixture
def metrics(status):
    return Metrics(status, lambda: 3)


@pytest.fixture
def server(status, metrics):
    """Both, served on loopback."""
    with serve(status, metrics) as server:
        yield server


@pytest.fixture
def room(tmp_path):
    """A session on a script."""
    return Room(tmp_path / "model")


@pytest.fixture
def shared(tmp_path):
    """The folder that boards of a fleet share."""
    place = tmp_path / "shared"
    place.mkdir()
    return place


@pytest.fixture
def hall(tmp_path):
    """A board that learned two kinds."""
    return board(tmp_path / "hall", {0: 20, 1: 8})


@pytest.fixture
def kitchen(tmp_path):
    """A board that learned one of them, and another."""
    return board(tmp_path / "kitchen", {1: 12, 2: 15})


@pytest.fixture
def two(hall, kitchen):
    """Both."""
    return hall, kitchen


@pytest.fixture
def boards(hall, kitchen, tmp_path):
    """These, and a third whose layers were drawn anew."""
    return [hall, kitchen, board(tmp_path / "foreign", {0: 5}, setup=config(seed=3))]


@pytest.fixture(params=["unused", "in use"])
def how(request):
    """Whether a session learns on the model."""
    return request.param


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A model to be taught frame by frame."""
    return Lesson(tmp_path / "model", monkeypatch)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Pictures of two zones, in each of which something changes."""
    folder = tmp_path_factory.mktemp("scenes")
    for i in range(24):
        Image.fromarray(scene(**truth(i), seed=i)).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def taught(stream, tmp_path_factory):
    """A folder with a file of zones, and the models that were taught; not to be changed."""
    folder = tmp_path_factory.mktemp("taught")
    (folder / "zones.toml").write_text(TWO)
    teach(stream, folder / "zones.toml", folder / "model")
    return folder


@pytest.fixture
def zones(tmp_path):
    """A file for `--zones` with two zones."""
    (tmp_path / "zones.toml").write_text(TWO)
    return tmp_path / "zones.toml"


@pytest.fixture
def session(request, tmp_path):
    """A session that a page can talk to, and that has nothing to complain of."""
    fps = 20 if "browser" in request.fixturenames else 50  # a browser draws each
    with CountingSession(tmp_path, fps=fps) as session:
        yield session
    assert all(notice.startswith("imported: ") for notice in session.notices)


@pytest.fixture(scope="module")
def browser():
    """Chromium, for the tests with the mark `browser`."""
    with chromium() as browser:
        yield browser

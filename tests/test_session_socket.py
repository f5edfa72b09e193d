"""Commands on a model whose session runs: they reach it, with the same words as on its folder."""

import contextlib
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import MAIN, assert_error, cfl_edge, process
from lessons import Lesson, alternating
from page_session import until
from verb_room import png

from cfl_edge.errors import SessionError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.live import LiveModel
from cfl_edge.loop import session_socket
from cfl_edge.loop.ask import ask, connect
from cfl_edge.loop.checkpoints import Checkpoints
from cfl_edge.loop.label_delay import open_ring
from cfl_edge.loop.mailbox import Mailbox
from cfl_edge.loop.running import Running
from cfl_edge.loop.session import Predicting, Session
from cfl_edge.loop.session_socket import MOST_CLIENTS, REQUEST_BYTES, SessionSocket
from cfl_edge.loop.teaching import Teaching
from cfl_edge.loop.verb_arguments import MOST_PICTURE
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store
from cfl_edge.stream.finder import MAX_BYTES


class Served:
    """A session that has no frames: it holds the lock and serves verbs in its own thread."""

    def __init__(self, folder, learner):
        store = Store(folder, on_notice=pytest.fail)
        labels = FrameLabels.none()
        teaching = Teaching(
            learner, labels, open_ring(labels), learn_flagged=True, on_notice=pytest.fail
        )
        checkpoints = Checkpoints(lambda: None, learner)
        running = Running(learner, teaching, checkpoints, Session(Predicting(learner)))
        model = LiveModel(store, learner, checkpoints.save, [].append)
        self.verbs = Verbs(model, running, on_notice=[].append)
        self.folder, self.notices = folder, []
        self.mailbox, self._ended = Mailbox(), threading.Event()

    def _serve(self):
        while not self._ended.wait(0.01):
            self.mailbox.serve(self.verbs.do)

    def __enter__(self):
        self._lock = ModelLock(self.folder).__enter__()
        self._socket = SessionSocket(self.folder, self.mailbox.submit, self.notices.append)
        self._socket.__enter__()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self.mailbox.close()
        self._socket.__exit__()
        self._lock.__exit__()


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Lesson(Path("model"), monkeypatch)


@pytest.fixture(params=["unused", "in use"])
def taught(request, lesson):
    """The folder of a model, in use or not."""
    learner = lesson.run(alternating(12) + ["over"] * 4)
    if request.param == "unused":
        yield lesson.folder
        return
    with Served(lesson.folder, learner) as served:
        yield lesson.folder
        assert served.notices == []


@pytest.fixture
def served(lesson):
    with Served(lesson.folder, lesson.run(alternating(8))) as served:
        yield served


def test_undo(taught):
    is_used = (taught / "session.sock").exists()  # then its seconds end now, 4 s after that frame
    result = cfl_edge("undo", taught, "--hold")
    assert result.code == 0, result.err
    goes_on = [] if is_used else ["next       cfl-edge teach --model model --stream demo:"]
    assert result.out.splitlines() == [
        "undone     4 frames, 4 s: over 4",
        "gone       over: no frames left",
        "classes    above 6, left 6",
        "model      model, 12 frames learned; 12 more can be undone",
        *goes_on,
    ]
    again = cfl_edge("undo", taught, "--seconds", 7 if is_used else 3, "--json").summary
    assert again == {
        "frames_taken_back": 4,
        "seconds_taken_back": 4.0,
        "per_class": {"above": 2, "left": 2},
        "classes_gone": [],
        "frames_learned": 8,
        "classes": ["above", "left"],
        "samples": {"above": 4, "left": 4},
        "frames_left": 8,
        "exported": None,
    }
    assert_error(cfl_edge("undo", taught, "--frames", 99), 4, "the journal reaches back 8 frames")
    assert_error(cfl_edge("undo", taught), 2, "none of --seconds, --frames and --hold")


def test_classes(taught):
    counts = {"above": 6, "left": 6, "over": 4}
    assert cfl_edge("classes", "list", taught, "--json").summary["classes"] == counts
    renamed = cfl_edge("classes", "rename", taught, "over", "lid")
    assert [line.split() for line in renamed.out.splitlines()[1:]] == [
        ["6", "6", "above"],
        ["6", "6", "left"],
        ["4", "4", "lid"],
    ]
    assert cfl_edge("classes", "add", taught, "fox").code == 0
    merged = cfl_edge("classes", "merge", taught, "above", "lid", "--into", "lit", "--json")
    assert merged.summary["classes"] == {"lit": 10, "left": 6, "fox": 0}
    split = cfl_edge("classes", "split", taught, "lit", "--into", "lamp", "--frames", 4)
    assert split.out.splitlines()[0] == "split off  4 frames learned again as lamp; lit has 6 left"
    removed = cfl_edge("classes", "remove", taught, "lamp", "--json")
    assert "lamp" not in removed.summary["classes"]
    assert [text.split(":")[0] for text in removed.notices] == [
        "removing 'lamp' ends what cfl-edge undo can take back",
        "gone",
        "stays",
    ]
    assert_error(cfl_edge("classes", "remove", taught, "lamp"), 4, "no class 'lamp'")
    assert_error(cfl_edge("classes", "add", taught, " "), 2, "is empty")


def test_export(taught):
    result = cfl_edge("export", taught, "-o", "out")
    assert result.out.splitlines()[:3] == [
        "model      out/model.onnx",
        "classifier out/classifier.onnx",
        "labels     out/labels.txt",
    ]
    assert Path("out/labels.txt").read_text() == "above\nleft\nover\n"
    fields = cfl_edge("export", taught, "--json").summary
    assert fields["model"] == "model/onnx/model.onnx"
    assert fields.keys() == {"model", "classifier", "labels", "max_difference", "seconds"}
    renamed = cfl_edge("classes", "rename", taught, "over", "lid", "--onnx", "out", "--json")
    assert renamed.code == 0
    assert Path("out/labels.txt").read_text() == "above\nleft\nlid\n"
    assert "onnx" in cfl_edge("undo", taught, "--frames", 1, "--json").summary["exported"]
    stale = cfl_edge("classes", "add", taught, "fox", "--json").notices
    assert stale[0].startswith("model/onnx still has the classes of before")


def test_words_name_the_folder_as_the_command_does(served, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = cfl_edge("undo", "../model", "--frames", 99)
    assert_error(result, 4, "../model: 99 frames cannot be undone")
    assert "cfl-edge undo ../model --frames 8" in result.err


def test_only_the_user_may_connect_and_nothing_is_left(lesson):
    learner = lesson.run(alternating(4))
    path = lesson.folder / "session.sock"
    with Served(lesson.folder, learner):
        status = os.lstat(path)
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
        Store(lesson.folder, on_notice=pytest.fail).require_usable()
    assert not path.exists()
    assert connect(lesson.folder) is None


def test_a_long_path_is_no_obstacle(lesson, tmp_path):
    learner = lesson.run(alternating(4))
    folder = tmp_path / ("long" * 40) / "model"
    folder.parent.mkdir()
    os.rename(lesson.folder, folder)
    with Served(folder, learner) as served:
        assert ask(folder, "status", {}, pytest.fail)["model"] == str(folder)
    assert served.notices == []
    assert not (folder / "session.sock").exists()


def test_a_new_folder_with_a_socket_alone_is_usable(tmp_path):
    """A run that was killed before it saved anything."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "session.sock"))
    left.close()
    Store(tmp_path, on_notice=pytest.fail).require_usable()
    assert connect(tmp_path) is None


@pytest.mark.parametrize("kind", ["file", "full disk"])
def test_where_there_can_be_no_socket_a_notice_says_so(lesson, kind, monkeypatch):
    learner, notices = lesson.run(alternating(4)), []
    if kind == "file":
        (lesson.folder / "session.sock").write_text("mine")
    else:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(session_socket.os, "chmod", full)
    with SessionSocket(lesson.folder, Mailbox().submit, notices.append):
        assert connect(lesson.folder) is None
    assert len(notices) == 1
    assert "cannot reach this session" in notices[0]
    if kind == "file":
        assert (lesson.folder / "session.sock").read_text() == "mine"
    assert learner.classes == ["above", "left"]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"verb": "undo", "more": 1}\n',
        b'{"verb": 3, "arguments": {}}\n',
        b'{"verb": "undo", "arguments": []}\n',
        b'{"verb": "fly", "arguments": {}}\n',
        b'{"verb": "add", "arguments": {"name": "\\ud800"}}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"x" * (REQUEST_BYTES + 9) + b"\n",
    ],
    ids=range(11),
)
def test_what_is_no_request_is_refused_and_the_next_is_served(served, line):
    with connect(served.folder) as connection:
        connection.sendall(line)
        answer = json.loads(session_socket.read_line(connection, 1 << 20))
        assert answer["error"]["kind"] == "UsageError"
        assert answer["error"]["hint"]
    assert ask(served.folder, "add", {"name": "fox"}, pytest.fail)["classes"]["fox"] == 0


def test_a_verb_without_arguments_needs_none(served):
    with connect(served.folder) as connection:
        connection.sendall(b'{"verb": "status"}\n')
        answer = json.loads(session_socket.read_line(connection, 1 << 20))
    assert answer["answer"]["learned"] == 8


def test_a_picture_may_be_as_large_as_one_of_a_stream(served):
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    picture = png(noise)
    assert 3 << 20 < len(picture) < MOST_PICTURE
    answer = ask(
        served.folder, "label_picture", {"label": "noise", "picture": picture}, pytest.fail
    )
    assert answer["learned"] is True
    assert MOST_PICTURE * 3 // 4 >= MAX_BYTES  # of files and streams


def test_several_requests_on_one_connection(served):
    with connect(served.folder) as connection:
        for name in ("fox", "owl"):
            session_socket.send_line(connection, {"verb": "add", "arguments": {"name": name}})
            words = json.loads(session_socket.read_line(connection, 1 << 20))
            assert words["answer"]["said"] == f"added {name}"


def test_slow_and_many_clients_cost_themselves_only(served, monkeypatch):
    monkeypatch.setattr(session_socket, "CLIENT_S", 1.0)
    idle = [connect(served.folder) for _ in range(MOST_CLIENTS)]
    idle[0].sendall(b'{"verb": ')
    with connect(served.folder) as refused:
        assert refused.recv(1) == b""

    def is_served():
        with contextlib.suppress(SessionError):
            return ask(served.folder, "status", {}, pytest.fail)

    until(is_served)  # the idle ones are hung up on
    for connection in idle:
        connection.close()


@pytest.mark.parametrize("lacking", ["files", "threads"])
def test_a_client_that_cannot_be_taken_ends_nothing(served, lacking, monkeypatch):
    tries, start = [], threading.Thread.start

    def starts(thread):
        if thread.name == "session client":
            tries.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    def accepts(listening):
        tries.append(listening)
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as lack:
        if lacking == "threads":
            lack.setattr(threading.Thread, "start", starts)
            for _ in range(MOST_CLIENTS + 1):  # each gives its place back
                with pytest.raises(SessionError, match="without an answer"):
                    ask(served.folder, "status", {}, pytest.fail)
        else:
            lack.setattr(socket.socket, "accept", accepts)
            connect(served.folder).close()  # wakes the thread that accepts
            until(lambda: tries)
            time.sleep(0.5)
    assert 1 <= len(tries) <= MOST_CLIENTS + 1  # it does not try as fast as it can
    assert ask(served.folder, "status", {}, pytest.fail)["learned"] == 8


def test_a_client_that_hangs_up_does_not_stop_its_verb(served):
    with connect(served.folder) as connection:
        session_socket.send_line(connection, {"verb": "add", "arguments": {"name": "fox"}})
    until(lambda: "fox" in ask(served.folder, "classes", {}, pytest.fail)["classes"])


LEARN = ("learn", "--stream", "demo:?frames=100000", "--realtime", "20", "--backbone", "none")


def learning(folder):
    """Start a run of `learn`, and wait until it learns."""
    options = ("--layers", "4,8", "--image", "16", "--model", folder, "--no-export", "--json")
    run = process(MAIN, *LEARN, *options)
    for line in run.stdout:
        if json.loads(line).get("learned_frames", 0) > 5:
            return run
    raise AssertionError(run.stderr.read())


def test_a_run_of_learn_is_reached_killed_and_started_again(tmp_path):
    folder = tmp_path / "model"
    with learning(folder) as run:
        threading.Thread(target=run.stdout.read, daemon=True).start()
        before = ask(folder, "status", {}, sys.exit)
        assert before["learned"] > 5
        name = before["classes"][0]["name"]
        assert cfl_edge("classes", "rename", folder, name, "thing").code == 0
        undone = cfl_edge("undo", folder, "--frames", 2, "--json").summary
        assert undone["frames_taken_back"] == 2
        assert "thing" in cfl_edge("classes", "list", folder, "--json").summary["classes"]
        assert_error(cfl_edge("learn", "--stream", "demo:", "--model", folder), 4, "is in use")
        run.kill()
    assert (folder / "session.sock").exists()
    assert "thing" in cfl_edge("classes", "list", folder, "--json").summary["classes"]
    assert cfl_edge("classes", "rename", folder, "thing", name).code == 0
    with learning(folder) as again:
        assert ask(folder, "pause", {}, sys.exit)["paused"] is True
        assert ask(folder, "save", {}, sys.exit)["model"] == str(folder)
        again.send_signal(signal.SIGINT)
        again.communicate()
    assert again.returncode == 0
    assert not (folder / "session.sock").exists()

"""Boards that share through Flower: what a round says and writes, and a real one on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import assert_error, cfl_edge
from fleet_boards import KINDS, board, config, pictures

from cfl_edge.errors import DataError, ModelDamagedError, SessionError
from cfl_edge.fleet import flower, flower_run
from cfl_edge.fleet.contribution import KEY, SUMMED, contribution
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.fleet import Fleet, Joined
from cfl_edge.model.store import Store

COMMAND = [sys.executable, "-m", "cfl_edge", "fleet"]


def reported(model):
    return contribution(Store(model).load(), model.name, model.name)


def others(model):
    return Store(model / "fleet" / "others", on_notice=pytest.fail).load()


@pytest.fixture
def shared(tmp_path, monkeypatch):
    place = tmp_path / "shared"
    place.mkdir()
    monkeypatch.setenv(flower.FOLDER, str(place))
    return place


@pytest.fixture
def boards(tmp_path):
    return [
        board(tmp_path / "hall", {0: 20, 1: 8}),
        board(tmp_path / "kitchen", {1: 12, 2: 15}),
        board(tmp_path / "foreign", {0: 5}, setup=config(seed=3)),
    ]


def test_a_report_is_the_same_after_the_wire(boards):
    found = reported(boards[0])
    back = flower.from_bytes(flower.to_bytes(found), "hall")
    assert back.manifest == found.manifest
    for name, array in found.tensors["state"].items():
        assert np.array_equal(back.tensors["state"][name], array), name


CUTS = {
    "no manifest": lambda words: words.pop("manifest"),
    "no JSON": lambda words: words.update(manifest=b"{"),
    "a list": lambda words: words.update(manifest=b"[]"),
    "too deep": lambda words: words.update(manifest=b"[" * 100_000),
    "five million bytes": lambda words: words.update(manifest=b" " * 5_000_000),
    "half the numbers": lambda words: words.update(tensors=words["tensors"][:200]),
    "another's tensors": lambda words: words.update(tensors=b"\x08\0\0\0\0\0\0\0{}      "),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_is_no_report_is_refused(cut, boards):
    words = flower.to_bytes(reported(boards[0]))
    cut(words)
    with pytest.raises((DataError, ModelDamagedError), match="hall"):
        flower.from_bytes(words, "hall")


def test_without_flower_the_commands_say_what_to_install(shared, boards, monkeypatch):
    monkeypatch.setattr(flower_run, "program", lambda name: _missing(name))
    for words in (
        ("server", shared),
        ("join", "127.0.0.1:1", "--model", boards[0], "--board", "hall"),
        ("round", "127.0.0.1:1"),
    ):
        assert_error(cfl_edge("fleet", *words), 2, "it comes with Flower")


def _missing(name, real=flower_run.program):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        patch.setenv("PATH", "/nowhere")
        return real(name)


def test_what_flower_would_meet_with_a_traceback_is_refused_before(shared, boards, tmp_path):
    assert_error(cfl_edge("fleet", "server", tmp_path / "none"), 2, "does not exist")
    server = cfl_edge("fleet", "server", shared, "--cert", tmp_path / "none.pem")
    assert_error(server, 2, "none.pem is no file")
    (tmp_path / "cert.pem").write_text("")
    alone = cfl_edge("fleet", "server", shared, "--cert", tmp_path / "cert.pem")
    assert_error(alone, 2, "no file was given")
    join = ("join", "127.0.0.1:1", "--model", boards[0])
    assert_error(cfl_edge("fleet", *join, "--board", "a b"), 2, "cannot be the name of a board")
    assert_error(cfl_edge("fleet", *join, "--ca", tmp_path / "no.crt"), 2, "no.crt is no file")


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(60)
"""


def test_programs_that_outlive_a_signal_are_ended_with_what_they_started(tmp_path):
    """As a SuperNode does, which also leaves children."""
    mark = tmp_path / "started"
    code = (
        "import sys; from cfl_edge.fleet import flower_run; flower_run.END_S = 0.5; "
        f"sys.exit(flower_run.run_group([sys.executable, '-c', {STUBBORN!r}, {str(mark)!r}], {{}}))"
    )
    ours = subprocess.Popen([sys.executable, "-c", code])
    end_s = time.monotonic() + 30
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    group = int(mark.read_text())
    ours.send_signal(signal.SIGTERM)
    assert ours.wait(30) == 0
    while _lives(group):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_program_that_fails_by_itself_is_named_with_its_exit_code():
    words = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(SessionError, match="of Flower ended with exit code 3"):
        flower_run.run_group(words, {})


def _lives(group):
    """Return whether a process group has a member that is no zombie."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, _, leader = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(leader) == group and state != "Z":
                return True
    return False


def message(words, **where):
    """Stand in for a message of Flower; its content may be anything, None for none of ours."""
    node = where["to"].metadata.dst_node_id if "to" in where else where["node"]
    metadata = SimpleNamespace(
        dst_node_id=node, src_node_id=node, message_type=where.get("kind", "reply")
    )
    content = {} if words is None else {flower.RECORD: words}
    return SimpleNamespace(content=content, metadata=metadata, has_error=lambda: False)


class Boards:
    """A grid of Flower whose boards answer in this process."""

    def __init__(self, models, silent=(), hostile=None):
        self.models, self.silent, self.hostile = models, silent, hostile or {}

    def get_node_ids(self):
        return list(range(len(self.models)))

    def send_and_receive(self, messages, *, timeout):
        for sent in messages:
            node = sent.metadata.dst_node_id
            if node not in self.silent:
                model = self.models[node]
                where = {"model": str(model), "board": model.name}
                answer = {flower.REPORT: flower.report, flower.TAKE: flower.take}
                do = answer[sent.metadata.message_type]
                answered = do(sent, SimpleNamespace(node_config=where))
                if node in self.hostile:
                    words = self.hostile[node](answered.content[flower.RECORD])
                    answered = message(words, to=sent)
                yield answered


@pytest.fixture
def played(shared, capsys, monkeypatch):
    monkeypatch.setattr(flower, "_message", message)

    def play(grid):
        flower.serve(grid, SimpleNamespace(run_config={"answer-s": 5.0}))
        (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith(flower.RESULT)]
        return json.loads(line.removeprefix(flower.RESULT))

    return play


def test_a_round_brings_each_board_what_the_others_have(boards, shared, played):
    hall, kitchen, foreign = boards
    grid = Boards(boards)
    first = played(grid)
    assert (first["boards"], first["took"]) == (["foreign", "hall", "kitchen"],) * 2
    assert first["nodes"] == 3
    assert "drawn layers" in first["problems"]["foreign for hall"]
    assert others(hall).manifest[KEY][SUMMED] == {"kitchen": 1}
    assert others(kitchen).manifest["classes"] == KINDS[:2]
    assert not (foreign / "fleet" / "others").exists()

    again = played(Boards(boards))
    assert again["received_bytes"] == 0  # what the server has is not sent again
    board(kitchen, {4: 6})
    newer = played(Boards(boards))
    assert 0 < newer["received_bytes"] < first["received_bytes"]
    assert KINDS[4] in others(hall).manifest["classes"]
    assert cfl_edge("merge", *sorted(shared.glob("[hk]*")), "-o", shared.parent / "all").code == 0


def test_a_board_that_is_silent_is_named_and_its_last_report_counts(boards, shared, played):
    hall, kitchen, _ = boards
    played(Boards(boards[:2]))
    board(hall, {5: 3})
    silent = played(Boards(boards[:2], silent=[1]))
    assert silent["boards"] == silent["took"] == ["hall"]
    assert silent["problems"] == {"kitchen": "no answer within 5 s"}
    assert others(hall).manifest[KEY][SUMMED] == {"kitchen": 1}
    played(Boards(boards[:2]))
    assert KINDS[5] in others(kitchen).manifest["classes"]


ANSWERS = {
    "nothing of ours": lambda _: None,
    "no name": lambda _: {"problem": "I am nobody"},
    "a name that is a path": lambda words: words | {"board": "../../etc"},
    "a name that is a number": lambda words: words | {"board": 7},
    "a problem in bytes": lambda words: words | {"problem": b"\xff"},
    "a problem without end": lambda words: words | {"problem": "no " * 10**6},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_board_that_answers_what_none_answers_is_named_and_the_others_share(
    answer, boards, shared, played
):
    hall, kitchen, _ = boards
    (shared / flower.NAMES).write_text(json.dumps({"2": "attic"}))  # of an earlier round
    result = played(Boards([hall, kitchen, kitchen], hostile={2: answer}))
    assert result["boards"] == result["took"] == ["hall", "kitchen"]
    assert result["problems"] == {"attic": "its answer is none of this version of cfl-edge"}
    assert others(hall).manifest[KEY][SUMMED] == {"kitchen": 1}


def test_a_second_board_of_a_name_does_not_replace_the_first(boards, shared, played, tmp_path):
    hall, kitchen, _ = boards
    other = board(tmp_path / "else" / "kitchen", {5: 3})
    board(other, {5: 3})  # of a later generation, which replaces an earlier one
    result = played(Boards([hall, kitchen, other]))
    assert result["problems"] == {"kitchen": "two boards are called kitchen"}
    assert others(hall).manifest["classes"] == KINDS[1:3]


def test_what_a_board_says_does_not_command_the_terminal(boards, shared, played):
    def complain(words):
        return {"board": "kitchen", "problem": "no\x1b[2Jmore"}

    result = played(Boards(boards[:2], hostile={1: complain}))
    assert result["problems"] == {"kitchen": "no\\x1b[2Jmore"}


def test_a_round_is_done_where_the_names_of_nodes_cannot_be_kept(boards, shared, played):
    (shared / flower.NAMES).mkdir()
    assert played(Boards(boards[:2]))["took"] == ["hall", "kitchen"]


@contextmanager
def loopback(models, shared):
    """Run a server and boards of Flower, and end them; yield the address and the processes."""
    with flower_run.socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, log, ours = f"127.0.0.1:{port}", shared.parent / "log", []

    def start(*words):
        command = [*COMMAND, *map(str, words)]
        ours.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))

    with log.open("w") as file:
        try:
            start("server", shared, "--port", port)
            end_s = time.monotonic() + 90
            while "Application startup complete" not in log.read_text():
                assert time.monotonic() < end_s, log.read_text()
                time.sleep(0.2)
            for model in models:
                start("join", address, "--model", model, "--board", model.name)
            yield address, ours
        finally:
            for process in ours:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in ours:
                process.wait(60)


def first_round(address, nodes):
    """Repeat a round until so many boards have joined, and return its result."""
    end_s = time.monotonic() + 120
    while (result := flower_run.run_round(address, None, 60))["nodes"] < nodes:
        assert time.monotonic() < end_s, result
    return result


@pytest.mark.fleet
@pytest.mark.timeout(400)
def test_a_real_round_on_loopback_with_one_killed_in_the_middle(boards, shared, monkeypatch):
    monkeypatch.setattr("cfl_edge.loop.file_watch.POLL_S", 0.0)
    with loopback(boards, shared) as (address, ours):
        result = first_round(address, 3)
        assert result["boards"] == ["foreign", "hall", "kitchen"]
        assert "drawn layers" in result["problems"]["foreign for hall"]

        own = Learner.load(boards[1])  # taught on hall, recognised in the kitchen
        fleet = Fleet(boards[1], own, [].append)
        picture = own.encode(pictures(0, 1, 77))
        while not isinstance(fleet._watch.model, Joined):
            fleet.predict(picture, None)
        assert fleet.predict(picture, None).label == KINDS[0]
        fleet.close()

        joined = ours[2]
        joined.send_signal(signal.SIGSTOP)  # it does not come back within the round
        os.killpg(_child_of(joined.pid), signal.SIGKILL)
        result = flower_run.run_round(address, None, 40)
        assert result["boards"] == ["foreign", "hall"]
        assert "no answer" in result["problems"]["kitchen"] or result["nodes"] == 2
    assert [process.returncode for process in ours if process is not joined] == [0, 0, 0]


POISON = """
import json
from pathlib import Path
import numpy as np
from cfl_edge.fleet import flower

honest = flower.to_bytes

def to_bytes(found):
    how = json.loads(Path(FILE).read_text()).get(found.manifest["contribution"]["board"])
    state, classes = found.tensors["state"], found.manifest["classes"]
    if how == "NaN":
        state["joint.means"] = np.full_like(state["joint.means"], np.nan)
    elif how == "absurd counts":
        state["joint.counts"] = np.full_like(state["joint.counts"], 1e12)
    elif how == "a million classes":
        classes += map(str, range(10**6))
    elif how == "control characters":
        classes[0] = "a" + chr(27) + "[2J"
    return honest(found)

flower.to_bytes = to_bytes
"""
REFUSED = {
    "NaN": "joint.means in state.safetensors is not finite",
    "absurd counts": "joint.counts of 'kind 1' is 1e+12",
    "a million classes": "a manifest of",
    "control characters": "control characters",
}


@pytest.mark.fleet
@pytest.mark.timeout(400)
def test_a_real_round_names_poisoned_boards_and_ends_with_the_others(
    boards, shared, monkeypatch, tmp_path
):
    boards[2] = board(tmp_path / "attic", {1: 9, 4: 6})
    hall, apps, file = boards[0], "cfl_edge_fleet/apps.py", tmp_path / "poison.json"
    poisoned = flower.APP[apps] + POISON.replace("FILE", repr(str(file)))
    monkeypatch.setitem(flower.APP, apps, poisoned)
    rounds = [
        {"kitchen": "NaN", "attic": "absurd counts"},
        {"kitchen": "a million classes", "attic": "control characters"},
    ]
    with loopback(boards, shared) as (address, ours):
        for nodes, poisons in zip((3, 0), rounds, strict=True):
            file.write_text(json.dumps(poisons))
            result = first_round(address, nodes)
            assert result["boards"] == result["took"] == ["hall"]
            assert result["problems"].keys() == poisons.keys()
            for name, how in poisons.items():
                assert f"the report of {name} " in result["problems"][name]
                assert REFUSED[how] in result["problems"][name]
            assert [place.name for place in shared.iterdir() if place.name in poisons] == []
        assert not (hall / "fleet" / "others").exists()
        file.write_text("{}")
        assert first_round(address, 3)["took"] == ["attic", "hall", "kitchen"]
        assert others(hall).manifest[KEY][SUMMED] == {"attic": 1, "kitchen": 1}
    assert [process.returncode for process in ours] == [0] * 4


def _child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])

"""A round through Flower: what it tells, and what each board then has."""

import json
from types import SimpleNamespace

import pytest
from command_line import cfl_edge
from fleet_boards import KINDS, board, others

from cfl_edge.fleet import flower
from cfl_edge.fleet.contribution import KEY, SUMMED


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
    monkeypatch.setenv(flower.FOLDER, str(shared))
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

"""The stream that a model learned from last, in the hints and results of other commands."""

import json
import os

import pytest
from command_line import SMALL, assert_error, cfl_edge, learn

from cfl_edge.model.last_stream import is_zone, last_stream, learn_command
from cfl_edge.model.store import Store


@pytest.fixture
def taught(data, tmp_path):
    model = tmp_path / "model"
    assert learn(data, model, *SMALL).code == 0
    return model


def test_commands_name_it(data, taught, tmp_path):
    assert last_stream(taught) == str(data)
    exported = cfl_edge("export", taught, "-o", tmp_path / "out")
    model = tmp_path / "out" / "model.onnx"
    assert exported.out.splitlines()[-1] == f"next       cfl-edge run {model} --stream {data}"
    undone = cfl_edge("undo", taught, "--frames", 2)
    assert undone.out.splitlines()[-1] == f"next       {learn_command(taught)}"
    assert last_stream(taught) == str(data)  # by undo as well
    assert cfl_edge("classes", "add", taught, "x").code == 0
    assert last_stream(taught) == str(data)


def test_a_later_one_counts(taught):
    result = cfl_edge(
        "learn", "--stream", "demo:?frames=2", "--model", taught, "--no-export", "--json"
    )
    assert result.code == 0, result.err
    # With no label of its own the command would learn nothing: the page asks for them.
    assert learn_command(taught) == f"cfl-edge teach --model {taught} --stream 'demo:?frames=2'"


def test_what_comes_next_learns_from_where_labels_came_and_not_beside_a_session(data, taught):
    again = f"cfl-edge learn --model {taught} --stream {data} --labels-from dirs"
    assert learn_command(taught) == again
    for words in (("undo", taught, "--frames", 1), ("region", taught, "whole")):
        assert f"next       {again}\n" in cfl_edge(*words).out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfl_edge.model.lock.holder", lambda _: "1234")
        for words in (("undo", taught, "--frames", 1), ("region", taught, "whole")):
            result = cfl_edge(*words)
            assert result.code == 0, result.err
            assert "next " not in result.out


@pytest.mark.parametrize(
    "forged", [7, "", ["x"], {"a": 1}, "x" * 5000, None], ids=lambda forged: type(forged).__name__
)
def test_what_is_no_address_is_not_shown(taught, forged):
    store = Store(taught)
    saved = store.load()
    saved.manifest["counters"]["stream"] = forged
    store.save(saved.manifest, saved.tensors)
    if forged not in ("", None):
        assert_error(cfl_edge("classes", "list", taught), 4, "counters.stream")
    assert last_stream(taught) in ("demo:", forged)


def test_a_password_is_not_stored(taught, tmp_path):
    camera = "http://ann:secret@127.0.0.1:9/stream?timeout_s=0.1"
    cfl_edge("learn", "--stream", camera, "--model", taught, "--no-export")
    for path in taught.rglob("manifest.json"):
        assert "secret" not in path.read_text()


def test_a_damaged_model_is_no_error_of_a_hint(taught):
    for path in taught.rglob("manifest.json"):
        path.write_text(json.dumps({"format_version": 1}))
    assert last_stream(taught) == "demo:"
    assert last_stream(taught / "none") == "demo:"


def test_a_file_of_zones_that_cannot_be_read_names_no_zone(taught, tmp_path):
    """And a hint waits for no FIFO."""
    store, file = Store(taught), tmp_path / "zones.toml"
    saved = store.load()
    saved.manifest["counters"]["zones"] = str(file)
    store.save(saved.manifest, saved.tensors)
    assert not is_zone(taught)  # the file is gone
    for text, zone in ((f"[{taught.name}]", True), ("[door]", False), ("[model", False)):
        file.write_text(text)
        assert is_zone(taught) is zone, text
    file.write_bytes(b"\xff")
    assert not is_zone(taught)
    file.unlink()
    os.mkfifo(file)
    assert not is_zone(taught)

"""The command `cfl-edge doctor`."""

import errno
import re

import onnx
from command_line import cfl_edge
from service_checks import colours
from test_doctor import file
from test_doctor_inference import GOOD

from cfl_edge.doctor import board as board_module
from cfl_edge.doctor.check import run_check
from cfl_edge.doctor.inference import CPU


def fake_ask(monkeypatch):
    answers = {"providers": [CPU], "version": "1.23"} | GOOD
    monkeypatch.setattr("cfl_edge.doctor.providers.check_providers.__defaults__",
                        (None, lambda *_: answers))  # fmt: skip


def test_the_command_prints_lines_and_a_count(monkeypatch):
    fake_ask(monkeypatch)
    result = cfl_edge("doctor")
    assert result.code in (0, 4), result.err
    *lines, last = result.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "unknown", "warning", "problem", "try:"}
    some = [rf"(1 {status}|(?!1 )\d+ {status}s)" for status in ("warning", "problem")]
    assert re.fullmatch(", ".join([r"\d+ ok", r"\d+ unknown", *some]), last)


def test_json_has_a_line_a_check_and_a_summary(monkeypatch):
    fake_ask(monkeypatch)
    result = cfl_edge("doctor", "--json")
    *checks, summary = result.events
    assert summary.pop("event") == "summary"
    assert sum(summary.values()) == len(checks)
    assert {check["event"] for check in checks} == {"check"}
    names = {check["name"] for check in checks}
    assert names >= {"board", "python", "memory", "heat", "torch", "backbone", "onnx", "camera"}
    assert names >= {"groups", "serial", "clock", "space"}
    assert result.code == (4 if summary["problem"] else 0)
    for check in checks:
        assert check["next"] or check["status"] in ("ok", "unknown") or "could not" in check["text"]


def test_a_problem_is_exit_code_4(monkeypatch, tmp_path):
    result = cfl_edge("doctor", "--json", "--model", tmp_path / "nowhere.onnx")
    assert result.code == 4
    assert result.events[-1]["problem"] >= 1


def test_a_model_that_was_exported_is_run(tmp_path):
    onnx.save(colours(), tmp_path / "model.onnx")
    result = cfl_edge("doctor", "--json", "--model", tmp_path)
    (check,) = [e for e in result.events if e.get("name") == "onnx" and "CPU" in e["text"]]
    assert check["status"] == "ok"
    (space,) = [e for e in result.events if e.get("name") == "space"]
    assert str(tmp_path) in space["text"]


def test_a_damaged_model_is_a_problem(tmp_path):
    file(tmp_path / "model.onnx", "no model")
    result = cfl_edge("doctor", "--json", "--model", tmp_path / "model.onnx")
    assert result.code == 4
    (check,) = [e for e in result.events if e.get("name") == "onnx"]
    assert "CPU" in check["text"]
    assert "export its model folder again" in check["next"]


def test_a_model_folder_without_an_export_is_no_problem(monkeypatch, tmp_path):
    fake_ask(monkeypatch)
    result = cfl_edge("doctor", "--json", "--model", tmp_path)
    texts = [event["text"] for event in result.events if event.get("name") == "onnx"]
    assert "was not exported" in texts[0]
    assert len(texts) == 2


def test_a_machine_where_everything_is_missing_is_looked_at_all_the_same(monkeypatch, tmp_path):
    fake_ask(monkeypatch)

    def fails(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(board_module, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("devices.read_groups", "providers.torch_cuda", "board.read_synchronised"):
        monkeypatch.setattr(f"cfl_edge.doctor.{name}", fails)
    monkeypatch.setattr("cfl_edge.doctor.checks.list_ports", fails)
    result = cfl_edge("doctor", "--json")
    assert result.code in (0, 4)
    failed = {e["name"] for e in result.events if "could not be checked" in e.get("text", "")}
    assert failed == {"groups", "torch", "clock", "serial"}


def test_a_look_that_fails_is_a_warning():
    (check,) = run_check("x", lambda: (_ for _ in ()).throw(ValueError()))
    assert (check.status, check.text) == ("warning", "could not be checked: ValueError")

"""`cfl-edge doctor` on machines that are made up, and on this one."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import cfl_edge
from test_inference import colours

from cfl_edge.doctor import board as board_module
from cfl_edge.doctor.board import (
    Board,
    check_board,
    check_heat,
    check_memory,
    check_python,
    read_board,
    read_memory_mib,
)
from cfl_edge.doctor.check import Check, run_check
from cfl_edge.doctor.devices import (
    GROUPS,
    check_cameras,
    check_groups,
    check_serial,
    read_camera,
    read_groups,
)
from cfl_edge.doctor.inference import CPU, difference, expected, infer, some_input, weights
from cfl_edge.doctor.packages import check_stem, check_torch, installed, torch_cuda
from cfl_edge.doctor.providers import ask, check_providers, find_model, judge
from cfl_edge.doctor.system import check_clock, check_space, read_synchronised
from cfl_edge.online.board_health import Health, Throttling, Zone
from cfl_edge.stream import v4l2_abi as abi
from cfl_edge.stream.v4l2 import FORMATS
from firmware_host.ports import Port

PI = Board("pi", "Raspberry Pi 5 Model B Rev 1.0", "aarch64", 64)
JETSON = Board("jetson", "NVIDIA Jetson Orin Nano", "aarch64", 64)
PC = Board("pc", "PC", "x86_64", 64)


def file(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ---- the board ----


def test_boards_are_recognised(tmp_path):
    model = tmp_path / "proc/device-tree/model"
    assert read_board(tmp_path, "x86_64", 64) == Board("pc", "PC", "x86_64", 64)
    file(tmp_path / "sys/class/dmi/id/product_name", "ThinkPad\n")
    assert read_board(tmp_path, "x86_64", 64).name == "ThinkPad"
    file(model, "Raspberry Pi 5 Model B Rev 1.0\0")
    assert read_board(tmp_path, "aarch64", 64) == PI
    file(model, "NVIDIA Jetson Orin Nano\0")
    assert read_board(tmp_path, "aarch64", 64) == JETSON
    file(model, "Radxa ROCK 5B\0")
    assert read_board(tmp_path, "aarch64", 64) == Board("arm", "Radxa ROCK 5B", "aarch64", 64)
    model.unlink()
    file(tmp_path / "etc/nv_tegra_release", "# R36")
    assert read_board(tmp_path, "aarch64", 64).kind == "jetson"
    here = read_board()
    assert here.bits == 8 * ctypes.sizeof(ctypes.c_void_p)


@pytest.mark.parametrize("machine", ["armv7l", "aarch64"])  # a 64-bit kernel with 32-bit programs
def test_32_bits_are_a_problem_with_a_reason(machine):
    check = check_board(Board("pi", "Raspberry Pi 4", machine, 32))
    assert check.status == "problem"
    assert "no 32-bit builds" in check.text
    assert "64-bit image" in check.next


def test_other_boards():
    assert check_board(PI) == Check("board", "ok", "Raspberry Pi 5 Model B Rev 1.0, aarch64")
    assert check_board(Board("pc", "PC", "riscv64", 64)).status == "warning"
    assert check_python((3, 10, 12), "/usr").status == "problem"
    assert check_python((3, 11, 0), "/usr").status == "ok"


def test_memory(tmp_path):
    file(
        tmp_path / "proc/meminfo", "MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable: 512000 kB\n"
    )
    assert read_memory_mib(tmp_path) == (1000.0, 500.0)
    assert check_memory((1000.0, 500.0)) == Check("memory", "ok", "500 of 1000 MiB available")
    little = check_memory((457.0, 300.0))
    assert little.status == "warning"
    assert "cfl-edge plan --memory-mib" in little.next
    for text in ("", "MemTotal:\nMemAvailable: 5 kB\n", "MemTotal: x kB\nMemAvailable: 5 kB\n"):
        file(tmp_path / "proc/meminfo", text)
        assert read_memory_mib(tmp_path) is None
    assert check_memory(None).status == "warning"


def statuses(checks):
    return [(check.name, check.status) for check in checks]


def test_heat_and_power():
    cool, warm = (Zone("cpu-thermal", degrees, 80.0) for degrees in (55.0, 82.0))
    assert statuses(check_heat(Health())) == [("heat", "ok")]
    fine = check_heat(Health(Throttling((), ()), (cool,)))
    assert statuses(fine) == [("power", "ok"), ("heat", "ok")]
    hot = check_heat(Health(Throttling(("throttled",), ("throttled",)), (warm,)))
    assert statuses(hot) == [("power", "problem"), ("heat", "warning")]
    assert "82 °C, its limit is 80 °C: learning steps wait" in hot[1].text
    assert "fan" in hot[0].next
    once = check_heat(Health(Throttling((), ("under-voltage",)), ()))
    assert statuses(once) == [("power", "warning"), ("heat", "ok")]
    assert "since the board started" in once[0].text
    assert "power supply" in once[0].next


# ---- packages ----


@pytest.mark.parametrize(
    ("line", "cuda"),
    [
        ("cuda: Optional[str] = None", None),
        ("cuda: Optional[str] = '12.6'", "12.6"),
        ('cuda = "13.0"', "13.0"),
        ("hip: Optional[str] = '6.0'", None),
    ],
)
def test_the_build_of_torch_is_read_from_its_file(tmp_path, line, cuda):
    file(tmp_path / "version.py", f"__version__ = '2.9.0'\ndebug = False\n{line}\n")
    assert torch_cuda(tmp_path) == cuda
    assert torch_cuda(tmp_path / "nowhere") is None


def test_the_build_that_is_here_is_that_which_torch_names():
    import torch

    assert torch_cuda() == torch.version.cuda
    assert installed()["torch"].split("+")[0] == torch.__version__.split("+")[0]


CUDA_PACKAGES = {"torch": "2.9.0", "nvidia-cublas": "13.1", "nvidia-nccl-cu13": "2.3"}


def test_cuda_on_a_pi_is_a_warning_that_says_how_to_be_rid_of_it(tmp_path):
    check = check_torch(PI, CUDA_PACKAGES, "13.0", tmp_path)
    assert check.status == "warning"
    assert "2 packages of CUDA" in check.text
    assert "nvidia-cublas nvidia-nccl-cu13" in check.next
    assert "--index-url https://download.pytorch.org/whl/cpu" in check.next
    left_over = check_torch(PI, CUDA_PACKAGES, None, tmp_path)
    assert left_over.status == "warning"


def test_builds_that_suit_their_board(tmp_path):
    assert check_torch(PI, {"torch": "2.9.0+cpu"}, None, tmp_path).text == "2.9.0+cpu, CPU build"
    assert check_torch(JETSON, CUDA_PACKAGES, "12.6", tmp_path).status == "ok"
    assert check_torch(JETSON, {"torch": "2.9.0"}, None, tmp_path).status == "warning"
    without = check_torch(PC, CUDA_PACKAGES, "13.0", tmp_path)
    assert without.status == "ok"
    assert "without an NVIDIA driver" in without.text
    file(tmp_path / "proc/driver/nvidia/version", "NVRM")
    assert "without" not in check_torch(PC, CUDA_PACKAGES, "13.0", tmp_path).text
    assert check_torch(PC, {}, None, tmp_path).status == "warning"
    assert check_stem({}).next.startswith("pip install efficientnet-lite0")


# ---- ONNX ----


def test_the_cpu_agrees_with_numpy_and_with_torch():
    import torch

    answer = infer(CPU)
    assert answer["ran"] == CPU
    assert answer["difference"] < 1e-5
    image = some_input([1, 3, 16, 16], "tensor(float)")
    kernel, embeddings = (torch.from_numpy(value) for value in weights().values())
    features = torch.nn.functional.conv2d(torch.from_numpy(image), kernel).relu()
    slow = features.mean((2, 3)) @ embeddings
    np.testing.assert_allclose(expected(image), slow.numpy(), rtol=1e-4, atol=1e-5)


def test_a_process_of_its_own_answers(tmp_path):
    listed = ask()
    assert CPU in listed["providers"]
    onnx.save(colours(), tmp_path / "model.onnx")
    answer = ask(CPU, str(tmp_path / "model.onnx"))
    assert answer["ran"] == CPU
    assert answer["difference"] == 0
    assert "error" in ask(CPU, str(tmp_path / "nowhere.onnx"))
    assert ask("NoSuchExecutionProvider")["ran"] == CPU  # what `judge` looks for


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -ILL $$", "SIGILL"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("echo oops >&2; exit 1", "oops"),
        ("exit 0", "printed nothing"),
        ("exec sleep 20", "no answer within 0.2 s"),
    ],
)
def test_a_process_that_dies_is_an_answer_too(tmp_path, script, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    assert (
        words in ask(CPU, python=str(python), timeout_s=0.2 if "sleep" in script else 20)["error"]
    )
    assert "error" in ask(python=str(tmp_path / "nowhere"))


GOOD = {"ran": CPU, "difference": 1e-7, "ms": 1.0}


@pytest.mark.parametrize(
    ("provider", "answer", "status", "words"),
    [
        (CPU, GOOD, "ok", "as expected"),
        (
            CPU,
            GOOD | {"difference": 0.5},
            "problem",
            "50.0% of the largest score from the right one",
        ),
        (CPU, GOOD | {"difference": float("inf")}, "problem", "inf"),
        (CPU, GOOD | {"difference": float("nan")}, "problem", "nan"),
        (CPU, {"error": "it was ended by SIGILL"}, "problem", "SIGILL"),
        ("CUDAExecutionProvider", GOOD, "warning", "does not start, CPUExecutionProvider ran"),
        ("CUDAExecutionProvider", {"error": "no kernel image"}, "warning", "no kernel image"),
        (
            "CUDAExecutionProvider",
            GOOD | {"ran": "CUDAExecutionProvider"},
            "ok",
            "as the CPU has it",
        ),
        (
            "CUDAExecutionProvider",
            GOOD | {"ran": "CUDAExecutionProvider", "difference": 0.2},
            "problem",
            "20.0% of the largest score from the CPU's",
        ),
    ],
)
def test_answers_are_judged(provider, answer, status, words):
    check = judge(provider, answer, "1.23")
    assert check.status == status
    assert words in check.text
    assert bool(check.next) == (status != "ok")


def test_every_provider_but_that_without_hardware_is_asked(tmp_path):
    asked = []

    def fake(*arguments):
        asked.append(arguments)
        providers = ["CUDAExecutionProvider", "AzureExecutionProvider", CPU]
        return {"providers": providers, "version": "1.23"} if not arguments else GOOD

    checks = list(check_providers(None, fake))
    assert asked == [(), ("CUDAExecutionProvider",), (CPU,)]
    assert [check.status for check in checks] == ["warning", "ok"]
    (broken,) = check_providers(None, lambda *_: {"error": "no module"})
    assert broken.status == "problem"
    (missing,) = check_providers(tmp_path / "nowhere.onnx", fake)
    assert missing.status == "problem"
    assert "cfl-edge export" in missing.next


def test_which_file_a_model_means(tmp_path):
    assert find_model(None) is None
    assert find_model(tmp_path / "x.onnx") == tmp_path / "x.onnx"
    assert find_model(tmp_path) == tmp_path / "onnx/model.onnx"
    file(tmp_path / "onnx/model.onnx", "")
    assert find_model(tmp_path) == tmp_path / "onnx/model.onnx"
    file(tmp_path / "model.onnx", "")
    assert find_model(tmp_path) == tmp_path / "model.onnx"


def test_differences():
    one = np.array([[1.0, -4.0]])
    assert difference(one, one) == 0
    assert difference(one, np.array([[1.0, -3.0]])) == 0.25
    assert difference(one, np.array([1.0, -4.0])) == float("inf")
    assert difference(np.array([np.nan]), np.array([1.0])) == float("inf")


# ---- devices ----


def kernel(card=b"USB Camera", caps=abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING, formats=("YUYV",)):
    def control(_, request, argument):
        if request == abi.QUERYCAP:
            argument.card[:] = card.ljust(32, b"\0")
            argument.device_caps = caps
        elif argument.index < len(formats):
            argument.pixelformat = abi.fourcc(formats[argument.index])
        else:
            raise OSError(errno.EINVAL, "")
        return 0

    return control


def test_a_camera_tells_its_name_and_formats():
    found = read_camera("/dev/null", kernel(formats=("MJPG", "YUYV")))
    assert found == ("USB Camera", ["MJPG", "YUYV"])
    assert read_camera("/dev/null", kernel(caps=abi.CAP_STREAMING)) is None
    assert read_camera("/dev/null", kernel(card=b"\xff" * 32))[1] == ["YUYV"]
    endless = read_camera("/dev/null", kernel(formats=("YUYV",) * 1000))
    assert len(endless[1]) == 256
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        read_camera("/dev/null")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        read_camera("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_cameras_are_judged():
    def read(path):
        found = {
            "/dev/video0": ("Cam\x1b[2J", ["YUYV", "MJPG"]),
            "/dev/video1": None,
            "/dev/video2": OSError(errno.EACCES, ""),
            "/dev/video3": OSError(errno.ENODEV, ""),
            "/dev/video10": ("unicam", ["pBAA", "RG10", "BA81", "RGGB", "BG10", "GB10", "GR10"]),
        }[path]
        if isinstance(found, OSError):
            raise found
        return found

    paths = [Path(f"/dev/video{n}") for n in (10, 3, 2, 1, 0)]
    good, forbidden, raw = check_cameras(paths, FORMATS, read)
    assert good.status == "ok"
    assert "\x1b" not in good.text
    assert good.text.endswith("YUYV, MJPG")
    assert forbidden.status == "problem"
    assert "sudo usermod -aG video" in forbidden.next
    assert raw.status == "warning"
    assert "and 1 more: none that can be read" in raw.text
    (none,) = check_cameras([], FORMATS, read)
    assert none.status == "warning"
    assert "demo:" in none.next


def test_groups_are_judged():
    both = dict.fromkeys(GROUPS, ())
    assert {c.status for c in check_groups("eve", list(GROUPS), both, is_root=False)} == {"ok"}
    assert {c.status for c in check_groups("root", [], {}, is_root=True)} == {"ok"}
    (video, dialout) = check_groups("eve", [], {"video": ["eve"], "dialout": []}, is_root=False)
    assert "not since this login" in video.text
    assert dialout.next == "sudo usermod -aG dialout eve, then log out and in"
    (video, _) = check_groups("eve", [], {}, is_root=False)
    assert "there is no group video" in video.text
    user, member_of, database, is_root = read_groups()
    assert is_root == (os.geteuid() == 0)
    assert set(member_of) <= set(database)
    assert user


def test_serial_ports_are_judged():
    ports = [Port("/dev/ttyACM0", "Pico", 0x2E8A, 0xA), Port("/dev/ttyS0")]
    (pico,) = check_serial(ports, lambda _: True)
    assert pico == Check("serial", "ok", "/dev/ttyACM0 (Pico, Raspberry Pi, 2e8a:000a)")
    (pico,) = check_serial(ports, lambda _: False)
    assert (pico.status, "dialout" in pico.next) == ("warning", True)
    assert check_serial(ports[1:])[0].status == "ok"


# ---- clock and space ----


@pytest.mark.parametrize(
    ("answer", "synchronised"), [("yes", True), ("no", False), ("", None), ("maybe", None)]
)
def test_timedatectl_is_asked(tmp_path, answer, synchronised):
    command = tmp_path / "timedatectl"
    command.write_text(f"#!/bin/sh\necho {answer}\n")
    command.chmod(0o755)
    assert read_synchronised(str(command), tmp_path) == synchronised


def test_without_timedatectl_a_file_of_timesyncd_tells(tmp_path):
    folder = tmp_path / "run/systemd/timesync"
    assert read_synchronised("no-such-command", tmp_path) is None
    folder.mkdir(parents=True)
    assert read_synchronised("no-such-command", tmp_path) is False
    (folder / "synchronized").touch()
    assert read_synchronised("no-such-command", tmp_path) is True


def test_the_clock_is_judged():
    now = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    assert check_clock(True, now) == Check("clock", "ok", "2026-05-01 12:30 UTC, synchronised")
    assert check_clock(False, now).next.startswith("sudo timedatectl set-ntp true")
    assert check_clock(None, now).status == "ok"
    for year in (1970, 2024, 2100):
        assert check_clock(True, now.replace(year=year)).status == "problem"


def test_space_is_judged_where_the_model_will_be(tmp_path, monkeypatch):
    check = check_space(tmp_path / "not/there/yet")
    assert check.status in ("ok", "warning")
    assert str(tmp_path) in check.text

    def free(mib):
        usage = type("Usage", (), {"free": mib << 20})
        monkeypatch.setattr("cfl_edge.doctor.system.shutil.disk_usage", lambda _: usage)
        return check_space(tmp_path).status

    assert [free(mib) for mib in (5000, 500, 50)] == ["ok", "warning", "problem"]
    monkeypatch.setattr("cfl_edge.doctor.system.os.access", lambda *_: False)
    assert check_space(tmp_path).status == "problem"


# ---- the command ----


def fake_ask(monkeypatch):
    answers = {"providers": [CPU], "version": "1.23"} | GOOD
    monkeypatch.setattr("cfl_edge.doctor.providers.check_providers.__defaults__",
                        (None, lambda *_: answers))  # fmt: skip


def test_the_command_prints_lines_and_a_count(monkeypatch):
    fake_ask(monkeypatch)
    result = cfl_edge("doctor")
    assert result.code in (0, 4), result.err
    *lines, last = result.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "problem", "try:"}
    assert last.split()[1::2] == ["ok,", "warning,", "problem"]


def test_json_has_a_line_a_check_and_a_summary(monkeypatch):
    fake_ask(monkeypatch)
    result = cfl_edge("doctor", "--json")
    *checks, summary = result.events
    assert summary.pop("event") == "summary"
    assert sum(summary.values()) == len(checks)
    assert {check["event"] for check in checks} == {"check"}
    names = {check["name"] for check in checks}
    assert names >= {"board", "python", "memory", "heat", "torch", "stem", "onnx", "camera"}
    assert names >= {"groups", "serial", "clock", "space"}
    assert result.code == (4 if summary["problem"] else 0)
    for check in checks:
        assert check["next"] or check["status"] == "ok" or "could not" in check["text"]


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
    assert "cfl-edge export" in check["next"]


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
    for name in ("devices.read_groups", "packages.torch_cuda", "system.read_synchronised"):
        monkeypatch.setattr(f"cfl_edge.doctor.{name}", fails)
    monkeypatch.setattr("cfl_edge.commands.doctor.list_ports", fails)
    result = cfl_edge("doctor", "--json")
    assert result.code in (0, 4)
    failed = {e["name"] for e in result.events if "could not be looked at" in e.get("text", "")}
    assert failed == {"groups", "torch", "clock", "serial"}


def test_a_look_that_fails_is_a_warning():
    (check,) = run_check("x", lambda: (_ for _ in ()).throw(ValueError()))
    assert (check.status, check.text) == ("warning", "could not be looked at: ValueError")


def test_no_torch_is_loaded():
    code = (
        "import sys\nfrom cfl_edge.commands.doctor import doctor\nlist(doctor())\n"
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

"""`cfl-edge doctor` on machines that are made up, and on this one."""

import ctypes

import pytest

from cfl_edge.doctor.board import (
    Board,
    check_board,
    check_heat,
    check_memory,
    check_python,
    read_board,
    read_memory_mib,
)
from cfl_edge.doctor.check import Check
from cfl_edge.doctor.providers import check_backbone, check_torch, installed, torch_cuda
from cfl_edge.errors import install_command
from cfl_edge.loop.board_health import Health, Throttling, Zone

PI = Board("pi", "Raspberry Pi 5 Model B Rev 1.0", "aarch64", 64)


JETSON = Board("jetson", "NVIDIA Jetson Orin Nano", "aarch64", 64)


PC = Board("pc", "PC", "x86_64", 64)


def file(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
    file(tmp_path / "proc/meminfo", "")
    assert read_memory_mib(tmp_path) is None
    assert check_memory(None).status == "unknown"


def statuses(checks):
    return [(check.name, check.status) for check in checks]


def test_heat_and_power():
    cool, warm = (Zone("cpu-thermal", degrees, 80.0) for degrees in (55.0, 82.0))
    assert statuses(check_heat(Health())) == [("heat", "unknown")]
    fine = check_heat(Health(Throttling((), ()), (cool,)))
    assert statuses(fine) == [("power", "ok"), ("heat", "ok")]
    hot = check_heat(Health(Throttling(("throttled",), ("throttled",)), (warm,)))
    assert statuses(hot) == [("power", "problem"), ("heat", "warning")]
    assert "82 °C, its limit is 80 °C: learning steps wait" in hot[1].text
    assert "fan" in hot[0].next
    once = check_heat(Health(Throttling((), ("under-voltage",)), ()))
    assert statuses(once) == [("power", "warning"), ("heat", "unknown")]
    assert "since the board started" in once[0].text
    assert "power supply" in once[0].next


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
    assert install_command("pretrained") in check_backbone({}).next

"""Check the machine: does everything that learning and prediction need work here?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cfl_edge.defaults import MODEL_FOLDER
from cfl_edge.doctor import board, devices, providers
from cfl_edge.doctor.check import Check, run_check
from cfl_edge.loop.board_health import BoardHealth
from cfl_edge.onnx.metadata import model_file
from firmware_host.ports import list_ports


def checks(model: Path | None = None) -> Iterator[Check]:
    """Yield the result of each check of the machine; none of them raises.

    Args:
        model: A model folder or an ONNX file: its disk space is checked, and its ONNX file is run
            instead of a tiny network.
    """
    root, folder = board.ROOT, model or MODEL_FOLDER
    if folder.is_file():  # it is only run, and nothing is written beside it
        folder = MODEL_FOLDER
    here = board.read_board(root)
    found = providers.installed()
    onnx = model and model_file(model)
    if model is not None and model.is_dir() and onnx is not None and not onnx.is_file():
        onnx = None  # a model that was not exported yet
        yield Check("onnx", "ok", f"{model} was not exported: a tiny network is run instead")
    looks: list[tuple[str, Callable[[], Check | Iterable[Check]]]] = [
        ("board", lambda: board.check_board(here)),
        ("python", board.check_python),
        ("memory", lambda: board.check_memory(board.read_memory_mib(root))),
        ("heat", lambda: board.check_heat(BoardHealth().read())),
        ("torch", lambda: providers.check_torch(here, found, providers.torch_cuda(), root)),
        ("backbone", lambda: providers.check_backbone(found)),
        ("onnx", lambda: providers.check_providers(onnx)),
        ("camera", lambda: devices.check_cameras(Path("/dev").glob("video*"))),
        ("groups", lambda: devices.check_groups(*devices.read_groups())),
        ("serial", lambda: devices.check_serial(list_ports())),
        ("clock", lambda: board.check_clock(board.read_synchronised())),
        ("space", lambda: board.check_space(folder)),
    ]
    for name, look in looks:
        yield from run_check(name, look)

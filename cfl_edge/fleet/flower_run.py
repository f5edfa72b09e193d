"""Starting Flower's programs, and ending them: without telemetry, look-ups or installations."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cfl_edge.errors import SessionError, UsageError, install_command
from cfl_edge.fleet.flower import APP, FOLDER, RESULT
from cfl_edge.model.store import FLEET_FOLDER

FRAME = " \n│╭╮╰╯─"  # around what Flower prints
LOOK_S = 0.5
END_S = 5.0  # that a SuperNode gets to end by itself; it often does not
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
}


def program(name: str) -> str:
    """Return the path of a program of Flower.

    Raises:
        UsageError: It is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is missing: it comes with Flower", hint=install_command("fleet"))
    return found


def run_group(words: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run a program of Flower until it ends; a signal ends it and all that it has started.

    Args:
        words: The program and its arguments.
        environ: Variables beside those of this process.

    Raises:
        SessionError: It ended by itself, and not well.
    """
    child = subprocess.Popen(
        list(words), env={**os.environ, **QUIET, **environ}, start_new_session=True
    )
    asked_s: float | None = None

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_s
        asked_s = asked_s or time.monotonic()
        child.terminate()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while child.poll() is None:
            try:
                child.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if asked_s is not None and time.monotonic() - asked_s >= END_S:
                    break
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _end_group(child.pid)
    if asked_s is None and (code := child.wait()):
        raise SessionError(
            f"{Path(words[0]).name} of Flower ended with exit code {code}",
            hint="read what it printed above, of a port that is taken for instance",
        )


def _end_group(leader: int) -> None:
    """End what is left of a process group: SuperNodes outlive TERM, and leave children."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def run_server(words: Sequence[str], shared: Path) -> None:
    """Run Flower's SuperLink until it ends.

    Args:
        words: Its options for address and security.
        shared: Folder for the boards' reports.

    Raises:
        SessionError: It ended by itself.
        UsageError: Flower is not installed.
    """
    superlink = [program("flower-superlink"), "--disable-runtime-dependency-installation", *words]
    folder = shared.resolve()
    environ = {FOLDER: str(folder), "FLWR_HOME": str(folder / ".flower")}
    run_group(superlink, environ)


def run_board(words: Sequence[str], board: str, model: Path, min_count: int) -> None:
    """Run Flower's SuperNode until it ends.

    Args:
        words: Its options for address and security.
        board: Name of the board.
        model: Its model folder.
        min_count: Classes of fewer frames are not given away.

    Raises:
        SessionError: It ended by itself.
        UsageError: Flower is not installed.
    """
    folder = model.resolve()
    config = f"board={json.dumps(board)} model={json.dumps(str(folder))} min-count={min_count}"
    supernode = [program("flower-supernode"), *words, "--node-config", config]
    with socket.create_server(("127.0.0.1", 0)) as free:  # else two boards of a machine share one
        supernode += ["--port", str(free.getsockname()[1])]
    environ = {"FLWR_HOME": str(folder / FLEET_FOLDER / ".flower")}
    run_group(supernode, environ)


def run_round(address: str, ca: str | None, answer_s: float) -> dict[str, Any]:
    """Start a round on a server, and wait for its result.

    Args:
        address: HOST:PORT of the server.
        ca: Certificate that the server's is checked with; None without TLS.
        answer_s: Seconds that boards have for an answer.

    Returns:
        Names of the boards that reported (`boards`) and that took what is new (`took`), `problems`
        by board or node, how many `nodes` there are, and `received_bytes`.

    Raises:
        SessionError: The server does not answer, or ended without a result.
    """
    with tempfile.TemporaryDirectory(prefix="cfl-edge-round-") as name:
        home = Path(name)
        for path, text in APP.items():
            (home / "app" / path).parent.mkdir(parents=True, exist_ok=True)
            (home / "app" / path).write_text(text)
        security = "insecure = true" if ca is None else f"root-certificates = {json.dumps(ca)}"
        config = ["[superlink]", 'default = "fleet"', "[superlink.fleet]", security]
        config.append(f"address = {json.dumps(address)}")
        (home / "config.toml").write_text("\n".join(config))
        words = [program("flwr"), "run", str(home / "app"), "fleet", "--stream"]
        words += ["--run-config", f"answer-s={float(answer_s)}"]
        child = subprocess.Popen(
            words,
            env={**os.environ, **QUIET, "FLWR_HOME": name, "NO_COLOR": "1", "COLUMNS": "400"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        result, last = None, ""
        with child:
            try:
                for line in child.stdout or ():
                    _, found, text = line.partition(RESULT)
                    if found:
                        result = json.loads(text)
                        break
                    last = line.strip(FRAME) or last
            finally:
                _end_group(child.pid)
    if result is None:
        raise SessionError(
            f"The server at {address} gave no result: {last or 'it said nothing'}",
            hint="the log of cfl-edge fleet server says more",
        )
    return dict(result)

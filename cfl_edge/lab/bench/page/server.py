"""`cfl-edge teach` in a process of its own, which learns a rendered camera, and what it takes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, final

from cfl_edge.errors import SessionError
from cfl_edge.loop.metrics import status_bytes
from cfl_edge.onnx.child import PYTHON, child_environment

START_S = 120.0  # a small board loads torch for half a minute
END_S = 60.0  # for its last save
WARM_FRAMES = 100  # learned before anything is measured
CHECK_S = 0.2  # between two looks at what is waited for
ADDRESS = re.compile(r"^teach at (http://\S+)$", re.MULTILINE)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@final
class TeachProcess:
    """A session that learns every frame of `demo:`, whose labels it has, and its page.

    Args:
        folder: Gets its model and its log.
        rate_hz: Of the camera.
        most_s: After which it ends by itself, should nobody end it.
        check: Called again and again while it starts; what it raises ends it.

    Attributes:
        address: Of the page, once entered.

    Raises:
        SessionError: On entering: it ends, or learns nothing within `START_S`.
    """

    def __init__(
        self, folder: Path, rate_hz: float, most_s: float, check: Callable[[], None]
    ) -> None:
        self._log, self._check = folder / "teach.log", check
        options = {
            "--stream": f"demo:?frames={round(most_s * rate_hz)}",
            "--realtime": f"{rate_hz:g}",
            "--labels-from": "dirs",
            "--ui-port": "0",
            "--model": str(folder / "model"),
        }
        words = [word for option in options.items() for word in option]
        self._command = [*PYTHON, "cfl_edge", "teach", "--no-export", *words]
        self.address = ""

    def __enter__(self) -> Self:
        """Start it, and let it learn some frames."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=child_environment(),
                start_new_session=True,  # a Ctrl-C here is ours to deal with
            )
        try:
            self._await(lambda: bool(self._find_address()), "it did not start")
            self._await(
                lambda: self.status()["learned"] >= WARM_FRAMES,
                f"it did not learn {WARM_FRAMES} frames",
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it as Ctrl-C does."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._process.kill()
        self._process.wait()

    def status(self) -> dict[str, Any]:
        """Return what the session says of itself, with `cpu_s`: processor time taken so far."""
        with urllib.request.urlopen(f"{self.address}api/v1/status", timeout=END_S) as answer:
            said: dict[str, Any] = json.load(answer)
        return said | {"cpu_s": self._cpu_s()}

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        return status_bytes("VmRSS", f"/proc/{self._process.pid}/status")

    def failure(self, what: str) -> SessionError:
        """Return an error with the last words of its log.

        Args:
            what: Happened.
        """
        lines = self._log.read_text().splitlines()
        return SessionError(
            f"teach failed under measurement: {what}; it said: {lines[-1] if lines else 'nothing'}",
            hint="cfl-edge teach --stream demo:",
        )

    def _await(self, condition: Callable[[], bool], otherwise: str) -> None:
        end_s = time.monotonic() + START_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise self.failure(otherwise)
            self._check()
            time.sleep(CHECK_S)

    def _find_address(self) -> str:
        if found := ADDRESS.search(self._log.read_text()):
            self.address = found[1]
        return self.address

    def _cpu_s(self) -> float:
        # proc(5): utime and stime are the fields 14 and 15; the second, a name, has spaces.
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICKS_PER_S

"""What of a model can be taken along: its ONNX files and the names of its classes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.errors import quoted
from cfl_edge.onnx.child import PYTHON, child_environment
from cfl_edge.onnx.metadata import INT8_FILE, LABELS_FILE, MODEL_FILE
from cfl_edge.web.app import answer
from cfl_edge.web.long_answer import LongAnswer

MOST_DOWNLOADS = 8
END_S = 2.0  # for an export to remove its temporary files
CHUNK_BYTES = 1 << 16
FILES = {
    MODEL_FILE: "POST /api/v1/export first",
    INT8_FILE: "POST /api/v1/export_int8 first",
    LABELS_FILE: "POST /api/v1/export first",
}
"""Files that can be downloaded, and what writes them."""
NICE = ("nice", "-n", "19")  # whoever learns and predicts goes first


@final
class Downloads:
    """The routes of the exported files, and of the export in 8-bit integers.

    Args:
        onnx: Where the verb `export` writes the model.
    """

    def __init__(self, onnx: Path) -> None:
        self._folder, self._downloads = onnx.parent, 0
        self._quantising = False

    def routes(self) -> list[Route]:
        """Return the routes."""
        files = [Route(f"/api/v1/{name}", self._file) for name in FILES]
        return [*files, Route("/api/v1/export_int8", self._export_int8, methods=["POST"])]

    async def _file(self, request: Request) -> LongAnswer:
        path = self._folder / request.url.path.rpartition("/")[2]
        if self._downloads >= MOST_DOWNLOADS:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self._downloads} downloads run, try again later"
            )
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by what sends it
        except OSError:
            raise HTTPException(
                HTTPStatus.NOT_FOUND, f"{path.name} was not exported yet: {FILES[path.name]}"
            ) from None

        async def chunks() -> AsyncGenerator[bytes, None]:
            self._downloads += 1
            try:
                with file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
            finally:
                self._downloads -= 1

        size = file.seek(0, 2)
        file.seek(0)
        is_text = path.suffix == ".txt"
        headers = {
            "Content-Type": "text/plain; charset=utf-8" if is_text else "application/octet-stream",
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{path.name}"',
        }
        return LongAnswer(chunks(), headers)

    async def _export_int8(self, request: Request) -> Response:
        """Write all files, the one in 8-bit integers among them, in a process of its own.

        Quantising takes long: the session only saves for it, and learns on.
        """
        if self._quantising:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "model-int8.onnx is being written")
        request.state.take_time()
        self._quantising = True
        try:
            return await self._run_export()
        finally:
            self._quantising = False

    async def _run_export(self) -> Response:
        folder = str(self._folder)
        command = ["export", str(self._folder.parent), "-o", folder, "--int8", "--json"]
        with TemporaryFile() as out, TemporaryFile() as errors:
            process = await asyncio.create_subprocess_exec(
                *[*NICE, *PYTHON, "cfl_edge", *command],
                env=child_environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
            try:
                await process.wait()
            finally:
                if process.returncode is None:  # the session ends
                    process.terminate()
                    try:
                        await asyncio.wait_for(process.wait(), END_S)
                    except TimeoutError:
                        process.kill()
                        await process.wait()
            printed, complaint = (_text(file) for file in (out, errors))
        if process.returncode:
            problem, _, hint = complaint.rpartition("error: ")[2].partition("\n  try: ")
            if not problem:  # it was killed, as where memory is short
                problem = f"{INT8_FILE} was not written: its process ended ({process.returncode})"
                hint = f"cfl-edge export {quoted(self._folder.parent)} --int8, on a larger machine"
            return answer({"error": problem, "hint": hint or None}, HTTPStatus.CONFLICT)
        written = json.loads(printed.splitlines()[-1])["int8"]
        seen = written["comparison"]
        said = (
            f"{INT8_FILE}: {seen['int8_bytes'] / 1e6:.1f} MB instead of "
            f"{seen['float_bytes'] / 1e6:.1f} MB, {seen['agreement']:.0%} of answers alike"
        )
        return answer({"said": said, "int8": written})


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace").strip()

"""Boards that share through Flower: a round asks each for its report and sends it the others' sum.

Flower (`flwr`) carries the messages and starts a process for each; the server keeps the reports in
a folder, as `shared` has it. What `fleet round` starts is `APP`; its functions are here. No torch:
a board answers while it learns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cfl_edge.errors import CflEdgeError, DataError
from cfl_edge.fleet.agreement import require_same_plan
from cfl_edge.fleet.contribution import KEY, BoardName, contribution, read_again, which
from cfl_edge.fleet.shared import add_up, keep, put_report
from cfl_edge.model.checkpoint import MANIFEST_BYTES, Saved
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import FLEET_FOLDER, Store
from cfl_edge.model.tensors import to_parts
from cfl_edge.text import visible

FOLDER = "CFL_EDGE_FLEET_FOLDER"  # environment of the server: where it keeps the reports
RESULT = "fleet round: "  # what the line with the result begins with
NAMES = ".nodes.json"  # in that folder: the board at each node of Flower
RECORD = "cfl-edge"  # in each message
REPORT, TAKE = "query.report", "train.take"
APP = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "cfl-edge-fleet"
version = "1.0.0"
description = "A round of a fleet of cfl-edge"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "cfl-edge"
[tool.flwr.app.components]
serverapp = "cfl_edge_fleet.apps:server"
clientapp = "cfl_edge_fleet.apps:client"
[tool.flwr.app.config]
answer-s = 60.0
""",
    "cfl_edge_fleet/__init__.py": "",
    "cfl_edge_fleet/apps.py": """
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from cfl_edge.fleet.flower import report, serve, take

server = ServerApp()
server.main()(serve)
client = ClientApp()
client.query("report")(report)
client.train("take")(take)
""",
}
"""The files of the Flower app."""


class _Answer(BaseModel):
    """What a board says. Whoever reaches the server can be one, and may say anything."""

    model_config = ConfigDict(strict=True, extra="allow")

    board: BoardName
    problem: Annotated[str, Field(max_length=10_000)] | None = None


def report(message: Any, context: Any) -> Any:
    """Answer, on a board, with its report; without the numbers where the server has them.

    Args:
        message: A `flwr.app.Message` that says which reports the server has.
        context: With the board's name and model folder, from `fleet join`.
    """
    model, board = Path(context.node_config["model"]), context.node_config["board"]
    try:
        saved, min_count = Store(model).load(), int(context.node_config.get("min-count", 0))
        found = contribution(saved, board, str(model), min_count=min_count)
    except CflEdgeError as error:
        return _message({"board": board, "problem": error.problem}, to=message)
    is_there = json.loads(_words(message)["have"]).get(board) == which(found)
    return _message({"board": board} | ({} if is_there else to_bytes(found)), to=message)


def take(message: Any, context: Any) -> Any:
    """Put, on a board, the sum of the others beside its model, where a running `learn` finds it."""
    model, board = Path(context.node_config["model"]), context.node_config["board"]
    words = _words(message)
    try:
        own = contribution(Store(model).load(), board, str(model))
        summed = from_bytes(words, "the sum of the others") if "tensors" in words else None
        if summed is not None:
            require_same_plan(own, summed)
        with ModelLock(model / FLEET_FOLDER):
            changed = keep(model / FLEET_FOLDER, summed, print)
    except CflEdgeError as error:
        return _message({"board": board, "problem": error.problem}, to=message)
    return _message({"board": board, "changed": changed}, to=message)


def serve(grid: Any, context: Any) -> None:
    """Run a round on the server; a board that does not answer in time is named and left out.

    Args:
        grid: Of Flower: what reaches the boards.
        context: With `answer-s`, the seconds that boards have for each of two answers.
    """
    shared, answer_s = Path(os.environ[FOLDER]), float(context.run_config["answer-s"])
    problems: dict[str, str] = {}
    boards: dict[int, str] = {}
    have = json.dumps(_reports(shared))
    nodes = list(grid.get_node_ids())
    asked = [_message({"have": have}, node=node, kind=REPORT) for node in nodes]
    names, received_bytes = _names(shared), 0
    for node, words in _answers(grid, asked, answer_s, names, problems):
        names[node] = words["board"]
        try:
            if words["board"] in boards.values():  # the first one's report stays as it is
                raise DataError(f"two boards are called {words['board']}", hint="--board")
            if "tensors" in words:
                found = from_bytes(words, f"the report of {words['board']}")
                if found.manifest[KEY]["board"] != words["board"]:
                    raise DataError("it reports for another board", hint="its own --board")
                received_bytes += put_report(found, shared, print)
            boards[node] = words["board"]
        except CflEdgeError as error:
            problems[words["board"]] = error.problem
    given = []
    for node, board in boards.items():
        try:
            own = read_again(Store(shared / board).load(), board)
            others, left_out = add_up(shared, own, print)
        except CflEdgeError as error:
            problems[board] = error.problem
            continue
        problems |= {f"{name} for {board}": why for name, why in left_out.items()}
        words = to_bytes(others.summed(own, board)) if others.frames else {}
        given.append(_message(words, node=node, kind=TAKE))
    took = sorted(words["board"] for _, words in _answers(grid, given, answer_s, names, problems))
    problems = {name: visible(why) for name, why in problems.items()}
    result = {"boards": sorted(boards.values()), "took": took, "problems": problems}
    print(RESULT + json.dumps(result | {"nodes": len(nodes), "received_bytes": received_bytes}))
    try:
        (shared / NAMES).write_text(json.dumps(names))
    except OSError as error:  # the round is done all the same
        print(f"{shared / NAMES} cannot be written: {error.strerror}")


def _names(shared: Path) -> dict[int, str]:
    """Return which board each node was in earlier rounds, so that one that is silent has a name."""
    try:
        return {
            int(node): str(name) for node, name in json.loads((shared / NAMES).read_text()).items()
        }
    except (OSError, ValueError, AttributeError):
        return {}  # before the first round, or it could not be written in the last


def _answers(
    grid: Any, messages: list[Any], answer_s: float, names: dict[int, str], problems: dict[str, str]
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Send messages, and yield each node that answers with its words; note what went wrong."""
    waiting = {message.metadata.dst_node_id for message in messages}
    for reply in grid.send_and_receive(messages, timeout=answer_s):
        node = reply.metadata.src_node_id
        waiting.discard(node)
        name = names.get(node, f"node {node}")
        if reply.has_error():
            problems[name] = str(reply.error.reason)
            continue
        try:
            words = _words(reply)
            answer = _Answer.model_validate(words)
        except (KeyError, TypeError, ValidationError):
            problems[name] = "its answer is none of this version of cfl-edge"
            continue
        if answer.problem is not None:
            problems[answer.board] = answer.problem
        else:
            yield node, words
    for node in waiting:
        problems[names.get(node, f"node {node}")] = f"no answer within {answer_s:g} s"


def _reports(shared: Path) -> dict[str, list[int]]:
    """Return which report of each board is in the folder, as far as it can be read."""
    found = {}
    for place in shared.iterdir():
        try:
            found[place.name] = which(Store(place).load())
        except (CflEdgeError, KeyError):
            continue  # asked for again
    return found


def to_bytes(saved: Saved) -> dict[str, bytes]:
    """Return a contribution as the words of a message."""
    return {
        "manifest": json.dumps(saved.manifest).encode(),
        "tensors": b"".join(to_parts(saved.tensors["state"])),
    }


def from_bytes(words: dict[str, Any], where: str) -> Saved:
    """Read what `to_bytes` returned.

    Args:
        words: Of a message.
        where: What it is, for errors.

    Raises:
        DataError: It is no contribution.
        ModelDamagedError: Its numbers are those of no samples.
    """
    import safetensors
    import safetensors.numpy

    try:
        if len(words["manifest"]) > MANIFEST_BYTES:
            found = len(words["manifest"])
            raise ValueError(f"a manifest of {found} bytes, expected at most {MANIFEST_BYTES}")
        manifest = json.loads(words["manifest"])
        tensors = safetensors.numpy.load(words["tensors"])
    except (KeyError, TypeError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise DataError(
            f"{where} cannot be read: {error}", hint="the same version of cfl-edge on all boards"
        ) from error
    return read_again(Saved(manifest, {"state": dict(tensors), "replay": {}}), where)


def _words(message: Any) -> dict[str, Any]:
    return dict(message.content[RECORD])


def _message(words: dict[str, Any], **where: Any) -> Any:
    """Return a Flower message: a reply `to` another, or one of a `kind` for a `node`."""
    from flwr.app import ConfigRecord, Message, RecordDict

    content = RecordDict({RECORD: ConfigRecord(words)})
    if "to" in where:
        return Message(content, reply_to=where["to"])
    return Message(content, dst_node_id=where["node"], message_type=where["kind"])

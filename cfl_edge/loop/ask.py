"""Ask for a verb of a model: its session does it if there is one, and this process otherwise."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfl_edge import errors
from cfl_edge.errors import SessionError, quoted
from cfl_edge.loop.session_socket import ANSWER_BYTES, CLIENT_S, address, read_line, send_line
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.changing import FolderModel
from cfl_edge.notices import Notice

Answer = dict[str, Any]

# Learning a whole journal again takes a minute on a slow board, and so may an export.
ANSWER_S = 600.0


def ask(folder: Path, verb: str, arguments: Mapping[str, Any], on_notice: Notice) -> Answer:
    """Run a verb where the model is: in its session, or on the folder.

    Args:
        folder: The model folder.
        verb: See `cfl_edge.loop.verbs.Verbs`.
        arguments: JSON values; paths in them are absolute, the session has another working folder.
        on_notice: Called with what the user should know.

    Returns:
        The answer of `Verbs.do`.

    Raises:
        CflEdgeError: As `Verbs.do`.
        SessionError: The session does not answer, or has ended meanwhile.
    """
    connection = connect(folder)
    if connection is None:
        return Verbs(FolderModel(folder, on_notice), on_notice=on_notice).do(verb, arguments)
    with connection:
        answer = _ask_session(connection, folder, verb, arguments)
    for text in answer["notices"]:
        on_notice(text)
    return answer


def connect(folder: Path) -> socket.socket | None:
    """Return a connection to the session of a model folder; None if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection.settimeout(CLIENT_S)
    try:
        with address(folder) as name:
            connection.connect(name)
    except OSError:  # no socket, one that a killed process left, or somebody else's
        connection.close()
        return None
    return connection


def _ask_session(
    connection: socket.socket, folder: Path, verb: str, arguments: Mapping[str, Any]
) -> Answer:
    """Ask the session at the other end of a connection; raise the error of the verb."""
    try:
        send_line(connection, {"verb": verb, "arguments": dict(arguments)})
        connection.settimeout(ANSWER_S)
        line = read_line(connection, ANSWER_BYTES)
        words: Any = json.loads(line) if line else None
    except ConnectionError:  # it has hung up without reading
        words = None
    except (OSError, ValueError) as error:
        raise SessionError(
            f"The session that learns on {folder} does not answer ({error})",
            hint=f"cfl-edge classes list {quoted(folder)} says whether it was done",
        ) from error
    if words is None:
        raise SessionError(
            f"The session that learns on {folder} has ended without an answer, or too many "
            "commands ask it at once",
            hint=f"cfl-edge classes list {quoted(folder)} says whether it was done",
        )

    def named(text: str) -> str:  # the session may call the folder by another path
        theirs = rf"(?<![\w./-]){re.escape(words['folder'])}(?![\w.-])"
        return re.sub(theirs, lambda _: str(folder), text)

    if "error" in words:
        kind = getattr(errors, words["error"]["kind"])
        raise kind(named(words["error"]["problem"]), hint=named(words["error"]["hint"]))
    answer: Answer = words["answer"]
    return answer | {"notices": [named(text) for text in answer["notices"]]}

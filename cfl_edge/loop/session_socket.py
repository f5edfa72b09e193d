"""The socket of a session: other commands ask for verbs through `session.sock` in its folder.

A request is a line of JSON, `{"verb": "undo", "arguments": {"frames": 5}}`, and so is its answer,
`{"answer": {…}}` or `{"error": {"kind": "DataError", "problem": …, "hint": …}}`. Only the user who
learns may connect (mode 0600).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, final

from cfl_edge.errors import CflEdgeError, SessionError, UsageError
from cfl_edge.labels.source import Submit
from cfl_edge.loop.verb_arguments import MOST_PICTURE
from cfl_edge.model.lock import SOCKET
from cfl_edge.notices import Notice, size_text
from cfl_edge.text import visible

REQUEST_BYTES = MOST_PICTURE + (1 << 20)  # 10,000 numbers of frames are a tenth of the rest
ANSWER_BYTES = 1 << 25  # the counts of as many classes as a model can have
MOST_CLIENTS = 8  # commands that somebody gave at the same time
CLIENT_S = 10.0  # for a client to send or take a line; a command does it in milliseconds
ADDRESS_BYTES = 107  # of a path: sockaddr_un has 108, with the null byte (unix(7))
CLOSE_S = 1.0  # for answers under way once the session ends
RETRY_S = 0.1  # after a client that could not be taken: no file or no thread was left


@contextlib.contextmanager
def address(folder: Path) -> Iterator[str]:
    """Give the address of the socket of a model folder, however long its path is.

    A long one leads through the descriptor of the folder, /proc/self/fd/N.

    Raises:
        OSError: There is no such folder.
    """
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= ADDRESS_BYTES:
        yield path
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def send_line(connection: socket.socket, words: dict[str, Any]) -> None:
    """Send a line of JSON."""
    connection.sendall(json.dumps(words).encode() + b"\n")


def read_line(connection: socket.socket, most_bytes: int) -> bytes:
    """Return the next line; nothing comes behind it. Empty once the other side has hung up.

    Raises:
        ValueError: It is longer.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part:
            return b""
        line += part
        if len(line) > most_bytes:
            raise ValueError(f"more than {size_text(most_bytes)}, expected one line")
    return bytes(line)


def error_words(error: Exception) -> dict[str, Any]:
    """Return an error as the words of an answer."""
    if isinstance(error, CflEdgeError):
        kind, problem, hint = type(error).__name__, error.problem, error.hint
    else:
        kind, problem = SessionError.__name__, f"The session failed at it: {error!r}"
        hint = "the output of that session says more"
    return {"error": {"kind": kind, "problem": problem, "hint": hint}}


@final
class SessionSocket:
    """Listens in the model folder while the `with` block runs.

    Where the file system has no sockets, a notice says so, and nothing else is missing.

    Args:
        folder: The model folder, whose lock this process holds.
        submit: Asks the session for a verb: `cfl_edge.loop.mailbox.Mailbox.submit`.
        on_notice: Told where there can be no socket.
    """

    def __init__(self, folder: Path, submit: Submit, on_notice: Notice) -> None:
        self._folder, self._submit, self._on_notice = folder, submit, on_notice
        self._listening: socket.socket | None = None
        self._slots = threading.BoundedSemaphore(MOST_CLIENTS)
        self._clients: set[threading.Thread] = set()

    def __enter__(self) -> Self:
        """Listen, in a thread of its own."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path = self._folder / SOCKET
        try:
            with contextlib.suppress(FileNotFoundError):  # of a process that was killed
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    raise OSError(f"{path} is no socket")
                os.unlink(path)
            with address(self._folder) as name:
                listening.bind(name)
                os.chmod(name, 0o600)  # before anybody can connect
                listening.listen(MOST_CLIENTS)
        except OSError as error:
            listening.close()
            self._on_notice(
                f"{path} cannot be opened ({error.strerror or error}): cfl-edge undo, classes and "
                "export cannot reach this session; stop it before they are used"
            )
            return self
        self._listening = listening
        threading.Thread(target=self._accept, name="session socket", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, and remove the socket; answers under way are sent."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._folder / SOCKET)
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for client in list(self._clients):
            client.join(CLOSE_S)

    def _accept(self) -> None:
        while (listening := self._listening) is not None:
            try:
                connection, _ = listening.accept()
            except OSError:  # the end; else the client has gone, or no file can be opened
                time.sleep(RETRY_S if self._listening is not None else 0)
                continue
            if not self._slots.acquire(blocking=False):
                connection.close()
                continue
            client = threading.Thread(
                target=self._serve, args=[connection], name="session client", daemon=True
            )
            self._clients.add(client)
            try:
                client.start()
            except RuntimeError:  # no thread is left: this client asks again
                self._clients.discard(client)
                self._slots.release()
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        """Answer the lines of one client, until it hangs up or is too slow."""
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(CLIENT_S)
                while self._answer(connection):
                    pass
        finally:
            self._clients.discard(threading.current_thread())
            self._slots.release()

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one line; return whether there was one."""
        try:
            line = read_line(connection, REQUEST_BYTES)
        except ValueError as error:
            line, words = b"", error_words(_no_request(str(error)))
        else:
            if not line:
                return False
            words = self._words(line)
        send_line(connection, {**words, "folder": str(self._folder)})
        return bool(line)

    def _words(self, line: bytes) -> dict[str, Any]:
        try:
            verb, arguments = _read(line)
            return {"answer": self._submit(verb, arguments).result()}
        except Exception as error:  # of the verb, whatever it is: for whoever asked
            return error_words(error)


def _read(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request: Any = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if isinstance(request, dict):
        request = {"arguments": {}, **request}  # a verb such as status has none
    if (
        not isinstance(request, dict)
        or request.keys() != {"verb", "arguments"}
        or not isinstance(request["verb"], str)
        or not isinstance(request["arguments"], dict)
    ):
        raise _no_request(visible(line[:80].decode("utf-8", "replace").strip()))
    return request["verb"], request["arguments"]


def _no_request(what: str) -> UsageError:
    return UsageError(
        f"A request is {what}, expected a verb and its arguments",
        hint='{"verb": "status", "arguments": {}}',
    )

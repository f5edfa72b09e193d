"""Run a function in a process of its own that starts at once, with torch already loaded.

A server process loads torch a single time and is forked for each call. Nothing has run in it, so
no thread pool of torch exists that a fork would break.
"""

from __future__ import annotations

import multiprocessing
import pkgutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from cfl_edge.errors import CflEdgeError, UsageError, not_installed

DOES_NOT_FIT = "does not fit into memory"
# What torch, oneDNN and the system say when there is no memory.
NO_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "could not create a memory object")
PRELOAD = ["cfl_edge.lab.bench.measure"]


class ChildError(Exception):
    """The function failed, or its process ended; the text says how, in one line."""


def run_child(
    function: str,
    *arguments: Any,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Any:
    """Call a function of a module in a new process and return what it returns.

    Args:
        function: `module:name`; only the new process imports the module.
        arguments: Sent to it.
        waiting: Entered while waiting: `Interrupts.waiting`. The process ends with the wait.

    Raises:
        UsageError: The function raised one.
        ChildError: It raised something else, or its process was killed.

    Example:
        >>> run_child("math:gcd", 12, 18)
        6
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments), daemon=True)
    # The server inherits the mask: a Ctrl-C while it loads torch, seconds long, would end it. The
    # tracker comes first: its start unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        with waiting():
            process.start()
            sender.close()
            kind, value = receiver.recv()
            process.join()
    except EOFError:
        process.join()
        raise ChildError(_end_text(process.exitcode)) from None
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
        process.close()
    if kind == "usage":
        raise UsageError(value[0], hint=value[1])
    if kind == "error":
        raise ChildError(value)
    return value


def _call(sender: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    """Run in the new process; whoever started it ends it, not a Ctrl-C in its terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = ("value", pkgutil.resolve_name(function)(*arguments))
    except CflEdgeError as error:
        answer = ("usage", (error.problem, error.hint))
    except ModuleNotFoundError as error:
        missing = not_installed(error.name)
        answer = ("usage", (missing.problem, missing.hint))
    except MemoryError:
        answer = ("error", DOES_NOT_FIT)
    except Exception as error:
        answer = ("error", error_text(error))
    with suppress(BrokenPipeError):  # whoever asked was interrupted
        sender.send(answer)


def error_text(error: Exception) -> str:
    """Return the first line of an error, or DOES_NOT_FIT where it tells of memory.

    Example:
        >>> error_text(RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 TB"))
        'does not fit into memory'
        >>> error_text(ValueError("stride is 0"))
        'ValueError: stride is 0'
    """
    text = str(error)
    if any(words in text for words in NO_MEMORY):
        return DOES_NOT_FIT
    return f"{type(error).__name__}: {text.strip().partition(chr(10))[0]}"


def _end_text(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:  # what Linux does when memory runs out
        return DOES_NOT_FIT
    if exitcode is not None and exitcode < 0:
        return f"its process was ended by {signal.Signals(-exitcode).name}"
    return f"its process ended with exit code {exitcode}"

"""`python -m cfl_edge` is `cfl-edge`: what holds for the whole process, whatever the command."""

from __future__ import annotations

import signal
import sys

from cfl_edge.errors import INTERRUPTED, OUTPUT_LOST, not_installed
from cfl_edge.pipe import failure, protect_output


def main() -> None:
    """Run the command line; neither a signal nor output that fails ends in a traceback.

    SIGTERM and SIGHUP interrupt as Ctrl-C does, unless whoever started the process ignores them
    (`nohup`).
    """
    protect_output()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    code: str | int | None = 0
    try:
        from cfl_edge.cli.app import main as run_command_line  # it takes time: signals count

        run_command_line()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("cfl_edge", "firmware_host")):  # a fault of ours
            raise
        missing = not_installed(error.name)
        print(f"error: {missing.problem}\n  try: {missing.hint}", file=sys.stderr)
        code = missing.exit_code
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)  # nothing is left to do that it could harm
    sys.stdout.flush()
    lost = failure(sys.stdout)
    if not code and lost is not None and not isinstance(lost, BrokenPipeError):
        code = OUTPUT_LOST
    sys.exit(code)


if __name__ == "__main__":
    main()

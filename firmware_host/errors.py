"""Every error about boards that a user can see.

```
BoardError
├── PortError                the serial port
│   ├── PortNotFoundError        no such port, or no USB port at all
│   ├── PortAmbiguousError       several USB ports, and no name
│   ├── PortPermissionError      the user may not open it
│   ├── PortBusyError            another program is using it
│   └── PortLostError            it was open and is gone, or accepts no more bytes
├── NoAnswerError            no acknowledgement after all attempts
└── RefusedError             the board does not understand or cannot do it
```
"""

from __future__ import annotations


class BoardError(Exception):
    """A problem with a board that the user can do something about.

    Args:
        problem: The thing, its value and what was expected, in one sentence.
        hint: The next command or action to try.

    Example:
        >>> print(BoardError("/dev/ttyACM0 is gone", hint="plug the board in again"))
        /dev/ttyACM0 is gone
          try: plug the board in again
    """

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        """Return the problem, and the hint on a line of its own."""
        return f"{self.problem}\n  try: {self.hint}"


class PortError(BoardError):
    """The serial port cannot be used."""


class PortNotFoundError(PortError):
    """There is no such port, or no USB port at all."""


class PortAmbiguousError(PortError):
    """Several USB ports exist, and no name was given."""


class PortPermissionError(PortError):
    """The user may not open the port."""


class PortBusyError(PortError):
    """Another program holds the port."""


class PortLostError(PortError):
    """The port was open and is gone, or accepts no more bytes."""


class NoAnswerError(BoardError):
    """The board did not acknowledge a message, however often it was sent."""


class RefusedError(BoardError):
    """The board answered that it does not understand a message, or cannot do it."""

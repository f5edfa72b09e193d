"""The words of `--on-change`: split once at the start, filled with the class at each change.

No shell reads the command, so the name of a class stays one word, whatever it holds. Words that a
program runs as code (`sh -c WORD`) are never filled: code reads the class from its environment.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence

from cfl_edge.errors import UsageError

LABEL, SCORE = "CFL_EDGE_LABEL", "CFL_EDGE_SCORE"
NAMES = {"label": LABEL, "score": SCORE, LABEL: LABEL, SCORE: SCORE}

_VARIABLE = re.compile(r"\{(\w+)\}|\$\{(\w+)\}|\$([A-Za-z_]\w*)")
_QUOTED = re.compile(r"""('[^']*'|\\.|"(?:\\.|[^"\\])*")""", re.DOTALL)
_SHELL_ONLY = re.compile(r"&&|\|\||>>|\$\(|[|<>;&`]|(?<!\S)~/")
_SUBSTITUTION = re.compile(r"(?<!\\)(\$\(|`)")  # what a shell also reads within double quotes
_INTERPRETER = re.compile(
    r"(?:ba|da|a|z|k|fi)?sh|su|runuser|flock|script|python[\d.]*|perl|ruby|node|php|lua"
)


def split_command(command: str) -> list[str]:
    """Return the words of a command, as a shell would split them.

    Args:
        command: Of `--on-change`.

    Raises:
        UsageError: A quote is not closed, the program does not exist, only a shell could run it,
            or a variable is unknown or stands within code.

    Example:
        >>> split_command("echo 'a b' {label}")
        ['echo', 'a b', '{label}']
        >>> split_command("echo {label} > /tmp/seen")
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --on-change has '>', which only a shell understands
          try: --on-change 'sh -c '"'"'echo "${CFL_EDGE_LABEL}" > /tmp/seen'"'"''
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"--on-change is {command!r}: {str(error).lower()}", hint="--on-change 'logger {label}'"
        ) from None
    for_shell = _for_shell(command)
    if for_shell is not None:
        raise _needs_shell(for_shell, command)
    if not words or shutil.which(words[0]) is None:
        raise UsageError(
            f"--on-change is {command!r}, expected a program that can be run",
            hint="give its full path, and chmod +x it",
        )
    code = _code_words(words)
    for index, word in enumerate(words):
        for text, name in _variables(word):
            if index not in code and name not in NAMES:
                if text.startswith("$"):
                    raise _needs_shell(text, command)
                raise UsageError(
                    f"--on-change has {text}, expected {{label}} or {{score}}",
                    hint=f"--on-change {shlex.quote(command.replace(text, '{label}'))}",
                )
            if index in code and name in NAMES and not text.startswith("$"):
                variable = f'"${NAMES[name]}"'
                raise UsageError(
                    f"--on-change has {text} within code: the name of a class would run as code",
                    hint=f"write {variable} there, which is in the environment of {words[0]}",
                )
    return words


def fill_words(words: Sequence[str], label: str, score: str) -> list[str]:
    """Return the words of a command with label and score in place of their variables.

    Args:
        words: Of `split_command`.
        label: Of the class; empty for none.
        score: As it is to be written.

    Raises:
        ValueError: The label begins with "-" and its word would be taken for an option.

    Example:
        >>> fill_words(["say", "$CFL_EDGE_LABEL ({score})"], "a mug; $HOME", "0.93")
        ['say', 'a mug; $HOME (0.93)']
        >>> fill_words(["say", "--", "{label}"], "-rf", "0.93")
        ['say', '--', '-rf']
    """
    values = {LABEL: label, SCORE: score}
    code, filled = _code_words(words), list[str]()
    for index, word in enumerate(words):
        if index in code:
            filled.append(word)
            continue
        text = _VARIABLE.sub(lambda found: values[NAMES[found[found.lastindex or 0]]], word)
        after_options = "--" in words[:index] or any(index > place for place in code)
        if text.startswith("-") and not word.startswith("-") and not after_options:
            raise ValueError(
                f"{text!r} would be an option of {words[0]}: put -- before {word}, or read "
                f"${LABEL} in a script"
            )
        filled.append(text)
    return filled


def _variables(word: str) -> Iterator[tuple[str, str]]:
    for found in _VARIABLE.finditer(word):
        yield found[0], found[found.lastindex or 0]


def _code_words(words: Sequence[str]) -> set[int]:
    """Return where words stand that a program runs as code: `sh -c WORD`, `ssh HOST WORDS`."""
    programs = [os.path.basename(word) for word in words]
    if "ssh" in programs:
        return set(range(programs.index("ssh") + 1, len(words)))
    code, interprets, asks = set[int](), False, False
    for index, (word, program) in enumerate(zip(words, programs, strict=True)):
        if asks and not word.startswith(("-", "+")):
            code.add(index)  # or the value of an option, as in `-euo pipefail -c CODE`: go on
            asks = False
            continue
        interprets = interprets or _INTERPRETER.fullmatch(program) is not None
        asks = asks or (interprets and re.fullmatch(r"-\w*[cer]\w*", word) is not None)
    return code


def _for_shell(command: str) -> str | None:
    """Return the first characters outside quotes that only a shell understands."""
    pieces = _QUOTED.split(command)  # bare, quoted, bare, quoted, …
    for place, piece in enumerate(pieces):
        is_bare = place % 2 == 0
        found = (_SHELL_ONLY if is_bare else _SUBSTITUTION).search(piece)
        if found is not None and (is_bare or piece.startswith('"')):
            return found[0]
    return None


def _needs_shell(what: str, command: str) -> UsageError:
    script = ""
    for piece in _QUOTED.split(command):
        quotes = {"'": "'\"{}\"'", '"': "{}"}.get(piece[:1], '"{}"')

        def variable(found: re.Match[str], quotes: str = quotes) -> str:
            name = NAMES.get(found[found.lastindex or 0])
            return found[0] if name is None else quotes.format(f"${{{name}}}")

        script += _VARIABLE.sub(variable, piece)
    return UsageError(
        f"--on-change has {what!r}, which only a shell understands",
        hint=f"--on-change {shlex.quote(f'sh -c {shlex.quote(script)}')}",
    )

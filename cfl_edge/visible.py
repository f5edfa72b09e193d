"""Make text that others wrote (class names, file names, notices) safe to show.

A control character in a name can move the cursor, change colours or hide text; a bidirectional
override shows it in another order than it has (Trojan Source, Boucher and Anderson, 2021).
"""

from __future__ import annotations

import unicodedata

# Other, control; Other, format; Other, surrogate; Separator, line; Separator, paragraph.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

JOINERS = frozenset("\u200c\u200d")  # Persian, Indic scripts and emoji families are spelt with them


def is_visible(character: str) -> bool:
    r"""Return whether a character may be shown as it is.

    Args:
        character: One code point. Letters, marks, digits, signs and spaces of any script pass.

    Example:
        >>> is_visible("é"), is_visible(" "), is_visible("\x1b"), is_visible("\u202e")
        (True, True, False, False)
    """
    return character in JOINERS or unicodedata.category(character) not in HIDDEN_CATEGORIES


def visible(text: str) -> str:
    r"""Return the text on one line, with every hidden character as its escape.

    Args:
        text: Anything, bytes that Python took from a file name without decoding them included.

    Example:
        >>> print(visible("mug\x1b[31m\n"))
        mug\x1b[31m\n
    """
    return "".join(
        character if is_visible(character) else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def visible_lines(text: str) -> list[str]:
    r"""Return the lines of a text, each of them `visible`; at least one.

    Args:
        text: Anything.

    Example:
        >>> visible_lines("camera gone\n  try: plug it in\a")
        ['camera gone', '  try: plug it in\\x07']
    """
    return [visible(line) for line in text.splitlines()] or [""]

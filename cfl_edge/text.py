"""Text that others wrote: one spelling of it, and nothing hidden in it where it is shown.

The same letters can be spelt in several ways ("é" as one code point, or as "e" and an accent, as
macOS names files): names are stored and compared in Unicode's form NFC.

Class names, file names and notices may hold control characters that move the cursor, change colours
or hide text; a bidirectional override shows it in another order than it has (Trojan Source, Boucher
and Anderson, 2021).
"""

from __future__ import annotations

import unicodedata

# Other, control; Other, format; Other, surrogate; Separator, line; Separator, paragraph.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Letters and marks that show nothing: two names that differ by one of them look alike.
BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
JOINERS = frozenset("\u200c\u200d")  # Persian, Indic scripts and emoji families are spelt with them


def nfc(name: str) -> str:
    r"""Return a name in Unicode's form NFC, in which equal names are equal strings.

    Example:
        >>> nfc("cafe\u0301") == "caf\u00e9"
        True
    """
    return unicodedata.normalize("NFC", name)


def is_visible(character: str) -> bool:
    r"""Return whether a character may be shown as it is.

    Args:
        character: One code point. Letters, marks, digits, signs and spaces of any script pass.

    Example:
        >>> is_visible("é"), is_visible(" "), is_visible("\x1b"), is_visible("\u202e")
        (True, True, False, False)
    """
    if unicodedata.category(character) in HIDDEN_CATEGORIES:
        return character in JOINERS
    return character not in BLANKS


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

"""What packets carry, and what is refused in it: texts are data, boards are not trusted.

Texts are short and visible, numbers finite, JSON small and shallow.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

MAX_PAYLOAD_BYTES = 1024
"""Of one packet: what a lost one costs, and what a board must keep to receive."""

MAX_TEXT = 200
"""Characters of a label or a name."""

MAX_JSON_DEPTH = 4
"""Objects and lists within each other; ours need two, the rest is for later versions."""

MAX_NUMBER = 2**53
"""Of an integer in JSON: beyond it, readers that know only doubles differ (RFC 8259, section 6)."""


def to_json(**values: Any) -> bytes:
    """Return the values as JSON without spaces, as boards expect it.

    Example:
        >>> to_json(label="mug", p=0.5)
        b'{"label":"mug","p":0.5}'
    """
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def from_json(payload: bytes) -> dict[str, Any]:
    """Return the object that the payload holds.

    Args:
        payload: UTF-8, at most 1024 bytes.

    Raises:
        ValueError: Not UTF-8, not JSON, not an object, too deep, or a value that
            `check_value` refuses.

    Example:
        >>> from_json(b'{"fps": 5}')
        {'fps': 5}
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"JSON of {len(payload)} bytes, expected at most {MAX_PAYLOAD_BYTES}")
    text = payload.decode("utf-8")
    depth = 0
    for bracket in re.findall(r"[\[{]|[\]}]", re.sub(r'"(?:\\.|[^"\\])*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_JSON_DEPTH:  # before it is parsed: the parser goes down by recursion
            raise ValueError(f"JSON deeper than {MAX_JSON_DEPTH}")
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"JSON is a {type(values).__name__}, expected an object")
    check_value(values)
    return values


def check_value(value: Any) -> None:
    """Refuse texts that are long or not visible, and numbers out of reach.

    Args:
        value: What `json.loads` returns.

    Raises:
        ValueError: Says which value.
    """
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            check_text(name)
            check_value(inner)
    elif isinstance(value, list):
        for inner in value:
            check_value(inner)
    elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # NaN is refused too
        raise ValueError(f"A number over {MAX_NUMBER}, or none at all")


def check_text(text: object, most: int = MAX_TEXT) -> None:
    r"""Refuse what is not a short text that shows what it is.

    Args:
        text: A label or a name.
        most: Characters.

    Raises:
        ValueError: Not a text, too long, or with control characters (those that turn the writing
            direction included).

    Example:
        >>> check_text("mug\x07")
        Traceback (most recent call last):
        ...
        ValueError: The text 'mug\x07' has a control character
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.80} is a {type(text).__name__}, expected a text")
    if len(text) > most:
        raise ValueError(f"A text of {len(text)} characters, expected at most {most}")
    if any(map(is_hidden, text)):
        raise ValueError(f"The text {text!r} has a control character")


def check_range(name: str, value: int, bits: int, *, least: int = 0) -> None:
    """Refuse a number that does not fit into an unsigned field.

    Args:
        name: For the error.
        value: The number.
        bits: Width of the field.
        least: Smallest number that is allowed.

    Raises:
        ValueError: Says what was expected.
    """
    if not least <= value < 1 << bits:
        raise ValueError(f"{name} is {value}, expected {least} to {(1 << bits) - 1}")


def is_hidden(character: str) -> bool:
    """Return whether a character is invisible."""
    # Control, format, surrogate, line and paragraph separators; two format characters are spelling.
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and character not in "\u200c\u200d"
    )


def get_value(values: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """Return a value of the kind that is expected.

    Args:
        values: What `from_json` returns.
        name: Its key.
        kind: Its type.
        default: For where the key is missing.

    Raises:
        ValueError: Missing, or of another kind.
    """
    value = values.get(name, default)
    if not isinstance(value, kind):
        raise ValueError(f"{name!r} is {value!r:.80}, expected a {kind.__name__}")
    return value

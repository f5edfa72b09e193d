"""The name of a backbone that is an ONNX file: its path, what is read of it, its preprocessing.

onnx:FILE?read=NODE,NODE&mean=0.5&std=0.5&scale=0.00392
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

import numpy as np

from cfl_edge.core.backbones import IMAGENET_MEAN, IMAGENET_STD
from cfl_edge.errors import UsageError

PREFIX = "onnx:"
EXAMPLE = "--backbone onnx:mobilenet.onnx, or onnx:FILE?read=NODE,NODE&mean=0.5&std=0.5"
BYTE_SCALE = 1 / 255


@dataclass(frozen=True)
class NetworkFile:
    """What `onnx:…` names.

    Args:
        path: Absolute.
        read: Names of tensors or nodes; empty chooses them by the rule of `default_points`.
        mean: Of each colour channel, subtracted after scaling.
        std: Of each colour channel, divided by.
        scale: What a pixel's value, 0 to 255, is multiplied by first.
    """

    path: Path
    read: tuple[str, ...] = ()
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = BYTE_SCALE

    @classmethod
    def parse(cls, name: str) -> NetworkFile:
        """Read a name such as `onnx:net.onnx?read=a,b&mean=0.5&std=0.5`.

        Raises:
            UsageError: A key or a value that is none.

        Example:
            >>> NetworkFile.parse("onnx:/m/net.onnx?mean=0.5&std=0.25,0.5,0.25").std
            (0.25, 0.5, 0.25)
        """
        file, _, query = name.removeprefix(PREFIX).partition("?")
        given = dict(parse_qsl(query, keep_blank_values=True))
        if not file or (unknown := given.keys() - {"read", "mean", "std", "scale"}):
            what = f"the key {min(unknown)!r}" if file else "no file"
            raise UsageError(
                f"--backbone is {name!r}, with {what}, expected onnx:FILE with read, mean, std or "
                "scale",
                hint=EXAMPLE,
            )
        return cls(
            Path(file).expanduser().absolute(),
            tuple(unquote(part) for part in given.get("read", "").split(",") if part),
            _numbers(name, "mean", given.get("mean"), IMAGENET_MEAN),
            _numbers(name, "std", given.get("std"), IMAGENET_STD),
            _numbers(name, "scale", given.get("scale"), (BYTE_SCALE,))[0],
        )

    def name(self) -> str:
        """Return the name that says all of it, of which `parse` is the inverse.

        Example:
            >>> NetworkFile(Path("/m/net.onnx"), ("a", "b")).name()[:28]
            'onnx:/m/net.onnx?read=a,b&me'
        """
        names = ",".join(quote(name, safe="/:.") for name in self.read)
        parts = {
            "read": quote(names, safe="/:.,"),  # twice: a name may have a comma
            "mean": ",".join(map(repr, self.mean)),
            "std": ",".join(map(repr, self.std)),
            "scale": repr(self.scale),
        }
        query = "&".join(f"{key}={value}" for key, value in parts.items() if value)
        return f"{PREFIX}{self.path}?{query}"


def _numbers(
    name: str, key: str, text: str | None, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Return one number for every channel, or three."""
    if text is None:
        return default
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    least = -np.inf if key == "mean" else 0
    usable = all(np.isfinite(value) and value > least for value in numbers)
    if len(numbers) not in (1, len(default)) or not usable:
        kind = "a number above 0" if key == "scale" else "a number, or one for each colour"
        raise UsageError(
            f"--backbone is {name!r}, where {key} is {text!r}, expected {kind}",
            hint=f"{key}={','.join(f'{value:.4g}' for value in default)}",
        )
    return numbers if len(numbers) == len(default) else numbers * len(default)


def moved(saved: str, asked: str, tensors: Callable[[], tuple[str, ...]]) -> str:
    """Return the name of a saved backbone at the place that was asked for.

    Args:
        saved: Name of the backbone that a model was learned with.
        asked: Of `--backbone`: what it does not say is as it was.
        tensors: Returns what it reads, where it calls that by other names: of nodes, or in another
            order.

    Raises:
        UsageError: It asks for something else.
    """
    was, wanted = NetworkFile.parse(saved), NetworkFile.parse(asked)
    _, _, query = asked.partition("?")
    for key in dict(parse_qsl(query)):
        before, now = getattr(was, key), getattr(wanted, key)
        if before != now and (key != "read" or before != tensors()):
            raise UsageError(
                f"--backbone has {key}={now}, but the model was learned with {before}",
                hint=f"--backbone {PREFIX}{wanted.path}, or choose another --model folder",
            )
    return replace(was, path=wanted.path).name()


def without_folder(backbone: str) -> str:
    """Return the name of a backbone without the folders of this machine.

    Example:
        >>> without_folder("onnx:/home/me/net.onnx?read=a"), without_folder("none")
        ('onnx:net.onnx?read=a', 'none')
    """
    if not backbone.startswith(PREFIX):
        return backbone
    file, mark, query = backbone.removeprefix(PREFIX).partition("?")
    return f"{PREFIX}{Path(file).name}{mark}{query}"

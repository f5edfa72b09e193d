"""What an exported file knows of its layers one by one: where a prediction may stop early.

The scores are a sum over sources of features (the backbone's intermediate features, each layer, the
backbone's pooled features). The label embeddings hold the weights of each source, but only the sum
of the biases; the file's metadata has the biases apart, and in which order the sources are
computed. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ModelDamagedError

Matrix = npt.NDArray[np.float32]

EXITS = "cfl_edge.exits"
NEVER = -1e4  # the bias of a class that has no samples, as in core/class_statistics.py


@dataclass(frozen=True, slots=True, eq=False)
class ExitTable:
    """The sources of a file's scores.

    Args:
        names: Of R sources, in the order of the features.
        channels: C_r of each.
        order: Numbers of the sources in the order in which they are computed; the last is that of
            the whole network, where nothing is left to save.
        biases: What each source adds to the scores beside its features' products, (R, Z).
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    order: tuple[int, ...]
    biases: Matrix

    def to_text(self) -> str:
        """Return the table as a value of a file's metadata.

        Example:
            >>> ExitTable(("a", "b"), (3, 2), (1, 0), np.zeros((2, 1), np.float32)).to_text()
            '{"names": ["a", "b"], "channels": [3, 2], "order": [1, 0], "biases": [[0.0], [0.0]]}'
        """
        fields = {
            "names": self.names,
            "channels": self.channels,
            "order": self.order,
            "biases": [[float(f"{value:.9g}") for value in row] for row in self.biases],
        }
        return json.dumps(fields, ensure_ascii=False)

    def rows(self, embeddings: Matrix) -> list[Matrix]:
        """Return the label embeddings of each source, (C_r, Z).

        Args:
            embeddings: Of all sources and the constant 1, (F, Z).
        """
        return np.split(embeddings[:-1], np.cumsum(self.channels)[:-1])


def parse_exits(metadata: Mapping[str, str], classes: int, path: Path) -> ExitTable | None:
    """Return the table of a file, None where it has none.

    Args:
        metadata: Of the file.
        classes: Z.
        path: Named in errors.

    Raises:
        ModelDamagedError: It has no usable values.
    """
    if EXITS not in metadata:
        return None
    try:
        fields = json.loads(metadata[EXITS])
        names, channels, order = (tuple(fields[key]) for key in ("names", "channels", "order"))
        biases = np.array(fields["biases"], np.float32)
        sources = len(names)
        usable = (
            sources >= 2
            and all(isinstance(name, str) for name in names)
            and len(channels) == sources
            and all(isinstance(channel, int) and channel > 0 for channel in channels)
            and sorted(order) == list(range(sources))
            and biases.shape == (sources, classes)
            and bool(np.isfinite(biases).all())
        )
    except (ValueError, TypeError, KeyError) as error:
        raise _unusable(path, str(error)) from error
    if not usable:
        raise _unusable(path, f"{len(channels)} sources, biases {biases.shape}, {classes} classes")
    return ExitTable(names, channels, order, biases)


def change_exits(table: ExitTable, before: Matrix, embeddings: Matrix) -> ExitTable | None:
    """Return the table that fits new label embeddings; None where it cannot be known.

    Classes may come in another order, or go; new ones must have no samples yet.

    Args:
        table: That of before.
        before: The label embeddings of then, (F, Z_old).
        embeddings: The new ones, (F, Z).
    """
    places = {column.tobytes(): number for number, column in enumerate(before.T.copy())}
    columns = []
    for column in embeddings.T.copy():
        if column.tobytes() in places:
            columns.append(table.biases[:, places[column.tobytes()]])
        elif column[-1] <= NEVER:
            columns.append(np.full(len(table.names), NEVER, np.float32))
        else:
            return None
    return ExitTable(table.names, table.channels, table.order, np.stack(columns, axis=1))


def _unusable(path: Path, what: str) -> ModelDamagedError:
    return ModelDamagedError(
        f"{path} has metadata that cannot be used ({EXITS}: {what})",
        hint=f"cfl-edge export DIR -o {path.parent}",
    )

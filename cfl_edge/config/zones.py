"""The file of `--zones`: regions of one camera, each of which is a question of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cfl_edge.config.network import FitName, RegionText
from cfl_edge.config.settings import LookWhen, Settings, explained, read_toml, where_it_stands
from cfl_edge.errors import UsageError
from cfl_edge.text import nfc, visible

MOST_ZONES = 16  # each is a model of its own: memory, and a share of the time of a frame
NAME = re.compile(r"\w[\w-]{0,31}")  # part of labels, folders and topics


class Zone(Settings):
    """One zone: what it looks at, and when."""

    region: RegionText
    fit: FitName = None
    look: LookWhen = "every"


KEYS = {name: name for name in Zone.model_fields}  # as errors speak of them


def read_zones(path: Path) -> dict[str, Zone]:
    """Read the zones of a file, in its order.

    Args:
        path: TOML with a table for each zone, `[door]`, and in it `region`, and `fit` and `look`
            where they differ from those of the command line.

    Raises:
        UsageError: It cannot be read, is not TOML, has no zone or too many, or one is not right.

    Example:
        >>> read_zones(Path("nowhere.toml"))
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --zones nowhere.toml cannot be read: No such file or directory
          try: ls -l nowhere.toml
    """
    tables = read_toml("--zones", path, "a table [door] with a line region = '0,0,0.5,1'")
    if not 1 <= len(tables) <= MOST_ZONES:
        raise UsageError(
            f"--zones {path} has {len(tables)} zones, expected 1 to {MOST_ZONES}",
            hint=f"[door] and a line region = '0,0,0.5,1' in {path}",
        )
    zones: dict[str, Zone] = {}
    for name, table in tables.items():
        taken = {known.casefold() for known in zones}  # Door and door are one folder on FAT
        if NAME.fullmatch(nfc(name)) is None or nfc(name).casefold() in taken:
            raise UsageError(
                f"--zones {path} has a zone '{visible(name[:64])}', expected a name of its own, "
                "also in capitals: up to 32 letters, digits, _ and -",
                hint=f"[door] in {path}",
            )
        zones[nfc(name)] = _zone(path, name, table)
    return zones


def _zone(path: Path, name: str, table: Any) -> Zone:
    hint = f"[{name}] and a line region = '0,0,0.5,1' in {path}"
    if not isinstance(table, dict):
        raise UsageError(
            f"--zones {path}: {visible(name)} is {visible(str(table)[:64])}, expected a table",
            hint=hint,
        )
    try:
        return Zone.model_validate(table)
    except ValidationError as error:
        problem = explained(Zone, error, "learn", KEYS).problem
    except UsageError as error:  # of a region
        problem = where_it_stands(error, KEYS).problem
    raise UsageError(f"--zones {path}, zone {visible(name)}: {problem}", hint=hint)

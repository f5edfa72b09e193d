"""Zones of one camera: each has a model of its own, below the folder that is named.

They share the stream, and take turns at each frame; everything else is as with one model.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cfl_edge.config.learn import LearnSettings, RunSettings
from cfl_edge.config.zones import read_zones
from cfl_edge.errors import ModelError, UsageError, export_command, quoted
from cfl_edge.frame.region import Reduce
from cfl_edge.loop.debounce import Stability
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.session import SessionOptions
from cfl_edge.model.last_stream import is_untaught, learn_command, zones_file
from cfl_edge.model.store import ONNX_FOLDER, Store
from cfl_edge.notices import Notice
from cfl_edge.onnx.metadata import MODEL_FILE, model_file
from cfl_edge.web.options import MAX_PORT

S = TypeVar("S", LearnSettings, RunSettings)


@dataclass(frozen=True)
class Zone(Generic[S]):
    """One model of a camera.

    Args:
        name: Of the zone; None where the model is the camera's only one.
        settings: Its own.
        number: Its place among the zones, from 0.
        part: Of time and disk that is its own, 0 to 1.
    """

    name: str | None
    settings: S
    number: int = 0
    part: float = 1.0

    def on_notice(self, then: Notice) -> Notice:
        """Return an `on_notice` that says which zone it speaks of."""
        return then if self.name is None else lambda text: then(f"{self.name}: {text}")

    def state(self, state: str | None) -> str | None:
        """Return what is told of a state where zones share an output: `door/open`."""
        return state if self.name is None else f"{self.name}/{state or ''}"

    def port(self, port: int) -> int:
        """Return the port of its own server, of which each zone has one; 0 is any free one.

        Raises:
            UsageError: There is no such port.
        """
        if port + self.number > MAX_PORT:
            raise UsageError(
                f"The port of zone {self.name} would be {port + self.number}: zones have ports in "
                f"a row, expected at most {MAX_PORT}",
                hint=f"a port of at most {MAX_PORT - self.number}",
            )
        return port and port + self.number

    def session_options(self, gaze: Gaze) -> SessionOptions:
        """Return how its session goes through the stream.

        Args:
            gaze: Of its model.
        """
        settings = self.settings
        return SessionOptions(
            settings.max_frames,
            settings.reject,
            stability=Stability(settings.stable_frames, settings.stable_s, settings.hold_s),
            gaze=gaze,
            zone=self.name,
        )


def zones_to_learn(settings: LearnSettings) -> list[Zone[LearnSettings]]:
    """Return what `learn` learns: one model, or one for each zone of `--zones`.

    Raises:
        UsageError: See `read_zones`; options that are not for zones.
        ModelError: The folder holds a model.
    """
    if settings.zones is None:
        return [Zone(None, settings)]
    zones = read_zones(settings.zones)
    _check(settings, list(zones))
    part = 1 / len(zones)
    budget_ms, memory_mib = settings.learn_budget_ms, settings.memory_mib
    made = []
    for number, (name, zone) in enumerate(zones.items()):
        own = {
            "model": settings.model / name,
            "region": zone.region,
            "fit": zone.fit or settings.fit,
            "look": zone.look if "look" in zone.model_fields_set else settings.look,
            "learn_budget_ms": budget_ms if budget_ms == "auto" else part * budget_ms,
            "memory_mib": memory_mib and part * memory_mib,
            "write_gb_per_day": part * settings.write_gb_per_day,
            "publish": settings.publish and settings.publish.parent / name / settings.publish.name,
        }
        made.append(Zone(name, settings.model_copy(update=own), number, part))
    return made


def _check(settings: LearnSettings, names: Sequence[str]) -> None:
    example = f"{names[0]}/open"
    if settings.region is not None:
        raise UsageError(
            f"--region is {settings.region} and --zones is {settings.zones}, expected one of them",
            hint=f"region = '{settings.region}' in a table of {settings.zones}",
        )
    if settings.labels_from in ("dirs", "keys"):
        raise UsageError(
            f"--labels-from {settings.labels_from} names one class at a time, and {settings.zones} "
            f"has zones: expected http, serial or --ui, or --label {example}",
            hint=f"--labels-from http, then POST {json.dumps({'label': example})} to /api/v1/label",
        )
    zone, _, name = (settings.label or example).partition("/")
    if zone not in names or not name:
        raise UsageError(
            f"--label is {settings.label}, expected zone/label with a zone of {settings.zones}: "
            f"{', '.join(names)}",
            hint=f"--label {example}",
        )
    if Store(settings.model).exists():
        raise ModelError(
            f"{settings.model} holds a model, expected a folder for the models of zones",
            hint=f"--model {quoted(settings.model.with_name(settings.model.name + '-zones'))}",
        )


def left_over(folder: Path, file: Path | None = None) -> list[str]:
    """Return a sentence on each model below a folder that is no zone of its file any more.

    Args:
        folder: Of the models of zones.
        file: The file of zones; None for the one that each of the models learned with last.
    """
    said = []
    for place in sorted({place.parent for place in folder.glob("*/checkpoint-*")}):
        named = file or zones_file(place)
        try:
            zones = {} if named is None else read_zones(named)
        except UsageError:  # it is gone, or is being edited
            continue
        if named is not None and place.name not in zones:
            untaught = [name for name in zones if is_untaught(folder / name)]
            kept = "".join(
                f", and {_move(place, folder / new, file is not None)} keeps it as zone {new}"
                for new in untaught[:1]
            )
            said.append(
                f"zone {place.name} is in {folder} but not in {named}: it was renamed there or "
                f"taken out; {shlex.join(['rm', '-r', str(place)])} forgets it{kept}"
            )
    return said


def _move(place: Path, new: Path, is_learning: bool) -> str:
    """Return the command that moves a model to a zone without one, whose folder may be there.

    `learn` makes a model of each zone: `mv` alone would then put the other one into its folder.
    """
    emptied = ["rm", "-rf", str(new)] if is_learning or os.path.lexists(new) else []
    moved = shlex.join(["mv", str(place), str(new)])
    return f"{shlex.join(emptied)} && {moved}" if emptied else moved


def zones_to_run(settings: RunSettings) -> list[Zone[RunSettings]]:
    """Return what `run` runs: one file, or those of the zones below a folder, by their names."""
    if os.path.isfile(file := model_file(settings.model)):
        return [Zone(None, settings.model_copy(update={"model": file}))]
    try:
        names = sorted(set(os.listdir(settings.model)) - {ONNX_FOLDER})
    except OSError:  # a file; what else it may be, is said where it is opened
        names = []
    files = {}
    for name in names:
        for path in (Path(name) / MODEL_FILE, Path(name) / ONNX_FOLDER / MODEL_FILE):
            if os.path.isfile(settings.model / path):
                files[name] = settings.model / path
    if not files:
        return [Zone(None, settings)]
    return [
        Zone(name, settings.model_copy(update={"model": path}), number, 1 / len(files))
        for number, (name, path) in enumerate(files.items())
    ]


def not_run(folder: Path, zones: Sequence[Zone[RunSettings]]) -> list[str]:
    """Return a sentence on each zone below a folder that has no ONNX file, where others have one.

    Args:
        folder: Of the models of zones.
        zones: Of `zones_to_run`.
    """
    names, said = {zone.name for zone in zones}, []
    places = sorted({place.parent for place in folder.glob("*/checkpoint-*")})
    for place in [] if None in names else places:
        if place.name not in names:
            lacks, remedy = "class", learn_command(place)
            if not is_untaught(place):
                lacks, remedy = "ONNX file", export_command(place)
            said.append(f"zone {place.name} has no {lacks} yet, and is not run: {remedy}")
    return said


def reduction(gazes: Sequence[Gaze]) -> Reduce:
    """Return how far JPEGs may be shrunk for all models of a camera."""
    return lambda full_px: min(gaze.reduction(full_px) for gaze in gazes)

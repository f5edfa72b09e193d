"""What a board gives to a merged model: the sums of its classes, no picture and no layer. No torch.

A contribution is a saved model that holds nothing but counts, means and scatter, and a few stored
samples by which the merged model tells what is unknown. Which tensors these are follows from the
declaration in the manifest (`cfl_edge.learner.state`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cfl_edge.defaults import TRIANGLE_PANEL
from cfl_edge.errors import DataError, ModelDamagedError, UsageError
from cfl_edge.frame.region import View
from cfl_edge.learner.saved_checks import Count, Origin, Text, check_saved, damaged
from cfl_edge.learners import LEARNERS, Merged
from cfl_edge.model import class_table
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.last_stream import ORIGIN, REPORT
from cfl_edge.model.tensors import network_digest
from cfl_edge.names import check_name
from cfl_edge.text import visible

Array = npt.NDArray[Any]

KEY = REPORT  # in the manifest
SUMMED = "boards"  # in it: generation of each board, where it is the sum of several
ORIGINS = "origins"  # in it: of the models whose frames it has
MOST_SAMPLES = 1 << 24  # of a class: a count in float32 cannot go on beyond it
MOST_FRAMES = 1 << 36  # of a class, learned or not: 70 years of a camera
KNOWN = "known."  # samples by which `unknown` is measured
SAMPLES = {"group": "state", "labels": f"{KNOWN}labels", "prefix": KNOWN}
MOST_KNOWN = 64  # of a board: half a MiB with 2,048 numbers
MOST_BOARDS = 1 << 15  # in a sum: their names have to fit into a manifest
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _is_name(name: str) -> str:
    try:
        if check_name(name, kind=DataError) == name:
            return name
    except DataError as error:
        raise ValueError(error.problem) from error
    raise ValueError(f"the name {name!r} is not in Unicode's form NFC")


_Name = Annotated[str, AfterValidator(_is_name)]
BoardName = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
_Boards = Annotated[dict[BoardName, Count], Field(min_length=1, max_length=MOST_BOARDS)]


class _About(BaseModel):
    """Of a contribution: whose it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    board: BoardName
    generation: Count
    network: Text
    aliases: dict[_Name, _Name]
    min_count: Count = 0
    boards: _Boards | None = None
    origins: Annotated[list[Origin], Field(max_length=MOST_BOARDS)] = []


def check_board(name: str, example: str = "--board hall") -> str:
    """Return the name of a board, which is also that of a folder.

    Args:
        name: Letters, digits, dots, dashes and underscores.
        example: How a name is given, for the hint.

    Raises:
        UsageError: It has other characters, or more than 64.

    Example:
        >>> check_board("hall-2")
        'hall-2'
    """
    if not is_board(name):
        raise UsageError(
            f"{name!r} cannot be the name of a board, expected letters, digits, '.', '-' and '_'",
            hint=example,
        )
    return name


def is_board(name: str) -> bool:
    """Return whether a board can have this name.

    Example:
        >>> is_board("hall-2"), is_board(".~tmp~")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def contribution(saved: Saved, board: str, where: str, *, min_count: int = 0) -> Saved:
    """Return what a board gives to a merged model.

    Args:
        saved: Its model, from `Store.load`; not changed.
        board: Its name.
        where: Its folder, for errors.
        min_count: Classes of fewer frames are left out; what they added to the covariance that all
            classes share stays in it.

    Returns:
        A saved model to store or to send; `manifest["contribution"]` says whose it is.

    Raises:
        ModelDamagedError: Values that no learner writes: NaN, counts that are no counts.
        DataError: Its learner has no statistics that add up, or it went on from a merged model.
    """
    with _named(where):
        check_saved(saved)
    manifest, state = saved.manifest, saved.tensors["state"]
    network = manifest["network"]
    learner, backbone = network["learner"], network["backbone"]
    merges = _merges(learner)
    if merges is None or (merges.needs_backbone and backbone == "none"):
        without = "" if merges is None else " without a backbone"
        raise DataError(
            f"{where} was learned with --learner {learner}{without}, whose classifier does not "
            "follow from sums over its samples",
            hint="learn with --learner joint, slda or ncm, or cfl on a backbone",
        )
    if others := manifest["counters"].get("merged_boards"):
        raise DataError(
            f"{where} went on from a merged model: what it has of {', '.join(map(str, others))} "
            "would count twice",
            hint=f"merge the folder that has {where}'s own frames alone",
        )
    prefix = merges.sums
    declared = manifest["tensors"]
    rows = {name: rule for name, rule in declared["rows"].items() if _is_sum(name, rule, prefix)}
    kept = {*rows, *(rule["scatter"] for rule in rows.values() if "scatter" in rule)}
    tensors = {name: state[name] for name in kept}
    samples = [kind for kind in declared["samples"] if kind == SAMPLES]
    if samples:
        tensors |= few_samples(state, MOST_KNOWN)
    drawn = backbone == "none"  # its layers stay as they were drawn, and are what is read
    found = Saved(
        {
            "classes": list(manifest["classes"]),
            "network": {**network},
            "counters": {key: manifest["counters"][key] for key in ("runs", "frames_learned")}
            | {"gradient_steps": 0},
            "tensors": {"rows": rows, "samples": samples, "derived": []},
            KEY: {
                "board": board,
                "generation": saved.number,
                "aliases": {},
                "network": network_digest(state) if drawn else "",
                ORIGINS: list(filter(None, [manifest["counters"].get(ORIGIN)])),
            },
        },
        {"state": tensors, "replay": {}},
    )
    with _named(where):
        _require_sums(found, prefix)
    without_rare(found, min_count)
    return found


def without_rare(found: Saved, min_count: int) -> None:
    """Leave classes of fewer frames out of a contribution, in place, and note the limit."""
    found.manifest[KEY]["min_count"] = min_count
    seen = found.tensors["state"]["seen"].tolist()
    for name, frames in zip(list(found.manifest["classes"]), seen, strict=True):
        if frames < min_count:
            class_table.remove(found, name)
            found.manifest["counters"]["frames_learned"] -= int(frames)


def boards_in(found: Saved) -> dict[str, int]:
    """Return the generation of each board whose frames a contribution has."""
    about = found.manifest[KEY]
    return dict(about.get(SUMMED) or {about["board"]: about["generation"]})


def which(found: Saved) -> list[int]:
    """Return what tells a report of a board from its others: generation, and its limit."""
    about = found.manifest[KEY]
    return [about["generation"], about.get("min_count", 0)]


def origins_in(found: Saved) -> set[str]:
    """Return of which models a contribution has frames: marks that are no names of boards."""
    return {f"~{origin}" for origin in found.manifest[KEY].get(ORIGINS, ())}


def _is_sum(name: str, rule: Mapping[str, Any], prefix: str) -> bool:
    """Return whether rows add up; classifier weights, of rule `mean`, follow from those that do."""
    return name.startswith((prefix, "novelty.", "seen")) and rule["merge"] != "mean"


def few_samples(state: Mapping[str, Array], most: int) -> dict[str, Array]:
    """Return stored samples by which `unknown` is measured, at most so many, evenly spaced."""
    stored = {name: array for name, array in state.items() if name.startswith(KNOWN)}
    count = len(stored[f"{KNOWN}labels"])
    if count <= most:
        return stored
    places = np.arange(most) * count // most
    return {name: array[places] for name, array in stored.items()}


def read_again(saved: Saved, where: str) -> Saved:
    """Check a contribution that was stored or sent.

    Raises:
        ModelDamagedError: It is none that `contribution` makes.
    """
    with _named(where):
        check_saved(saved)
        network, classes = saved.manifest["network"], saved.manifest["classes"]
        try:
            _About.model_validate(saved.manifest.get(KEY))
            View.parse(network["fit"], network["region"])
            for name in classes:
                _is_name(name)
        except ValidationError as error:
            place = ".".join(visible(str(part)[:64]) for part in error.errors()[0]["loc"])
            raise damaged(f"it does not say whose contribution it is ({place or KEY})") from None
        except (UsageError, ValueError) as error:
            raise damaged(error.problem if isinstance(error, UsageError) else str(error)) from None
        if (merges := _merges(network["learner"])) is None:
            raise damaged("it has a learner whose statistics do not add up")
        _require_sums(saved, merges.sums)
    return saved


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say in the error of a damaged model which one it is."""
    try:
        yield
    except ModelDamagedError as error:
        raise ModelDamagedError(
            f"{where} cannot be merged: {error.problem[0].lower()}{error.problem[1:]}",
            hint=f"leave {where} out, or restore it from a backup",
        ) from None


def renamed(saved: Saved, aliases: Mapping[str, str]) -> set[str]:
    """Give classes of a contribution the names that the merged model has for them, in place.

    Args:
        saved: Two classes that get one name become one, exactly.
        aliases: Name on a board to name in the merged model; all at once, so that names may change
            places.

    Returns:
        Which aliases were needed.
    """
    used = {name for name in aliases if name in saved.manifest["classes"]}
    for name in used:
        class_table.rename(saved, name, f"{name}\0")  # no class has such a name
    for name in sorted(used):
        into = aliases[name]
        if into in saved.manifest["classes"]:
            class_table.merge(saved, (f"{name}\0", into), into)
        else:
            class_table.rename(saved, f"{name}\0", into)
    return used


def _merges(learner: str) -> Merged | None:
    """Return how models of a learner are merged; None if they are not, or there is none such."""
    return LEARNERS[learner].merges if learner in LEARNERS else None


def _require_sums(saved: Saved, prefix: str) -> None:
    """Refuse counts and variances that no samples have."""
    state, rules = saved.tensors["state"], saved.manifest["tensors"]["rows"]
    if "seen" not in rules or saved.manifest["tensors"]["samples"] not in ([], [SAMPLES]):
        raise damaged("its statistics are not those of its learner")
    for name, rule in rules.items():
        if not _is_sum(name, rule, prefix):
            raise damaged(f"{name} does not add up")
        if rule["merge"] == "sum":
            most = MOST_SAMPLES * max(1, len(saved.manifest[KEY].get(SUMMED, ())))
            if state[name].dtype.kind in "iu":
                most = MOST_FRAMES
            _require_counts(name, state[name], saved.manifest["classes"], most)
        elif rules.get(rule.get("counts"), {}).get("merge") != "sum" or state[name].ndim > 2:
            raise damaged(f"{name} is no row of means with counts")
        if scatter := rule.get("scatter"):
            channels = state[name].shape[1] if state[name].ndim == 2 else -1
            variances = diagonal(state[scatter], channels)
            if variances is None or variances.min(initial=0.0) < 0:
                raise damaged(f"{scatter} is not a sum of squares")


def _require_counts(name: str, counts: Array, classes: list[str], most: int) -> None:
    if counts.ndim != 1 or counts.dtype.kind not in "fiu":
        raise damaged(f"{name} is no row of counts")
    wrong = (counts < 0) | (counts > most) | (counts != np.floor(counts))
    if wrong.any():
        place = int(wrong.argmax())
        raise damaged(
            f"{name} of {classes[place]!r} is {counts[place]:g}, "
            f"expected a whole number from 0 to {most}"
        )


def diagonal(triangle: Array, channels: int) -> Array | None:
    """Return the diagonal of a triangle in panels, (C,); None if its size is another.

    Example:
        >>> diagonal(np.array([1.0, 2.0, 2.0, 4.0]), 2)
        array([1., 4.])
    """
    if triangle.ndim != 1 or channels < 0:
        return None
    parts, offset = [], 0
    for start in range(0, channels, TRIANGLE_PANEL):
        end = min(start + TRIANGLE_PANEL, channels)
        panel = triangle[offset : offset + (end - start) * end]
        if panel.size != (end - start) * end:
            return None
        parts.append(panel.reshape(end - start, end)[:, start:].diagonal())
        offset += panel.size
    return np.concatenate([*parts, np.zeros(0)]) if offset == triangle.size else None

"""What a saved learner must hold before anything is built from it. No torch.

Checksums say that a file is as it was written, not by whom. Here every value that is read later has
its type and its bounds, so that a forged one is refused in one sentence.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cfl_edge.config.settings import expected
from cfl_edge.defaults import MOST_COUNT, MOST_IMAGE_PX
from cfl_edge.errors import DataError, ModelDamagedError
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.class_table import MOST_CHANGES, Verb
from cfl_edge.model.last_stream import MOST_CHARACTERS
from cfl_edge.names import require_names
from cfl_edge.text import visible

MOST_VALUE = 1e15  # of a weight or a sum: products of two stay finite
TEXT_LENGTH = 200  # the longest real ones are names of torchvision's backbones
REGION_LENGTH = 2000  # a polygon of 100 corners
NAME_LENGTH = 8192  # of an ONNX backbone: a path, and names of nodes


def _are_names(names: list[str]) -> list[str]:
    try:
        require_names(names)
    except DataError as error:
        raise ValueError(error.problem) from error
    return names


def _is_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Text = Annotated[str, Field(max_length=TEXT_LENGTH)]
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]
_Base = Annotated[list[Count], Field(min_length=2, max_length=2)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Origin = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]  # `batch_learner.ORIGIN_BYTES`


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Rule(_Strict):
    """What becomes of rows when classes change: `cfl_edge.learner.state.Rows`."""

    new: Literal["zero", "normal", "never"]
    merge: Literal["sum", "mean", "weighted"]
    counts: str | None = None
    scatter: str | None = None


class _Samples(_Strict):
    group: Literal["state", "replay"]
    labels: str
    prefix: str


class _Tensors(_Strict):
    rows: dict[str, _Rule]
    samples: list[_Samples]
    derived: list[str]


class _Loss(_Strict):
    model_config = ConfigDict(extra="allow")  # `LocalLoss` knows their names
    __pydantic_extra__: dict[str, Finite | bool]

    feat_form: Text


class _Network(_Strict):
    model_config = ConfigDict(extra="allow")  # `LearnerConfig` checks the rest

    learner: Text
    backbone: Annotated[str, Field(max_length=NAME_LENGTH)]
    layers: Text
    image_px: Annotated[int, Field(ge=1, le=MOST_IMAGE_PX)]
    fit: Text
    region: Annotated[str, Field(max_length=REGION_LENGTH)] | None
    loss: _Loss
    backbone_digest: Text


class _Bucket(_Strict):
    """Of `cfl_edge.model.write_budget`."""

    left_bytes: Finite
    write_bytes: Count
    unix_s: Finite


class _Counters(_Strict):
    model_config = ConfigDict(extra="allow")  # of whoever counts

    runs: Count
    frames_learned: Count
    gradient_steps: Count
    write_budget: dict[str, _Bucket] = {}
    stream: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = None
    zones: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = None
    origin: Origin | None = None  # of a model from before there were any
    frame_px: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None


class _Change(_Strict):
    """A change of the class table that older states follow: `cfl_edge.model.class_table.Change`."""

    checkpoint: Count
    verb: Verb
    names: Annotated[list[str], AfterValidator(_are_names)]
    into: Annotated[str, AfterValidator(lambda name: _are_names([name])[0])]


class _Journal(_Strict):
    model_config = ConfigDict(extra="allow")

    start: Count
    start_at: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None
    bases: Annotated[list[_Base], Field(max_length=100)]  # far more than `journal.MOST_BASES`
    changes: Annotated[list[_Change], Field(max_length=MOST_CHANGES)]


class _Manifest(_Strict):
    model_config = ConfigDict(extra="allow")

    classes: Annotated[list[str], AfterValidator(_are_names)]
    network: _Network
    counters: _Counters
    tensors: _Tensors
    journal: _Journal | None = None
    created: Annotated[str, AfterValidator(_is_time)] = "2000-01-01"  # before it is saved


def check_saved(saved: Saved) -> None:
    """Refuse a saved learner whose manifest or tensors cannot be what a learner wrote.

    Args:
        saved: From `Store.load`, or about to be saved.

    Raises:
        ModelDamagedError: A value of the manifest is missing, of another type or out of bounds; the
            tensors of classes and samples do not fit the classes; or a number is NaN or infinite.
    """
    try:
        manifest = _Manifest.model_validate(saved.manifest)
        _check_tensors(saved, manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:TEXT_LENGTH] for part in first["loc"])
        wrong = first.get("ctx", {}).get("error") or f"expected {expected(first)}"
        raise damaged(f"manifest.json has a {visible(place)} that does not fit: {wrong}") from None
    except ValueError as error:
        raise damaged(str(error)) from None


def damaged(what: str) -> ModelDamagedError:
    """Return the error of a saved model that cannot be used."""
    return ModelDamagedError(
        f"The saved model describes no learner of this cfl-edge: {what}",
        hint="a backup of the model folder, or learn into another folder",
    )


def not_finite(saved: Saved) -> str | None:
    """Return the name of a tensor with NaN, infinity or what becomes that; None if none has."""
    for group, tensors in saved.tensors.items():
        for name, array in tensors.items():
            if array.dtype.kind != "f" or not array.size:
                continue
            most = min(MOST_VALUE, float(np.finfo(array.dtype).max))
            if not (-most <= array.min() and array.max() <= most):  # which NaN is not either
                return f"{visible(name)} in {group}.safetensors"
    return None


def _check_tensors(saved: Saved, manifest: _Manifest) -> None:
    classes = len(manifest.classes)
    for group in ("state", "replay"):
        if group not in saved.tensors:
            raise ValueError(f"{group}.safetensors is missing")
    state = saved.tensors["state"]
    for name, rule in manifest.tensors.rows.items():
        for needed in filter(None, (name, rule.counts, rule.scatter)):
            if needed not in state:
                raise ValueError(f"state.safetensors has no tensor {visible(needed)!r}")
        if state[name].shape[:1] != (classes,):
            raise ValueError(f"{visible(name)} has {state[name].shape}, expected {classes} rows")
        is_counts = state[name].dtype.kind == "i" and state[name].ndim == 1  # moments are bytes
        counts = rule.counts or (name if is_counts else None)
        if counts is not None and (state[counts] < 0).any():
            raise ValueError(f"{visible(counts)} holds a number below 0")
    _require_whole(state.get("seen"), "seen")
    for samples in manifest.tensors.samples:
        tensors = saved.tensors[samples.group]
        _require_whole(tensors.get(samples.labels), samples.labels, below=classes)
        for name in (name for name in tensors if name.startswith(samples.prefix)):
            if tensors[name].shape[:1] != tensors[samples.labels].shape:
                raise ValueError(f"{visible(name)} and {samples.labels} differ in length")
    if found := not_finite(saved):
        raise ValueError(f"{found} is not finite")
    for name, array in state.items():
        if array.dtype.kind in "iu" and array.size and int(array.max()) > MOST_COUNT:
            raise ValueError(f"{visible(name)} holds {array.max()}, expected at most {MOST_COUNT}")


def _require_whole(array: npt.NDArray[Any] | None, name: str, below: int | None = None) -> None:
    """Refuse anything but a row of whole numbers from 0 on."""
    if array is None or array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError(f"{visible(name)} is no row of whole numbers")
    if array.size and (array.min() < 0 or (below is not None and array.max() >= below)):
        raise ValueError(
            f"{visible(name)} goes from {array.min()} to {array.max()}, expected from 0"
            + ("" if below is None else f" to {below - 1}")
        )

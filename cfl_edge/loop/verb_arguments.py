"""What each verb of a session takes: JSON values, checked before anything happens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cfl_edge.config.settings import expected
from cfl_edge.defaults import MOST_SECONDS, DeviceName
from cfl_edge.errors import UsageError
from cfl_edge.frame.region import Fit
from cfl_edge.names import check_name
from cfl_edge.stream.finder import MAX_BYTES
from cfl_edge.text import nfc, visible

MOST_FRAMES = 10_000  # named in one request: what fits into the journal is far less

MOST_PICTURE = 4 * -(-MAX_BYTES // 3)  # characters of base64, of a picture as any other

CLOCK = "Seconds of the clock until now, back to the start of the session at most."

MOST_SHOWN = 64  # characters of a value, in an error

MOST_REGION = 4096  # characters: a hundred corners in fractions

PATHS = frozenset({"out", "onnx"})
"""Arguments that name a file: for the command line on this machine, never from a network."""


def _name(text: str) -> str:
    return check_name(text, source="the name")


def _path(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise UsageError(
            f"the path is {visible(text)!r}, expected a file or folder", hint="an absolute path"
        )
    return text


NewName = Annotated[str, AfterValidator(_name)]
KnownName = Annotated[str, AfterValidator(nfc)]
LocalPath = Annotated[str, AfterValidator(_path)]
Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=1 << 53)]
FrameNumber = Annotated[int, Field(ge=0, le=1 << 53)]


class Arguments(BaseModel):
    """Arguments of a verb: those that it names, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @classmethod
    def of(cls, verb: str, given: Mapping[str, Any]) -> Self:
        """Check what was given.

        Args:
            verb: For the error.
            given: JSON values by name.

        Raises:
            UsageError: One is missing, unknown, or of another type or value.

        Example:
            >>> Add.of("add", {"name": " mug "}).name
            'mug'
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = visible(".".join(map(str, first["loc"]))[:64])
            names = ", ".join(cls.model_fields) or "nothing"
            value = visible(json.dumps(first["input"], ensure_ascii=False))
            value = value if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]}…"
            what = f"{verb}: {place} is {value}, expected {expected(first)}"
            if first["type"] == "missing":
                what = f"{verb}: {place} is missing"
            elif first["type"] == "extra_forbidden":
                what = f"{verb} takes no {place}"
            raise UsageError(what, hint=f"{verb} takes {names}") from None

    def require_one(self, verb: str, *names: str) -> None:
        """Refuse none or several of some arguments.

        Raises:
            UsageError: Not exactly one of them was given.
        """
        absent = (None, False)  # but not 0, which equals False: the newest frame is 0 s old
        given = [name for name in names if not any(getattr(self, name) is one for one in absent)]
        if len(given) != 1:
            what = " and ".join(given) if given else "none of them"
            raise UsageError(
                f"{verb} was given {what}, expected one of {', '.join(names)}",
                hint=f"{verb} with {names[0]} alone",
            )


class Nothing(Arguments):
    """Verbs without arguments."""


class Label(Arguments):
    """A label that holds from now on, without end or for so many seconds or frames."""

    label: NewName | None
    seconds: Seconds | None = None
    frames: Count | None = None


class LabelFrame(Arguments):
    """A label for one past frame: its number, or its age."""

    label: NewName
    frame: FrameNumber | None = None
    seconds_ago: Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)] | None = None


class LabelPicture(Arguments):
    """A picture, not a frame of the stream, and what it shows."""

    label: NewName
    picture: Annotated[str, Field(max_length=MOST_PICTURE)]  # JPEG or PNG in base64
    batch: Annotated[
        FrameNumber | None,
        Field(description="One of many, which are undone together; the session says nothing."),
    ] = None


class Relabel(Arguments):
    """The right label of frames that were learned: their numbers, or the last seconds."""

    label: NewName
    frames: Annotated[list[FrameNumber], Field(min_length=1, max_length=MOST_FRAMES)] | None = None
    last_s: Annotated[Seconds | None, Field(description=CLOCK)] = None


class Forget(Arguments):
    """Frames that were learned and should not have been: their numbers."""

    frames: Annotated[list[FrameNumber], Field(min_length=1, max_length=MOST_FRAMES)]


class Attention(Arguments):
    """What the newest frame is looked at for: a class, and one of the layers of the answer."""

    label: Annotated[KnownName | None, Field(description="None for the likeliest.")] = None
    layer: Annotated[KnownName | None, Field(description="None for all of them.")] = None


class Undo(Arguments):
    """How far back: seconds of the clock, frames learned, or the last hold of one label."""

    seconds: Annotated[Seconds | None, Field(description=CLOCK)] = None
    frames: Annotated[Count | None, Field(description="The last frames learned.")] = None
    hold: Annotated[
        bool, Field(description="The frames of the last label until it was let go.")
    ] = False
    across_sessions: bool = False
    device: DeviceName = "auto"


class Add(Arguments):
    """A class to be learned later."""

    name: NewName
    onnx: LocalPath | None = None


class Rename(Arguments):
    """A class, and its new name."""

    name: KnownName
    to: NewName
    onnx: LocalPath | None = None


class Merge(Arguments):
    """Classes that become one."""

    names: Annotated[list[KnownName], Field(max_length=MOST_FRAMES)]
    into: NewName
    onnx: LocalPath | None = None


class Remove(Arguments):
    """A class to be forgotten."""

    name: KnownName
    onnx: LocalPath | None = None


class Split(Undo):
    """Frames of a class among the last ones that become another class."""

    name: KnownName
    into: NewName
    onnx: LocalPath | None = None


class Region(Arguments):
    """What the model is to look at: a region as `--region` has it, and how it becomes a square."""

    region: Annotated[str, Field(max_length=MOST_REGION)] | None = None
    fit: Fit | None = None


class Look(Arguments):
    """Seconds for which every frame is looked at; 5 by default."""

    seconds: Seconds | None = None


class Export(Arguments):
    """Folder of the ONNX files; by default `onnx` in the model folder."""

    out: LocalPath | None = None


VERBS: dict[str, type[Arguments]] = {
    "label": Label,
    "unlabel": Nothing,
    "label_frame": LabelFrame,
    "label_picture": LabelPicture,
    "relabel": Relabel,
    "forget": Forget,
    "suspects": Nothing,
    "attention": Attention,
    "undo": Undo,
    "add": Add,
    "rename": Rename,
    "merge": Merge,
    "split": Split,
    "remove": Remove,
    "classes": Nothing,
    "pause": Nothing,
    "resume": Nothing,
    "look": Look,
    "region": Region,
    "save": Nothing,
    "export": Export,
    "publish": Nothing,
    "status": Nothing,
}
"""Every verb, and what it takes. Each is a method of `Verbs`."""

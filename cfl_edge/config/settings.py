"""The base of every command's options: one pydantic model declares each of them once.

A field of a `Settings` subclass is an option: its annotation has the type, the range (pydantic's
`Field`) and an `Option` with the help text. `cfl_edge.cli.declare` makes the command line from it,
`load` brings the sources of values together, and errors name the option in one line.
"""

from __future__ import annotations

import difflib
import shlex
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cfl_edge.defaults import FASTEST_HZ, SLOWEST_HZ, DeviceName
from cfl_edge.errors import UsageError, quoted
from cfl_edge.notices import size_text

ENV_PREFIX = "CFL_EDGE_"
# Read elsewhere: `run --http` and `--mqtt`, the commands of `run --on-change`, the tests.
OTHER_VARIABLES = {
    f"{ENV_PREFIX}{name}"
    for name in (
        *("HTTP_TOKEN", "MQTT_PASSWORD", "LABEL", "SCORE"),
        *("DATA", "VM", "POWER_CUTS", "SIMULATED_HOURS"),
    )
}
ORDER = {"extra_forbidden": 0, "missing": 2}  # which of pydantic's complaints is told, 1 the others
MOST_TOML_BYTES = 1 << 18  # of a file of options: /dev/zero has more
EXPECTED = {  # how those types of complaints begin, in our words
    "string_too_long": "at most {max_length} characters",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "list_": "a list",
    "missing": "a value",
    "extra_forbidden": "no such name",
    "model_": "an object",
    "dict_": "an object",
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "string_": "text",
    "path_": "a path",
    "literal_error": "{expected}",
}


@dataclass(frozen=True)
class Option:
    """What the command line shows of a field.

    Args:
        help: One sentence.
        panel: The group of `--help` that begins with it; None for that of the option before it.
        metavar: The placeholder of its value: a unit such as `MIB`, or a kind such as `URI`.
        default: What None stands for, as text: "the model's, else 16".
        flags: Its names where they do not follow from the field's: `("--out", "-o")`.
        example: A value that hints show where there is no default.
        positional: Whether it is an argument rather than an option.
        hidden: Whether `--help` leaves it out: of a command that sets it itself.
    """

    help: str
    panel: str | None = None
    metavar: str | None = None
    default: str | None = None
    flags: tuple[str, ...] = ()
    example: str | None = None
    positional: bool = False
    hidden: bool = False


class Settings(BaseModel):
    """The options of one command; unknown names and infinite numbers are refused.

    Example:
        >>> class Knock(Settings):
        ...     times: Annotated[int, Field(ge=1), Option("How often.")] = 3
        >>> load(Knock, {"times": "0"}, command="knock")
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --times is '0', expected at least 1
          try: --times 3
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


class ModelSettings(Settings):
    """The options of a command on a model; many have no other."""

    model: Annotated[Path, Option("The model folder.", positional=True)]


# Options that several commands share.
Stream = Annotated[
    str,
    Option(
        "Where frames come from: /dev/video0, rtsp://…, http://…, serial:///dev/ttyACM0, "
        "clip.mp4, folder/, 'dir/*.jpg' or demo:",
        panel="Stream",
        metavar="URI",
        example="demo:",
    ),
]
RealtimeHz = Annotated[
    float | None,
    Field(ge=SLOWEST_HZ, le=FASTEST_HZ),
    Option(
        "Replay recorded input at HZ frames per second, dropping frames when processing falls "
        "behind.",
        metavar="HZ",
        example="15",
    ),
]
MaxFrames = Annotated[
    int | None, Field(ge=1), Option("Stop once the stream has had N frames, dropped ones included.")
]
Reject = Annotated[
    float | None,
    Field(gt=0, le=1),
    Option(
        'Answer "unknown" above this novelty: the share, 0 to 1, of known images that lie nearer '
        "to their class. 0.95 refuses about 5 % of known images.",
        panel="Model",
        metavar="P",
        example="0.95",
    ),
]
Mqtt = Annotated[
    str | None,
    Option(
        "Publish to an MQTT broker, as Home Assistant reads it: mqtt://USER@HOST/PREFIX, or "
        "mqtts:// for TLS; the password is read from $CFL_EDGE_MQTT_PASSWORD.",
        metavar="URL",
    ),
]
StableFrames = Annotated[
    int, Field(ge=1), Option("Announce a class as the state once N consecutive frames show it.")
]
StableS = Annotated[
    NonNegativeFloat,
    Option(
        "Announce a class only once it has been seen for S seconds, too.", metavar="S", example="2"
    ),
]
LookWhen = Annotated[
    Literal["every", "motion"] | PositiveFloat,
    Option(
        "When the model looks: at every frame, on motion in what it looks at, or every S seconds; "
        "in between its last answer stands.",
        metavar="every|motion|S",
        example="motion",
    ),
]
HoldS = Annotated[
    NonNegativeFloat,
    Option("Keep an announced state for S seconds at least.", metavar="S", example="10"),
]
Device = Annotated[DeviceName, Option("Where the network runs.")]


def option_of(field: FieldInfo) -> Option:
    """Return the `Option` of a field.

    Raises:
        TypeError: Its annotation has none.
    """
    for entry in field.metadata:
        if isinstance(entry, Option):
            return entry
    raise TypeError(f"{field!r} needs an Option(...) in its annotation")


def flags_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Return the option names of a field, such as `("--replay-mib",)`; its own for an argument."""
    option = option_of(field)
    if option.positional:
        return (name.upper(),)
    return option.flags or (f"--{name.replace('_', '-')}",)


def load(
    model: type[S],
    given: Mapping[str, Any],
    *,
    command: str,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> S:
    """Bring the sources of values together and check each: given, environment, file, defaults.

    Args:
        model: The declaration.
        given: What the command line gave, as text or as values.
        command: Name of the command, for hints.
        config: A TOML file with more values, or None.
        environ: Variables `CFL_EDGE_…` that count, or None.

    Raises:
        UsageError: A file that cannot be read, an unknown key, a missing or wrong value.
    """
    values = {} if config is None else read_toml("--config", config, "lines such as epochs = 2")
    origins = {name: f"{name} in {config}" for name in values}
    for name in model.model_fields:
        variable = ENV_PREFIX + name.upper()
        value = (environ or {}).get(variable)
        if value is not None:
            values[name], origins[name] = value, variable
    for name in given:
        origins.pop(name, None)
    values |= given
    for name, value in values.items():
        field = model.model_fields.get(name)
        # pathlib takes an empty text for the current folder
        if value == "" and field and Path in (field.annotation, *get_args(field.annotation)):
            shown, hint = _in_hints(name, field, command, origins)
            raise UsageError(f"{shown} is empty, expected a path", hint=hint)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explained(model, error, command, origins, _typed(model, given)) from None
    except UsageError as error:  # of a validator, which speaks of the option
        raise where_it_stands(error, origins) from None


def where_it_stands(error: UsageError, origins: Mapping[str, str]) -> UsageError:
    """Let an error name the key of a file or the variable that has the value, not the option.

    Args:
        error: Such as "--region is 'x', expected …".
        origins: Where values stand that the command line did not give, by name.

    Example:
        >>> where_it_stands(UsageError("--fit is 7", hint="--fit pad"), {"fit": "fit in a.toml"})
        UsageError('fit in a.toml is 7')
    """
    for key, origin in origins.items():
        flag = f"--{key.replace('_', '-')}"
        if error.problem.startswith(f"{flag} "):
            hint = error.hint
            if hint.startswith(f"{flag} "):
                hint = assigned(key, origin, hint.removeprefix(f"{flag} "))
            return UsageError(origin + error.problem.removeprefix(flag), hint=hint)
    return error


def assigned(key: str, origin: str, value: object) -> str:
    """Return how a value is given where another stands now: in a file, or by a variable."""
    if origin.startswith(ENV_PREFIX):
        return f"{origin}={shlex.quote(str(value))}"
    value = str(value) if isinstance(value, Path) else value
    return f"{key} = {str(value).lower() if isinstance(value, bool | int | float) else repr(value)}"


def _in_hints(
    key: str, field: FieldInfo, command: str, origins: Mapping[str, str]
) -> tuple[str, str]:
    """Return how a field is called where it was given, and what to write there."""
    name = origins.get(key, flags_of(key, field)[0])
    default = option_of(field).example or field.get_default(call_default_factory=True)
    if default in (None, "", []) or field.is_required():
        return name, f"cfl-edge {command} --help"
    return name, assigned(key, name, default) if key in origins else f"{name} {default}"


def _typed(model: type[Settings], given: Mapping[str, Any]) -> str:
    """Return what the command line gave, as it can be typed again."""
    words: list[str] = []
    fields = sorted(model.model_fields.items(), key=lambda one: not option_of(one[1]).positional)
    for name, field in fields:
        value = given.get(name)
        if value is None or value is False:
            continue
        flag = [] if option_of(field).positional else [flags_of(name, field)[0]]
        values = value if isinstance(value, list) else [value]
        words += flag if value is True else [part for one in values for part in (*flag, str(one))]
    return "".join(f" {shlex.quote(word)}" for word in words)


def read_toml(option: str, path: Path, hint: str) -> dict[str, Any]:
    """Read a TOML file that an option names.

    Args:
        option: For errors: `--config`.
        path: The file.
        hint: Tells what a right one has.

    Raises:
        UsageError: It cannot be read, is too large or is not TOML.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_TOML_BYTES + 1)
        if len(text) > MOST_TOML_BYTES:
            raise UsageError(
                f"{option} {path} has more than {size_text(MOST_TOML_BYTES)}, expected a file of "
                "options",
                hint=hint,
            )
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # ValueError: no TOML, no UTF-8, too many digits
        raise UsageError(f"{option} {path} is not TOML: {error}", hint=hint) from None
    except OSError as error:
        raise UsageError(
            f"{option} {path} cannot be read: {error.strerror}", hint=f"ls -l {quoted(path)}"
        ) from None


def explained(
    model: type[Settings],
    error: ValidationError,
    command: str,
    origins: Mapping[str, str],
    typed: str = "",
) -> UsageError:
    """Turn pydantic's complaints into one line in the words of the command line.

    Args:
        model: The declaration.
        error: An unknown name in it comes first: it may be what is missing, misspelt.
        command: Name of the command.
        origins: Where values stand that the command line did not give.
        typed: What the command line gave.
    """
    first = min(error.errors(), key=lambda one: ORDER.get(one["type"], 1))
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = list(model.model_fields)
        near = difflib.get_close_matches(key, known, n=1)
        return UsageError(
            f"There is no setting {origins.get(key, repr(key))}",
            hint=f"{near[0]} = …" if near else f"one of {', '.join(known)}",
        )
    field = model.model_fields[key]
    name, hint = _in_hints(key, field, command, origins)
    if first["type"] == "missing":
        if example := option_of(field).example:
            hint = f"cfl-edge {command}{typed} {flags_of(key, field)[0]} {example}"
        return UsageError(f"{name} is missing", hint=hint)
    # A value of several kinds ("auto" or a number) has a complaint of each.
    own = [one for one in error.errors() if one["loc"][:1] == first["loc"][:1]]
    wanted = " or ".join(dict.fromkeys(map(expected, own)))
    return UsageError(f"{name} is {first['input']!r}, expected {wanted}", hint=hint)


def expected(complaint: ErrorDetails) -> str:
    """Return what pydantic expected, in the words of every other error."""
    for kind, words in EXPECTED.items():
        if complaint["type"].startswith(kind):
            return words.format(**complaint.get("ctx", {}))
    return complaint["msg"].removeprefix("Input should be ")


def unknown_variables(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return a sentence for each variable `CFL_EDGE_…` that nothing reads.

    Args:
        environ: The environment.
        known: Names of settings.

    Example:
        >>> unknown_variables({"CFL_EDGE_STREM": "demo:"}, ["stream"])
        ['CFL_EDGE_STREM is ignored: there is no such variable; CFL_EDGE_STREAM is near']
    """
    names = [ENV_PREFIX + name.upper() for name in known]
    sentences = []
    for variable in sorted(environ):
        if variable.startswith(ENV_PREFIX) and variable not in {*names, *OTHER_VARIABLES}:
            near = difflib.get_close_matches(variable, names, n=1)
            sentences.append(f"{variable} is ignored: there is no such variable")
            sentences[-1] += f"; {near[0]} is near" if near else ""
    return sentences

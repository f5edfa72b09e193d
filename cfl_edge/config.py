"""Settings of `learn`: command line before environment before file before defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, Field, NonNegativeFloat, PositiveInt, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cfl_edge.errors import UsageError
from cfl_edge.labels.ring import RING_S
from cfl_edge.stream.options import FASTEST_HZ, SLOWEST_HZ, Order


class LearnSettings(BaseSettings):
    """Every option of `cfl-edge learn`.

    An option `--replay-mib 8` is `CFL_EDGE_REPLAY_MIB=8` in the environment and `replay_mib = 8`
    in the file that `--config` names. None leaves the choice to the model or the default.
    """

    model_config = SettingsConfigDict(env_prefix="CFL_EDGE_", extra="forbid")

    stream: str
    model: Path = Path("runs/model")
    label: str | None = None
    labels_from: Literal["dirs", "keys", "http", "serial"] | None = None
    labels_port: int = Field(8765, ge=0, le=65535)
    label_delay: float = Field(0.0, ge=0, le=RING_S)
    learn_flagged: bool = False
    order: Order = "as-is"
    epochs: int = Field(1, ge=1)
    realtime: float | None = Field(None, ge=SLOWEST_HZ, le=FASTEST_HZ)
    reject: float | None = Field(None, gt=0, le=1)
    learner: (
        Literal[
            "cfl",
            "slda",
            "ncm",
            "imprint",
            "knn",
            "last-layer-sgd",
            "bp",
            "bp-replay",
            "layer-bp",
        ]
        | None
    ) = None
    backbone: str | None = None
    layers: str | None = None
    image: int | None = Field(None, ge=8, le=1024)
    replay_mib: float | None = Field(None, gt=0, allow_inf_nan=False)
    journal_mib: float | None = Field(None, ge=0, allow_inf_nan=False)
    memory_mib: float | None = Field(None, gt=0, allow_inf_nan=False)
    optimizer: Literal["adamw", "momentum", "sgd"] | None = None
    chunk: Literal["auto"] | PositiveInt = "auto"
    learn_budget_ms: Literal["auto"] | Annotated[NonNegativeFloat, AllowInfNan(False)] = "auto"
    max_frames: int | None = Field(None, ge=1)
    checkpoint_s: float = Field(30.0, gt=0)
    write_gb_per_day: float = Field(4.0, gt=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    export: bool = True
    publish: Path | None = None
    publish_seconds: float = Field(60.0, gt=0, allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; `toml_file` is set by `load_settings`."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None, **given: Any) -> LearnSettings:
    """Bring the sources together and check every value.

    Args:
        config: A TOML file, or None.
        given: What the command line gave; None values count as not given.

    Raises:
        UsageError: A file that cannot be read, an unknown key, or a value out of range.

    Example:
        >>> load_settings(None, stream="demo:", model="runs/demo", epochs=2).epochs
        2
    """
    given = {key: value for key, value in given.items() if value is not None}
    if config is not None and not config.is_file():
        raise UsageError(f"--config names {config}, which is no file", hint="a TOML file")

    class Settings(LearnSettings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return Settings(**given)
    except ValidationError as error:
        raise _explained(error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{config} is not TOML: {error}", hint="lines such as epochs = 2"
        ) from None


def _explained(error: ValidationError) -> UsageError:
    """Turn pydantic's first complaint into one line of the command line's words."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else "a setting"
    option = "--" + key.replace("_", "-")
    if first["type"] == "missing":
        return UsageError(f"{option} is missing", hint="cfl-edge learn --stream demo: --model DIR")
    if first["type"] == "extra_forbidden":
        known = ", ".join(LearnSettings.model_fields)
        return UsageError(f"There is no setting {key!r}", hint=f"one of {known}")
    # A value of several kinds ("auto" or a number) has a complaint of each.
    own = [one["msg"] for one in error.errors() if one["loc"][:1] == first["loc"][:1]]
    expected = " or ".join(message.removeprefix("Input should be ") for message in own)
    return UsageError(
        f"{option} is {first['input']!r}, expected {expected}", hint="cfl-edge learn --help"
    )

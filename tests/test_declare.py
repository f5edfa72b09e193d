"""Options are declared once: in the model of a command's settings."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from command_line import assert_error, cfl_edge
from pydantic import Field
from typer.testing import CliRunner

from cfl_edge.cli.app import app
from cfl_edge.cli.declare import command, parameters_of
from cfl_edge.config.learn import LearnSettings
from cfl_edge.config.settings import Option, Settings, load, option_of
from cfl_edge.errors import UsageError
from cfl_edge.view.reporter import Reporter


class BakeSettings(Settings):
    cake: Annotated[Path, Option("The [round] tin.", positional=True)]
    extras: Annotated[list[str], Option("What goes in.", positional=True)]
    oven: Annotated[Literal["gas", "electric"], Option("Kind of oven.")]
    minutes: Annotated[int, Field(ge=1, le=90), Option("Time [s] in the oven.", metavar="MIN")] = 40
    heat: Annotated[float | None, Field(gt=0), Option("Its heat.", default="the recipe's")] = None
    fan: Annotated[bool, Option("Turn the fan on.")] = False
    out: Annotated[str, Option("The plate.", flags=("--out", "-o"))] = "table"


class WiderSettings(LearnSettings):
    patience: Annotated[int, Field(ge=0), Option("Frames to wait.", "Labels", "N")] = 5


def bakery(**options: bool) -> tuple[typer.Typer, list[BakeSettings]]:
    baked: list[BakeSettings] = []
    kitchen = typer.Typer()

    @kitchen.callback()
    def _kitchen() -> None:
        pass

    @command(kitchen, **options)
    def bake(settings: BakeSettings, reporter: Reporter) -> None:
        """Bake a cake."""
        baked.append(settings)
        reporter.summary({"minutes": settings.minutes}, ["baked"])

    return kitchen, baked


def bake(*words: str, **options: bool) -> BakeSettings:
    kitchen, baked = bakery(**options)
    result = CliRunner().invoke(kitchen, ["bake", *words])
    if result.exception is not None:
        raise result.exception
    return baked[0]


def test_text_becomes_what_was_declared() -> None:
    assert bake("tin", "nuts", "jam", "--oven", "gas") == BakeSettings(
        cake=Path("tin"), extras=["nuts", "jam"], oven="gas"
    )
    words = ("tin", "nuts", "--oven", "electric", "--minutes", "7", "--heat", "2.5", "--fan")
    assert bake(*words, "-o", "plate").model_dump(exclude={"cake", "extras"}) == {
        "oven": "electric",
        "minutes": 7,
        "heat": 2.5,
        "fan": True,
        "out": "plate",
    }


def test_json_is_an_option_of_every_command() -> None:
    kitchen, _ = bakery()
    words = ["bake", "tin", "nuts", "--oven", "gas"]
    assert CliRunner().invoke(kitchen, words).output == "baked\n"
    result = CliRunner().invoke(kitchen, [*words, "--json"])
    assert result.output == '{"event": "summary", "minutes": 40}\n'


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (("--minutes", "0"), "--minutes is '0', expected at least 1", "40"),
        (("--minutes", "soon"), "--minutes is 'soon', expected a whole number", "--minutes 40"),
        (("--heat", "inf"), "--heat is 'inf', expected a finite number", "bake --help"),
        (("--oven", "wood"), "--oven is 'wood', expected 'gas' or 'electric'", "bake --help"),
        (("--out", ""), "", ""),
    ],
)
def test_a_wrong_value_is_one_line_and_a_hint(
    words: tuple[str, ...], problem: str, hint: str
) -> None:
    given = ("tin", "nuts", "--oven", "gas", *words)
    if not problem:
        assert bake(*given).out == ""
        return
    with pytest.raises(UsageError) as error:
        bake(*given)
    assert str(error.value.problem).startswith(problem)
    assert hint in error.value.hint


def test_what_is_required_is_missing() -> None:
    with pytest.raises(UsageError, match="--oven is missing\n  try: cfl-edge bake --help"):
        bake("tin", "nuts")


def test_command_line_before_environment_before_file_before_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bake.toml"
    file.write_text('oven = "gas"\nminutes = 10\nheat = 1.5\nfan = true\n')
    monkeypatch.setenv("CFL_EDGE_MINUTES", "20")
    monkeypatch.setenv("CFL_EDGE_HEAT", "2.5")
    words = ("tin", "nuts", "--config", str(file), "--minutes", "30", "--no-fan")
    settings = bake(*words, config=True)
    assert (settings.minutes, settings.heat, settings.fan, settings.oven) == (30, 2.5, False, "gas")
    assert bake("tin", "nuts", "--oven", "gas").minutes == 40  # a command without --config


def test_a_service_that_predicts_reads_a_file_and_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('stream = "demo:"\nthreads = 0\n')
    command = ("run", tmp_path / "model.onnx", "--config", file)
    assert_error(cfl_edge(*command), 2, f"threads in {file} is 0")
    monkeypatch.setenv("CFL_EDGE_THREADS", "-1")
    assert_error(cfl_edge(*command), 2, "CFL_EDGE_THREADS is '-1'")
    assert_error(cfl_edge(*command, "--threads", 1, "--no-watch"), 4, "model.onnx")


def test_a_file_with_an_unknown_name_or_none_at_all(tmp_path: Path) -> None:
    file = tmp_path / "bake.toml"
    file.write_text("minuets = 10\n")
    with pytest.raises(
        UsageError, match=r"There is no setting minuets in .*bake\.toml\n  try: minutes = …"
    ):
        bake("tin", "nuts", "--oven", "gas", "--config", str(file), config=True)
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        load(BakeSettings, {}, command="bake", config=tmp_path / "none.toml")


def test_a_misspelt_name_in_the_file_comes_before_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "learn.toml"
    file.write_text('strem = "demo:"\n')
    result = cfl_edge("learn", "--config", file)
    assert_error(result, 2, f"There is no setting strem in {file}")
    assert "try: stream = …" in result.err


def test_a_variable_that_nothing_reads_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFL_EDGE_REPLAY_MB", "8")
    monkeypatch.setenv("CFL_EDGE_HTTP_TOKEN", "secret")
    monkeypatch.setenv("CFL_EDGE_THREADS", "2")  # of run
    monkeypatch.setenv("CFL_EDGE_SIMULATED_HOURS", "3")  # of the tests
    result = cfl_edge("learn", "--stream", tmp_path / "none")
    assert result.code == 3
    assert result.err.count("CFL_EDGE_") == 2
    assert "CFL_EDGE_REPLAY_MB is ignored: there is no such variable; CFL_EDGE_REPLAY_MIB" in (
        result.err
    )
    assert "CFL_EDGE" not in cfl_edge("plan", "--chunk", "x").err


def test_help_has_no_types_of_python() -> None:
    for words in (["learn"], ["evaluate"], ["classes", "merge"], ["boards", "test"], []):
        text = cfl_edge(*words, "--help").out
        assert "-h" in text
        assert not re.search(r"\b(str|int|float|bool)\b", text), text


def test_help_shows_every_default_and_what_none_stands_for() -> None:
    kitchen, _ = bakery()
    text = CliRunner().invoke(kitchen, ["bake", "--help"]).output
    words = " ".join(text.replace("│", " ").split())
    for part in (
        "The [round] tin.",
        "Time [s] in the oven. [default: 40]",
        "Its heat. [default: the recipe's]",
        "[default: table]",
        "Kind of oven (required).",
        "gas|electric",
        "--out -o",
        "MIN",
    ):
        assert part in words, text
    assert text.count("default:") == 3
    assert "--fan" in words  # off unless it is given: that needs no default
    assert "no-fan" not in words


def test_help_of_learn_shows_every_default_in_its_panel() -> None:
    text = cfl_edge("learn", "--help").out
    fields = LearnSettings.model_fields.values()
    with_default = [
        field
        for field in fields
        if not field.is_required()
        and field.default is not False
        and (field.default is not None or option_of(field).default)
    ]
    lines = [line for line in text.splitlines() if "default:" in line]
    assert len(lines) == text.count("default:") == len(with_default) > 20
    panels = [line.split()[1] for line in text.splitlines() if line.startswith("╭─")]
    assert panels == ["Options", "Stream", "Labels", "Model", "Memory", "Output", "Page"]
    assert "--no-ui" in text  # which a file may have switched on


def test_help_of_teach_speaks_of_teach() -> None:
    words = " ".join(cfl_edge("teach", "--help").out.replace("│", " ").split())
    assert re.findall(r"--(?:no-)?ui\b(?!-)", words) == ["--ui"]  # "the same as learn --ui"
    assert "[default: the page alone]" in words
    assert "dirs for demo:" not in words
    assert "--ui-port" in words


def test_an_option_of_learn_needs_its_declaration_and_the_code_that_uses_it() -> None:
    used: list[int] = []
    wider = typer.Typer()

    @wider.callback()
    def _top() -> None:
        pass

    @command(wider, config=True)
    def learn(settings: WiderSettings, reporter: Reporter) -> None:
        """Learn."""
        used.append(settings.patience)

    for words in ([], ["--patience", "7"]):
        CliRunner().invoke(wider, ["learn", "--stream", "demo:", *words])
    CliRunner().invoke(wider, ["learn", "--stream", "demo:"], env={"CFL_EDGE_PATIENCE": "9"})
    assert used == [5, 7, 9]
    text = CliRunner().invoke(wider, ["learn", "--help"]).output
    assert "Frames to wait. [default: 5]" in " ".join(text.replace("│", " ").split())


def test_every_field_of_every_command_has_a_help_text() -> None:
    def declared(kind: type[Settings]) -> list[type[Settings]]:
        return [kind, *(below for each in kind.__subclasses__() for below in declared(each))]

    assert app.registered_commands
    for settings in declared(Settings):
        for name, field in settings.model_fields.items():
            text = option_of(field).help
            assert text[0].isupper() or text.startswith("/"), (settings, name)
            assert len(text) > 8


def test_no_default_is_an_accident_of_python() -> None:
    def declared(kind: type[Settings]) -> list[type[Settings]]:
        return [kind, *(below for each in kind.__subclasses__() for below in declared(each))]

    assert app.registered_groups
    for settings in declared(Settings):
        for parameter in parameters_of(settings):
            assert "Pydantic" not in str(parameter.default)
            assert parameter.default != "[]"


def test_a_wrong_value_of_a_file_or_a_variable_is_not_told_as_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "learn.toml"
    for text, told, hint in (
        ('region = "9"', f"region in {file} is '9'", "region = '0.25,0.25,0.5,0.5'"),
        ("checkpoint_s = 0", f"checkpoint_s in {file} is 0", "checkpoint_s = 30.0"),
    ):
        file.write_text(f"{text}\n")
        result = cfl_edge("learn", "--stream", "demo:", "--config", file)
        assert_error(result, 2, told)
        assert "--" not in result.err
        assert f"try: {hint}" in result.err
    monkeypatch.setenv("CFL_EDGE_REGION", "9")
    result = cfl_edge("learn", "--stream", "demo:")
    assert_error(result, 2, "CFL_EDGE_REGION is '9'")
    assert "try: CFL_EDGE_REGION=0.25,0.25,0.5,0.5" in result.err

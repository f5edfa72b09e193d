"""Commands from declarations: a function that takes one `Settings` becomes a typer command.

Every value reaches pydantic as the text that was typed, so that a wrong one is refused in one way
whether it came from the command line, the environment or a file. What typer has as a default is
only shown.
"""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from cfl_edge.config.learn import LearnSettings, RunSettings
from cfl_edge.config.settings import (
    Option,
    S,
    Settings,
    flags_of,
    load,
    option_of,
    unknown_variables,
)
from cfl_edge.errors import INTERRUPTED
from cfl_edge.view.reporter import Reporter, open_reporter

Command = Callable[[S, Reporter], None]
KINDS = {int: "N", float: "NUMBER", Path: "PATH"}
text = type("text", (str,), {})  # newer versions of typer show the name of an argument's type
VARIABLES = {*LearnSettings.model_fields, *RunSettings.model_fields}
MOST_UNGROUPED = 10  # options that need no panels to be found


def command(
    app: typer.Typer, name: str | None = None, *, config: bool = False
) -> Callable[[Command[S]], Command[S]]:
    """Register a function as a command; the annotation of its first argument declares the options.

    Args:
        app: Gets the command.
        name: Of the command; the function's by default.
        config: Whether `--config FILE` and variables `CFL_EDGE_…` give values as well.

    Returns:
        A decorator; the function takes its settings and a `Reporter`, and its docstring is the
        help.
    """

    def register(function: Command[S]) -> Command[S]:
        settings: type[S] = next(iter(get_type_hints(function).values()))
        called = name or function.__name__.rstrip("_")

        def parse(ctx: typer.Context, **given: Any) -> None:
            sources = {key: ctx.get_parameter_source(key) for key in given}
            typed = {key for key, by in sources.items() if by and by.name == "COMMANDLINE"}
            json, file = given.pop("json_lines"), given.pop("config", None)
            words = ctx.command_path.split(maxsplit=1)[1]
            with open_reporter(json=json) as reporter:
                try:
                    for sentence in unknown_variables(os.environ, VARIABLES) if config else ():
                        reporter.notice(sentence)
                    checked = load(
                        settings,
                        {key: value for key, value in given.items() if key in typed},
                        command=words,
                        config=file,
                        environ=os.environ if config else None,
                    )
                    function(checked, reporter)
                except KeyboardInterrupt:
                    reporter.notice(f"{words} was interrupted")
                    raise typer.Exit(INTERRUPTED) from None

        parameters = parameters_of(settings, config=config)
        context = inspect.Parameter(
            "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        parse.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
        parse.__annotations__ = {}
        parse.__doc__ = function.__doc__
        app.command(called)(parse)
        return function

    return register


def parameters_of(settings: type[Settings], *, config: bool = False) -> list[inspect.Parameter]:
    """Return what typer has to know of each field, `--json` and, if wanted, `--config`."""
    fields = settings.model_fields
    panels: dict[str, str | None] = {}
    for name, field in fields.items():
        panels[name] = option_of(field).panel or next(reversed(panels.values()), None)
    in_panels = sum(panel is not None for panel in panels.values())
    grouped = len(fields) > MOST_UNGROUPED and 2 * in_panels > len(fields)
    parameters = [
        _parameter(name, field, panels[name] if grouped else None, config=config)
        for name, field in fields.items()
    ]
    json = Option("Write JSON lines to stdout, the summary last.", flags=("--json",))
    shown = _shown(json, "Output" if grouped else None)
    parameters.append(_keyword("json_lines", bool, shown, False))
    if config:
        file = Option(
            "TOML file with these options; variables such as CFL_EDGE_STREAM override it.",
            metavar="FILE",
            flags=("--config",),
        )
        parameters.append(_keyword("config", Path | None, _shown(file), None))
    return parameters


def without_types(command: Any, parent: typer.Context | None = None) -> Any:
    """Return a click command whose flags show no type: newer versions of typer show `<bool>`.

    Args:
        command: Changed in place, and all commands below it.
        parent: Context of the command above it.
    """
    context = typer.Context(command, parent=parent, **command.context_settings)
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        without_types(inner, context)
    return command


def _parameter(
    name: str, field: FieldInfo, panel: str | None, *, config: bool
) -> inspect.Parameter:
    """Return the parameter of a field; its type is text, a list of text or a flag.

    What is off unless it is given needs no `--no-…`, but where a file may have switched it on.
    """
    option, flags = option_of(field), flags_of(name, field)
    kind = _kind(field.annotation)
    is_list = get_origin(kind) is list
    if option.positional:
        info = typer.Argument(
            help=_escaped(option.help),
            metavar=option.metavar or name.upper(),
            show_default=False,
            parser=str,
        )
        default = inspect.Parameter.empty if field.is_required() else None
        return _keyword(name, list[text] if is_list else text, info, default)  # type: ignore[valid-type]
    if kind is bool:
        flag, is_on = flags[0], bool(field.default)
        if is_on or config:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        pair = Option(option.help, flags=(flag,), hidden=option.hidden)
        return _keyword(name, bool, _shown(pair, panel, default=is_on), field.default)
    help_text = option.help if not field.is_required() else f"{option.help.rstrip('.')} (required)."
    choices = "|".join(get_args(kind)) if get_origin(kind) is Literal else KINDS.get(kind, "TEXT")
    metavar = option.metavar or choices
    shown = _shown(Option(help_text, metavar=metavar, flags=flags), panel)
    return _keyword(name, list[str] if is_list else str, shown, _default_text(field))


def _keyword(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _shown(option: Option, panel: str | None = None, *, default: bool = True) -> Any:
    return typer.Option(
        *option.flags,
        help=_escaped(option.help),
        metavar=option.metavar,
        rich_help_panel=panel,
        show_default=default,
        hidden=option.hidden,
    )


def _escaped(text: str) -> str:
    """Return a help text that rich's markup leaves as it is."""
    return text.replace("[", r"\[")


def _kind(annotation: Any) -> Any:
    """Return the type of a value beside None, without its limits."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _default_text(field: FieldInfo) -> Any:
    """Return what `--help` shows as the default, None for nothing."""
    if field.is_required():
        return None
    text, default = option_of(field).default, field.get_default(call_default_factory=True)
    if default is not None and default != []:
        text = f"{default:g}" if isinstance(default, float) else str(default)
    if text is None or get_origin(_kind(field.annotation)) is not list:
        return text
    return [text]

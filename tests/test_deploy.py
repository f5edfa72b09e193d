from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cfl_edge.cli import app
from cfl_edge.config import LearnSettings, load_settings

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "cfl-edge.service"
CONFIG = DEPLOY / "learn.toml"


def unit() -> dict[str, str]:
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, comment_prefixes="#", delimiters="="
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])


def test_the_sample_config_is_what_learn_reads() -> None:
    settings = load_settings(CONFIG, labels_from="http")
    assert settings.stream == "/dev/video0"
    assert settings.labels_from == "http"
    state = Path("/var/lib") / unit()["StateDirectory"]
    assert settings.model.is_relative_to(state)
    assert settings.label is None  # it would contradict --labels-from


def test_the_commented_keys_are_settings_too(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=\w+ = )", "", CONFIG.read_text(), flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(text)
    settings = load_settings(tmp_path / "all.toml")
    assert (
        {"stem", "layers", "image"} <= settings.model_fields_set <= set(LearnSettings.model_fields)
    )


def test_the_unit_starts_a_command_that_exists() -> None:
    program, command, *words = shlex.split(unit()["ExecStart"])
    assert program == "/opt/cfl-edge/bin/cfl-edge"
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    options = {name for option in commands.commands[command].params for name in option.opts}
    given = [word for word in words if word.startswith("--")]
    assert given == ["--config", "--labels-from"]
    assert set(given) <= options
    assert words[words.index("--config") + 1] == f"/etc/cfl-edge/{CONFIG.name}"
    load_settings(CONFIG, labels_from=words[words.index("--labels-from") + 1])


def test_the_unit_gives_few_rights_and_asks_to_be_saved() -> None:
    expected = {
        "User": "cfl-edge",
        "SupplementaryGroups": "video dialout",
        "StateDirectory": "cfl-edge",
        "Restart": "on-failure",
        "KillSignal": "SIGTERM",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
    }
    assert expected.items() <= unit().items()
    assert not {"Type", "WatchdogSec"} & unit().keys()  # the program sends no notices to systemd


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = UNIT.read_text()
    program = shlex.split(unit()["ExecStart"])[0]
    copy = tmp_path / UNIT.name  # /opt/cfl-edge is not on this machine: any program does
    copy.write_text(text.replace(f"ExecStart={program}", f"ExecStart={sys.executable}"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    about = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert about == []  # what it says of the system's own units is not ours
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text()
    rows = set(re.findall(r"^\| `([^`]+)` \|", readme, flags=re.MULTILINE))
    assert rows == {path.name for path in DEPLOY.iterdir()} - {"README.md"}

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from learn_settings import load_settings

from cfl_edge.cli.app import app
from cfl_edge.config.learn import LearnSettings
from cfl_edge.errors import INTERRUPTED
from cfl_edge.stream.live import LONGEST_WAIT_S

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
        {"backbone", "layers", "image"}
        <= settings.model_fields_set
        <= set(LearnSettings.model_fields)
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
        "SuccessExitStatus": str(INTERRUPTED),
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
    }
    assert expected.items() <= unit().items()


def test_the_loop_answers_to_the_watchdog() -> None:
    service = unit()
    assert service["Type"] == "notify"
    # A lost camera is tried again that far apart, and only that shows that the loop lives.
    tries_s = LONGEST_WAIT_S + 5.0  # the timeout of a camera that sends nothing
    assert int(service["WatchdogSec"]) / 2 > tries_s
    assert int(service["TimeoutStartSec"]) >= 300
    assert service["MemoryMax"].endswith("%")


def test_the_tests_that_prove_security_exist() -> None:
    rows = [line for line in (DEPLOY / "SECURITY.md").read_text().splitlines() if "`test_" in line]
    assert len(rows) > 10
    for row in rows:
        tests = row.rpartition(" | ")[2]
        assert re.search(r"`test_", tests), row
        text = ""  # of the files named so far
        for module, name in re.findall(r"`(test_\w+\*?)(?:::(test_\w+))?`", tests):
            found = sorted(Path(__file__).parent.glob(f"{module}.py"))
            if found:
                text += "".join(path.read_text() for path in found)
            else:
                name = module
            assert not name or f"def {name}(" in text, f"no test {name}: {row}"


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


def test_systemd_finds_few_risks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    command = [analyze, "security", "--offline=true", "--no-pager", "--threshold=25", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file")
    score = re.search(r"Overall exposure level for \S+: (\S+ \w+)", done.stdout)
    assert score is not None, done.stdout + done.stderr
    with capsys.disabled():
        print(f"\nsystemd-analyze security: {score[1]} (0 safe, 10 unsafe)", end=" ")
    assert done.returncode == 0, done.stdout  # at most 2.5


@pytest.mark.parametrize("name", ["Containerfile.arm64", "Containerfile.jetson"])
def test_container_files_copy_what_there_is(name: str) -> None:
    lines = (DEPLOY / name).read_text().replace("\\\n", " ").splitlines()
    steps = [line.split() for line in lines if line and line[0] not in "# "]
    known = {"FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {step[0] for step in steps} <= known
    for _, *sources, _target in (step for step in steps if step[0] == "COPY"):
        for source in sources:
            assert (DEPLOY.parent / source).exists(), source
    last = {step[0]: step[1:] for step in steps}
    assert last["USER"] == ["cfl-edge"]
    assert last["ENTRYPOINT"] == ['["cfl-edge"]']
    for step in steps:
        if step[0] == "RUN":
            done = subprocess.run(
                ["sh", "-n", "-c", " ".join(step[1:])], capture_output=True, check=False
            )
            assert done.returncode == 0, step


def test_the_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text()
    rows = set(re.findall(r"^\| `([^`]+)` \|", readme, flags=re.MULTILINE))
    others = {"README.md", "SECURITY.md"}
    assert rows - others == {path.name for path in DEPLOY.iterdir()} - others

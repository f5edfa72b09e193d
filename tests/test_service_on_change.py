"""`run --on-change`: a command of the user's, to which names of classes are data."""

import json
import os
import shlex
import subprocess
import sys
import time

import pytest
from page_session import until
from service_checks import HOSTILE

from cfl_edge.errors import UsageError
from cfl_edge.serve import on_change
from cfl_edge.serve.change_words import fill_words, split_command
from cfl_edge.serve.on_change import TIMEOUT_S, ChangeCommand

NOTE = """
import json, os, sys
keys = ("CFL_EDGE_LABEL", "CFL_EDGE_SCORE", "CFL_EDGE_HTTP_TOKEN", "NOTIFY_SOCKET")
line = json.dumps([sys.argv[2:], *(os.environ.get(key) for key in keys)])
with open(sys.argv[1], "a") as file:
    file.write(line + "\\n")
"""


def python(code, *words):
    # -S -I -E: quick to start, nothing of the test's environment
    return shlex.join([sys.executable, "-S", "-c", code, *map(str, words)])


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def noted(out, count, timeout_s=20):
    """Wait for so many runs, and return what they wrote."""
    end_s = time.monotonic() + timeout_s
    while True:
        lines = out.read_text().splitlines() if out.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < end_s, lines
        time.sleep(0.02)


def test_label_and_score_come_in_words_and_environment(out, notices, monkeypatch):
    monkeypatch.setenv("CFL_EDGE_HTTP_TOKEN", "t" * 20)
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    command = python(NOTE, out, "$CFL_EDGE_LABEL", "{score} %", ";", "*")
    with ChangeCommand(command, notices.append, gap_s=0) as change:
        change.announce("mug", 0.93217)
        assert noted(out, 1) == [[["mug", "0.9322 %", ";", "*"], "mug", "0.9322", None, None]]
        change.announce(None, None)
        assert noted(out, 2)[1][1:3] == ["", "0.0000"]
    assert (notices, change.failures) == ([], 0)


def test_hostile_names_stay_data(out, notices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = python(NOTE, out, "{label}", "a ${CFL_EDGE_LABEL}")
    marks = [*HOSTILE, "nul\0nul", "-rf", "=x\nPATH=/evil"]
    with ChangeCommand(command, notices.append, gap_s=0) as change:
        for number, label in enumerate(marks, start=1):
            change.announce(label, 1.0)
            text = label.replace("\0", "")
            assert noted(out, number)[-1][:2] == [[text, f"a {text}"], text]
        change.announce("\ud800", 1.0)  # no text at all: it has no UTF-8
        assert noted(out, len(marks) + 1)[-1][1] == "?"
    assert os.listdir() == [out.name]
    assert notices == []


def test_one_at_a_time_and_the_newest_change_wins(out, notices):
    gate = out.with_name("gate")  # the first command ends once this is there
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n" + NOTE
    with ChangeCommand(python(code, out), notices.append, gap_s=0) as change:
        change.announce("first", 1.0)
        until(lambda: change._next is None)
        for number in range(500):
            change.announce(f"{number}", 1.0)  # never waits
        assert change.runs == 0
        gate.touch()
        labels = [line[1] for line in noted(out, 2)]
    assert labels == ["first", "499"]


def test_starts_are_apart(out, notices):
    with ChangeCommand(python(NOTE, out), notices.append, gap_s=0.5) as change:
        start_s = time.monotonic()
        change.announce("a", 1.0)
        noted(out, 1)
        change.announce("b", 1.0)
        noted(out, 2)
        assert time.monotonic() - start_s >= 0.5


def test_failures_are_told_once(out, notices):
    code = f"import os, sys; sys.exit(os.environ['CFL_EDGE_LABEL'].count('bad') * 3)\n{NOTE}"
    with ChangeCommand(python(code, out), notices.append, gap_s=0) as change:

        def run(label):
            before = change.runs
            change.announce(label, 1.0)
            while change.runs == before:
                time.sleep(0.01)

        for label in ("bad 1", "bad 2", "bad 3"):
            run(label)
        assert (len(notices), change.failures) == (1, 3)
        assert notices[0].startswith("--on-change ")
        assert notices[0].endswith("failed: exit code 3")
        for label in ("good", "bad 4"):
            run(label)
        assert (len(notices), change.failures) == (2, 4)


def test_a_command_that_hangs_is_ended_with_all_it_started(out, notices):
    words = f"sleep 60 & echo $! > {out}; wait"
    command = f"sh -c {shlex.quote(words)}"
    with ChangeCommand(command, notices.append, gap_s=0, timeout_s=1) as change:
        change.announce("mug", 1.0)
        (child,) = noted(out, 1)
        while not notices:
            time.sleep(0.02)
    assert notices[0].endswith("failed: it was ended after 1 s")
    assert_gone(child)


def test_the_end_ends_a_command_that_runs(out, notices):
    code = f"""
import os, time
open({str(out)!r}, "w").write(str(os.getpid()) + "\\n")
time.sleep(60)
"""
    with ChangeCommand(python(code), notices.append, gap_s=0) as change:
        change.announce("mug", 1.0)
        (child,) = noted(out, 1)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < TIMEOUT_S / 2
    assert_gone(child)
    assert notices == []


def assert_gone(pid):
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split()[2] == "Z":  # ended, nobody has asked for it yet
                    return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives")


def test_a_program_that_goes_away(tmp_path, notices):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with ChangeCommand(str(program), notices.append, gap_s=0) as change:
        program.unlink()
        change.announce("mug", 1.0)
        while not notices:
            time.sleep(0.01)
    assert "No such file" in notices[0]


@pytest.mark.parametrize("command", ["", "  ", "echo 'open", "no-such-program x", "/etc/passwd"])
def test_what_cannot_be_run_is_refused_at_the_start(command):
    with pytest.raises(UsageError, match="--on-change is"):
        split_command(command)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo {label} | logger", "|"),
        ("echo $CFL_EDGE_LABEL > seen.txt", ">"),
        ("echo a>b", ">"),
        ("cat < seen.txt", "<"),
        ("echo a; echo b", ";"),
        ("echo a & ", "&"),
        ("echo a && echo b", "&&"),
        ("echo `date` {label}", "`"),
        ('echo "at `date`"', "`"),
        ('echo "at $(date)" {label}', "$("),
        ("echo $HOME/{label}", "$HOME"),
        ("cat ~/seen.txt", "~/"),
    ],
)
def test_what_only_a_shell_can_run_is_refused_with_the_command_that_can(command, text):
    with pytest.raises(UsageError, match="which only a shell understands") as raised:
        split_command(command)
    assert repr(text) in raised.value.problem
    (option, proposed) = shlex.split(raised.value.hint)
    assert option == "--on-change"
    shell, c, script = split_command(proposed)  # it is accepted
    assert (shell, c) == ("sh", "-c")
    assert "{label}" not in script
    assert all(word in script for word in ("echo", "cat") if command.startswith(word))


@pytest.mark.parametrize(
    "words",
    [
        "echo {label}",
        "echo ${CFL_EDGE_LABEL} ${CFL_EDGE_LABEL}",
        'echo "at {label}"',
        "echo 'at {label}'",
        "echo 'a'${CFL_EDGE_LABEL}'b'",
    ],
)
def test_the_proposed_shell_command_says_the_same(words, out):
    """Whatever stands around the variable, and whatever the name of the class holds."""
    with pytest.raises(UsageError) as raised:
        split_command(f"{words} > {out}")
    label = "a  mug; $(touch pwned) '\"*"
    env = {"CFL_EDGE_LABEL": label, "PATH": os.environ["PATH"]}
    subprocess.run(split_command(shlex.split(raised.value.hint)[1]), env=env, check=True)
    assert out.read_text() == " ".join(fill_words(split_command(words), label, "1")[1:]) + "\n"


@pytest.mark.parametrize(
    "command",
    [
        "sh -c 'echo {label} | logger'",
        "env A=1 /bin/bash -lc 'echo {label}'",
        "bash -c -x 'echo {label}'",
        "python3 -c 'print(\"{label}\")'",
        "env ssh host notify {label}",
        "bash -euo pipefail -c 'echo {label}'",
        "bash -e -o pipefail -c 'echo {label}'",
        "flock /tmp/door -c 'echo {label}'",
    ],
)
def test_a_name_never_becomes_code(command):
    with pytest.raises(UsageError, match=r"has \{label\} within code") as raised:
        split_command(command)
    assert '"$CFL_EDGE_LABEL"' in raised.value.hint


def test_code_reads_the_class_from_the_environment(out, notices):
    words = f'echo "$CFL_EDGE_LABEL" "$1" > {out}'
    command = f"sh -c {shlex.quote(words)} name {{label}}"
    with ChangeCommand(command, notices.append, gap_s=0) as change:
        change.announce("$(touch pwned) -x", 1.0)
        until(lambda: change.runs == 1)
    assert out.read_text() == "$(touch pwned) -x $(touch pwned) -x\n"
    assert notices == []


def test_code_after_options_with_values_is_left_as_it_is(tmp_path):
    command = "bash -euo pipefail -c 'echo \"$CFL_EDGE_LABEL\"'"
    words = split_command(command)
    assert fill_words(words, '"; touch pwned; "', "1") == shlex.split(command)


def test_a_command_of_somebody_else_that_hangs_ends_nothing_here(out, notices, monkeypatch):
    """What `sudo` started may not be killed."""

    def refuse(pid, signal):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(on_change.os, "killpg", refuse)
    code = NOTE + "\nimport time; time.sleep(1.5 * (sys.argv[2] == 'slow'))"
    with ChangeCommand(
        python(code, out, "{label}"), notices.append, gap_s=0, timeout_s=1
    ) as change:
        change.announce("slow", 1.0)
        until(lambda: change.failures == 1)
        change.announce("mug", 1.0)
        noted(out, 2)
    assert [line[1] for line in noted(out, 2)] == ["slow", "mug"]


def test_a_variable_that_does_not_exist():
    with pytest.raises(UsageError, match=r"has \{lable\}, expected \{label\} or \{score\}"):
        split_command("echo {lable}")
    assert split_command("""echo '{"label": "{label}"}'""") == ["echo", '{"label": "{label}"}']


def test_a_label_does_not_become_an_option(out, notices):
    with ChangeCommand(python(NOTE, out), notices.append, gap_s=0) as change:
        change.announce("-x", 1.0)  # nothing in its words
        noted(out, 1)
    assert fill_words(["say", "--", "{label}"], "-x", "1") == ["say", "--", "-x"]
    assert fill_words(["say", "--what={label}"], "-x", "1") == ["say", "--what=-x"]
    with ChangeCommand("touch {label}", notices.append, gap_s=0) as change:
        change.announce("-x", 1.0)
    (notice,) = notices
    assert "'-x' would be an option of touch: put -- before {label}" in notice
    assert change.failures == 1


@pytest.mark.parametrize("code", ["", "import time; time.sleep(0.3)\n"])
def test_the_last_change_is_announced_at_the_end(out, notices, code, monkeypatch):
    """It came within the gap, and while the command of the change before was running."""
    monkeypatch.setattr(on_change, "END_S", 20)
    with ChangeCommand(python(code + NOTE, out), notices.append, gap_s=30) as change:
        change.announce("mug", 1.0)
        while change._next is not None:
            time.sleep(0.01)
        change.announce("pen", 1.0)
    assert [line[1] for line in noted(out, 2)] == ["mug", "pen"]
    assert notices == []


def test_the_last_change_is_announced_although_the_one_before_hangs(out, notices):
    words = f'test "$CFL_EDGE_LABEL" = mug && sleep 60; echo "[\\"$CFL_EDGE_LABEL\\"]" >> {out}'
    with ChangeCommand(f"sh -c {shlex.quote(words)}", notices.append) as change:
        change.announce("mug", 1.0)
        while change._next is not None:
            time.sleep(0.01)
        change.announce("pen", 1.0)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < TIMEOUT_S / 2
    assert noted(out, 1) == [["pen"]]

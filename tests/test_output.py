"""How commands end: output that fails costs nothing else, and a signal is answered with a line."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import MAIN, SMALL, cfl_edge, process
from fleet_boards import board
from saved_models import save
from zone_scenes import TWO

from cfl_edge.model.store import Store
from cfl_edge.pipe import SafeWriter

COMMAND = f"{sys.executable} -m cfl_edge"
SAID_ONCE = ["error: stdout cannot be written: No space left on device; the command goes on, "]
SAID_ONCE[0] += "what it prints from here on is lost"
SAID_ONCE += ["  try: df -h, or another place for the output"]


def shell(line):
    """Run a line of sh; its own stdout and stderr are what the redirections leave."""
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output") / "model"
    save(Store(folder), 1.0)
    return folder


REDIRECTIONS = {
    ">/dev/full": 5,
    ">/dev/full 2>&1": 5,
    ">&-": 0,
    "2>&-": 0,
    ">&- 2>&- <&-": 0,
    "2>/dev/full": 0,
}
WORDS = ["boards list", "boards list --json", "--version", "--help"]


def each_once():
    """Every redirection with one command, and every command with two of them; the rest is slow."""
    for words in WORDS:
        for redirection in REDIRECTIONS:
            quick = words == WORDS[0] or redirection in (">/dev/full", ">&- 2>&- <&-")
            yield pytest.param(words, redirection, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("words", "redirection"), list(each_once()))
def test_no_redirection_ends_a_command(words, redirection):
    done, _, err = shell(f"{COMMAND} {words} {redirection}")
    assert done == REDIRECTIONS[redirection]
    assert err.splitlines() == (SAID_ONCE if redirection == ">/dev/full" else [])


def test_an_error_keeps_its_exit_code(tmp_path):
    for redirection in (">/dev/full 2>&1", ">&- 2>&-"):
        assert shell(f"{COMMAND} classes list {tmp_path}/none {redirection}")[0] == 4


@pytest.mark.parametrize(
    ("redirection", "code"), [("--json >/dev/full", 5), ("2>/dev/full >&2", 5), (">&- 2>&-", 0)]
)
def test_what_was_learned_is_saved(redirection, code, tmp_path):
    words = ["learn", "--stream", "'demo:?frames=12'", "--no-export", *SMALL]
    line = " ".join([COMMAND, *words, "--model", str(tmp_path / "model"), redirection])
    assert shell(line)[0] == code
    assert Store(tmp_path / "model").load().manifest["counters"]["frames_learned"] == 12


CHANGES = {
    "region m 0,0,0.5,1": lambda m: m["network"]["region"] == "0,0,0.5,1",
    "undo m --frames 1": lambda m: m["counters"]["frames_learned"] == 11,
    "classes add m fox": lambda m: "fox" in m["classes"],
    "classes remove m fox": lambda m: "fox" not in m["classes"],
    "fleet sync shared --model hall --board hall": lambda _: any(Path("shared/hall").iterdir()),
    "merge hall kitchen -o both": lambda _: Path("both/boards").is_dir(),
    "fleet status both": lambda _: True,
    "subtract both --board hall -o one": lambda _: Path("one/boards").is_dir(),
    "export both -o onnx": lambda _: Path("onnx/model.onnx").is_file(),
    "run onnx/model.onnx --stream demo:?frames=2": lambda _: True,
    "look --stream demo: -o view.jpg": lambda _: Path("view.jpg").is_file(),
    "learn --stream demo:?frames=4 --zones zones.toml --model hall2 --label door/open --no-export "
    + " ".join(SMALL): lambda _: Store(Path("hall2/door")).load().manifest["classes"] == ["open"],
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&- 2>&- <&-", 0), (">/dev/full 2>&1", 5), ("2>/dev/full", 0)],
)
def test_what_a_command_changes_stays_changed(redirection, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared").mkdir()
    (tmp_path / "zones.toml").write_text(TWO)
    assert (
        cfl_edge("learn", "--stream", "demo:?frames=12", "--model", "m", "--no-export", *SMALL).code
        == 0
    )
    board(tmp_path / "hall", {0: 5, 1: 4})
    board(tmp_path / "kitchen", {1: 6, 2: 3})
    for words, holds in CHANGES.items():
        assert shell(f"{COMMAND} {words} {redirection}")[0] == code, words
        assert holds(Store(tmp_path / "m").load().manifest), words


def test_no_file_gets_the_number_of_a_closed_stdout(tmp_path):
    code = (
        "from cfl_edge.pipe import protect_output; protect_output(); "
        f"file = open({str(tmp_path / 'model')!r}, 'w'); print('text', flush=True); "
        "assert file.fileno() > 2, file.fileno()"
    )
    assert shell(f'{sys.executable} -c "{code}" <&- >&-') == (0, "", "")
    assert (tmp_path / "model").read_text() == ""


def test_a_disk_that_fills_up_takes_what_fits(monkeypatch, capfd):
    written = []

    def write(descriptor, data):
        if descriptor == 1 and len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    safe = SafeWriter(1)
    assert [safe.write(line) for line in (b"one", b"two", b"three", b"four")] == [3, 3, 5, 4]
    assert safe.error.errno == errno.ENOSPC
    assert written[:2] == [b"one", b"two"]
    assert b"".join(written[2:]).decode().splitlines() == SAID_ONCE


def test_a_terminal_that_is_busy_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = f"""
import os, time
time.sleep(0.2)
count = 0
while count < 1_000_000:
    count += len(os.read({reader}, 65536))
"""
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=[reader]) as slow:
        safe, data = SafeWriter(writer), bytes(1_000_000)
        while data:
            data = data[safe.write(data) :]
        assert safe.error is None
        assert slow.wait(30) == 0
    os.close(reader)
    os.close(writer)


def test_characters_that_the_terminal_lacks_are_escaped():
    words = "boards list --json"
    _, out, err = shell(f"PYTHONIOENCODING=ascii {COMMAND} {words}")
    assert json.loads(out.splitlines()[-1])["event"] == "summary"
    code, out, err = shell(f"PYTHONIOENCODING=ascii {COMMAND} learn --help")
    assert (code, err) == (0, "")
    assert "\\u2026" in out


# Signals before there is anything to save

IMPORTING = """
import os, signal, sys

module, number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]

class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Strike())
"""
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@SIGNALS
@pytest.mark.parametrize(
    ("module", "said"),
    [("cfl_edge.cli.app", "interrupted\n"), ("torch", "learn was interrupted\n")],
)
def test_a_signal_during_the_imports(tmp_path, number, module, said):
    command = ("learn", "--stream", "demo:?frames=3", "--model", tmp_path / "m", *SMALL)
    with process(IMPORTING + MAIN, module, int(number), *command) as running:
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.endswith(said)
    assert "Traceback" not in err


@SIGNALS
def test_a_signal_while_a_camera_is_opened(tmp_path, number):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/video"
        command = ("learn", "--stream", address, "--label", "mug", "--model", tmp_path / "m")
        with process(MAIN, *command) as running:
            try:
                connection, _ = silent.accept()
                with connection:
                    running.send_signal(number)
                    out, err = running.communicate(timeout=30)
            finally:
                running.kill()
    assert (running.returncode, out, err) == (130, "", "learn was interrupted\n")


def test_a_hangup_that_nohup_ignores_interrupts_no_import(tmp_path):
    command = ("learn", "--stream", "demo:?frames=3", "--model", tmp_path / "m", *SMALL)
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with process(ignore + IMPORTING + MAIN, "torch", int(signal.SIGHUP), *command) as running:
        running.communicate(timeout=60)
    assert running.returncode == 0

"""`deploy/install.sh` below a scratch root, with machines that are made up."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_host.ports import USB_VENDORS

DEPLOY = Path(__file__).parent.parent / "deploy"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
PI = "Raspberry Pi 5 Model B Rev 1.0\0"
JETSON = "NVIDIA Jetson Orin Nano Developer Kit\0"

# Stands in for Python: checks run for real, venv and pip leave only a trace.
PYTHON = f"""#!/bin/sh
here=$(dirname -- "$0")
case "$1:$2" in
    -c:*torch*) test -e "$here/has-torch"; exit ;;
    -c:*) exec {sys.executable} "$@" ;;
    -m:venv) for folder do :; done
        echo "$*" >>"$here/calls"
        mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python"
        echo "$here" >"$folder/bin/from" ;;
    -m:pip)
        from=$(cat "$here/from")
        case "$3" in list) cat "$from/listed" 2>/dev/null; exit 0 ;; esac
        printf '#!%s/python\n' "$here" >"$here/cfl-edge"  # as pip makes a script
        echo "$*" >>"$from/calls"; test ! -e "$from/pip-fails" ;;
    *) exit 9 ;;
esac
"""


class Machine:
    """A scratch root and the programs that the script asks."""

    def __init__(self, folder, model=None, machine="x86_64", bits="64"):
        self.folder, self.root, self.bin = folder, folder / "root", folder / "bin"
        self.root.mkdir()
        self.bin.mkdir()
        self.program("uname", f"echo {machine}")
        self.program("getconf", f"echo {bits}")
        (self.bin / "python").write_text(PYTHON)
        (self.bin / "python").chmod(0o755)
        if model:
            self.file("proc/device-tree/model", model)

    def program(self, name, script):
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def file(self, path, text=""):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def run(self, *arguments, shell="sh", root=True):
        where = ["--root", str(self.root)] if root else []
        return subprocess.run(
            [
                shell,
                str(DEPLOY / "install.sh"),
                *arguments,
                *where,
                "--python",
                self.bin / "python",
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder)},
        )

    @property
    def calls(self):
        path = self.bin / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def files(self):
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def machine(tmp_path):
    return lambda **options: Machine(tmp_path, **options)


def assert_refused(done, code, *words):
    assert done.returncode == code, done.stdout + done.stderr
    assert re.fullmatch(r"error: .+\n  try: .+\n", done.stderr), done.stderr
    for word in words:
        assert word in done.stderr


INSTALLED = {
    "etc/cfl-edge/learn.toml": "learn.toml",
    "etc/systemd/system/cfl-edge.service": "cfl-edge.service",
    "etc/udev/rules.d/99-cfl-edge.rules": "99-cfl-edge.rules",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_raspberry_pi_gets_all_of_it_and_torch_without_cuda(machine, shell):
    pi = machine(model=PI, machine="aarch64")
    done = pi.run(shell=shell)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "board: pi (Raspberry Pi 5 Model B Rev 1.0), aarch64; torch: cpu" in done.stdout
    for path, original in INSTALLED.items():
        assert (pi.root / path).read_bytes() == (DEPLOY / original).read_bytes()
        assert (pi.root / path).stat().st_mode & 0o777 == 0o644
    venv, torch, ours = pi.calls
    assert venv == f"-m venv {pi.root}/opt/cfl-edge"
    assert torch.endswith("torch torchvision --index-url https://download.pytorch.org/whl/cpu")
    assert ours.endswith(f" {DEPLOY.parent}[mqtt,pretrained]")
    assert "skipped with --root: user cfl-edge" in done.stdout
    assert "skipped with --root: systemctl enable cfl-edge" in done.stdout


def test_a_second_run_changes_nothing_and_says_so(machine):
    pi = machine(model=PI, machine="aarch64")
    pi.run()
    files, calls = pi.files(), pi.calls
    again = pi.run()
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert not re.search(r"^\+", again.stdout, re.MULTILINE)
    assert (pi.files(), pi.calls) == (files, calls)


def test_a_dry_run_prints_every_step_and_does_none(machine):
    pi = machine(model=PI, machine="aarch64")
    before = pi.files()
    dry = pi.run("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert (pi.files(), pi.calls) == (before, [])
    assert "dry run: nothing was changed" in dry.stdout
    steps = [line for line in dry.stdout.splitlines() if line.startswith("+")]
    done = pi.run()
    assert steps == [line for line in done.stdout.splitlines() if line.startswith("+")]
    dry = pi.run("--dry-run", "uninstall")
    assert f"+ rm -r {pi.root}/opt/cfl-edge" in dry.stdout
    assert (pi.root / "opt/cfl-edge").exists()


@pytest.mark.parametrize(
    ("options", "nvidia", "kind", "index"),
    [
        ({"machine": "x86_64"}, False, "board: pc, x86_64; torch: cpu", True),
        ({"machine": "x86_64"}, True, "board: pc, x86_64; torch: cuda", False),
        ({"machine": "aarch64"}, False, "board: arm, aarch64; torch: cpu", True),
        ({"machine": "aarch64", "model": PI}, True, "torch: cpu", True),
    ],
)
def test_the_build_of_torch_suits_the_board(machine, options, nvidia, kind, index):
    one = machine(**options)
    if nvidia:
        one.file("proc/driver/nvidia/version", "NVRM version: 580.1")
    done = one.run()
    assert done.returncode == 0, done.stderr
    assert kind in done.stdout
    assert ("--index-url" in one.calls[1]) == index


def test_a_jetson_says_what_it_needs_and_takes_the_torch_that_is_there(machine):
    jetson = machine(model=JETSON, machine="aarch64")
    assert_refused(jetson.run(), 3, "NVIDIA", "JetPack", "--torch-index", "Containerfile.jetson")
    assert jetson.calls == []
    (jetson.bin / "has-torch").touch()
    (jetson.bin / "listed").write_text("numpy==2.1\ntorch==2.9.0a0+nv\ntorchvision==0.24.0+nv\n")
    done = jetson.run()
    assert done.returncode == 0, done.stderr
    venv, ours = jetson.calls
    assert "--system-site-packages" in venv
    assert ours.endswith("[mqtt,pretrained]")
    kept = Path(ours.split("--constraint ")[1].split()[0]).read_text()
    assert kept.split() == ["torch==2.9.0a0+nv", "torchvision==0.24.0+nv"]  # none of PyPI's


def test_in_an_image_the_command_finds_python_where_it_will_be(machine):
    pi = machine(model=PI, machine="aarch64")
    assert pi.run().returncode == 0
    assert pi.files()["opt/cfl-edge/bin/cfl-edge"] == b"#!/opt/cfl-edge/bin/python\n"


def test_a_jetson_can_be_given_an_index(machine):
    jetson = machine(model=JETSON, machine="aarch64")
    assert jetson.run("--torch-index", "https://example.org/jp6").returncode == 0
    assert jetson.calls[1].endswith("torch torchvision --index-url https://example.org/jp6")


@pytest.mark.parametrize(
    ("cpu", "bits"), [("armv7l", "32"), ("aarch64", "32"), ("i686", "32"), ("armv6l", "32")]
)
def test_a_32_bit_system_is_refused_with_a_reason(machine, cpu, bits):
    old = machine(model=PI, machine=cpu, bits=bits)
    assert_refused(old.run(), 3, f"32-bit system ({cpu})", "no 32-bit builds", "64-bit image")
    assert old.calls == []


def test_other_machines_are_refused(machine):
    assert_refused(machine(machine="riscv64").run(), 3, "riscv64")


def test_cuda_on_a_pi_is_refused(machine):
    pi = machine(model=PI, machine="aarch64")
    assert_refused(pi.run("--torch", "cuda"), 3, "Raspberry Pi has no CUDA", "--torch cpu")


def test_cuda_packages_that_come_along_fail_the_run(machine):
    pi = machine(model=PI, machine="aarch64")
    (pi.bin / "listed").write_text("numpy 2.2\nnvidia-cublas-cu12 12.8\n")
    assert_refused(pi.run(), 1, "CUDA packages")
    assert_refused(pi.run(), 1, "CUDA packages")  # the second run does not take it for done


def test_an_old_python_is_refused(machine):
    one = machine()
    (one.bin / "python").write_text(
        '#!/bin/sh\ncase "$1" in --version) echo Python 3.10.12;; *) exit 1;; esac\n'
    )
    assert_refused(one.run(), 3, "Python 3.10.12 is not supported", "3.11")
    done = subprocess.run(
        ["sh", str(DEPLOY / "install.sh"), "--dry-run", "--python", "no-such-python"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_refused(done, 3, "no-such-python")


def test_an_interrupted_run_is_completed_by_the_next(machine):
    pi = machine(model=PI, machine="aarch64")
    (pi.bin / "pip-fails").touch()
    assert_refused(pi.run(), 1, "pip install", "it continues")
    (pi.bin / "pip-fails").unlink()
    done = pi.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2] == "done"
    assert "nothing to do" in pi.run().stdout


def test_another_kind_of_torch_replaces_the_environment(machine):
    pc = machine()
    pc.run()
    pc.file("opt/cfl-edge/of-cpu")
    done = pc.run("--torch", "cuda")
    assert f"+ rm -r {pc.root}/opt/cfl-edge\n" in done.stdout
    assert not (pc.root / "opt/cfl-edge/of-cpu").exists()
    assert "--index-url" not in pc.calls[-2]


def test_a_changed_config_is_not_overwritten(machine):
    pi = machine(model=PI, machine="aarch64")
    pi.run()
    assert "changed by you" not in pi.run().stdout
    pi.file("etc/cfl-edge/learn.toml", 'stream = "/dev/video2"\n')
    assert "(changed by you" in pi.run().stdout
    assert "you changed it" in pi.run("uninstall").stdout
    assert (pi.root / "etc/cfl-edge/learn.toml").read_text() == 'stream = "/dev/video2"\n'


def test_uninstall_leaves_models_and_purge_does_not(machine):
    pi = machine(model=PI, machine="aarch64")
    pi.run()
    pi.file("var/lib/cfl-edge/model/current", "precious")
    done = pi.run("uninstall")
    assert done.returncode == 0, done.stderr
    assert set(pi.files()) == {"proc/device-tree/model", "var/lib/cfl-edge/model/current"}
    assert "--purge removes them" in done.stdout
    assert not (pi.root / "etc/cfl-edge").exists()
    assert "nothing to do" in pi.run("uninstall").stdout
    assert pi.run("uninstall", "--purge").returncode == 0
    assert set(pi.files()) == {"proc/device-tree/model"}


def test_an_environment_that_somebody_else_created_is_left_alone(machine):
    pi = machine(model=PI, machine="aarch64")
    pi.file("opt/cfl-edge/bin/python", "by hand")
    assert_refused(pi.run(), 1, "did not create it")
    assert "stays: this script did not create it" in pi.run("uninstall").stdout
    assert (pi.root / "opt/cfl-edge/bin/python").read_text() == "by hand"


def test_without_root_nothing_of_the_system_is_touched(machine):
    pi = machine()
    pi.program("id", 'case "$1" in -u) echo 1000;; *) echo somebody;; esac')
    for action in ("install", "uninstall"):
        assert_refused(
            pi.run(action, root=False), 3, "needs root", f"sudo deploy/install.sh {action}"
        )
    dry = pi.run("--dry-run", root=False)
    assert dry.returncode == 0, dry.stderr
    assert pi.calls == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--torch", "rocm"], "rocm"),
        (["--torch"], "needs a value"),
        (["--board", "toaster"], "toaster"),
        (["--purge"], "uninstall"),
        (["frobnicate"], "frobnicate"),
        (["--root", "relative"], "absolute"),
        (["--root", ""], "needs a value"),
    ],
)
def test_wrong_usage(arguments, word):
    done = subprocess.run(
        ["sh", str(DEPLOY / "install.sh"), "--dry-run", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_refused(done, 2, word)


def test_help_names_every_option():
    done = subprocess.run(
        ["sh", str(DEPLOY / "install.sh"), "--help"], capture_output=True, text=True, check=True
    )
    parsed = set(re.findall(r"^ {8}(--[a-z-]+)\)", (DEPLOY / "install.sh").read_text(), re.M))
    assert parsed <= set(re.findall(r"--[a-z-]+", done.stdout))
    assert len(parsed) == 7


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [shellcheck, "-s", "sh", str(DEPLOY / "install.sh")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_udev_rule_names_the_vendors_of_boards():
    rules = (DEPLOY / "99-cfl-edge.rules").read_text()
    match = re.search(r'ATTRS\{idVendor\}=="([^"]+)"', rules)
    assert match is not None
    assert [int(vendor, 16) for vendor in match[1].split("|")] == list(USB_VENDORS)


def test_the_udev_rules_are_well_formed():
    # udev(7): KEY op "value", parted by commas
    term = r'[A-Z_]+(\{[A-Za-z_]+\})?(==|!=|=|\+=|-=|:=)"[^"]*"'
    lines = (DEPLOY / "99-cfl-edge.rules").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert len(rules) == 4
    for rule in rules:
        assert re.fullmatch(rf"{term}(, {term})*", rule), rule

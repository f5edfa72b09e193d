"""What doctor says of cameras, groups, ports, the clock and the disk."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cfl_edge.doctor.board import check_clock, check_space, read_synchronised
from cfl_edge.doctor.check import Check
from cfl_edge.doctor.devices import (
    GROUPS,
    check_cameras,
    check_groups,
    check_serial,
    read_groups,
)
from cfl_edge.stream.camera import abi
from cfl_edge.stream.camera.device import read_camera
from firmware_host.ports import Port


def kernel(card=b"USB Camera", caps=abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING, formats=("YUYV",)):
    def control(_, request, argument):
        if request == abi.QUERYCAP:
            argument.card[:] = card.ljust(32, b"\0")
            argument.device_caps = caps
        elif argument.index < len(formats):
            argument.pixelformat = abi.fourcc(formats[argument.index])
        else:
            raise OSError(errno.EINVAL, "")
        return 0

    return control


def test_a_camera_tells_its_name_and_formats(monkeypatch):
    def read(**told):
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.ioctl", kernel(**told))
            return read_camera("/dev/null")

    assert read(formats=("MJPG", "YUYV")) == ("USB Camera", ["MJPG", "YUYV"])
    assert read(caps=abi.CAP_STREAMING) is None
    assert read(card=b"\xff" * 32)[1] == ["YUYV"]
    assert len(read(formats=("YUYV",) * 1000)[1]) == 256
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        read_camera("/dev/null")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        read_camera("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_cameras_are_judged():
    def read(path):
        found = {
            "/dev/video0": ("Cam\x1b[2J", ["YUYV", "MJPG"]),
            "/dev/video1": None,
            "/dev/video2": OSError(errno.EACCES, ""),
            "/dev/video3": OSError(errno.ENODEV, ""),
            "/dev/video10": ("unicam", ["pBAA", "RG10", "BA81", "RGGB", "BG10", "GB10", "GR10"]),
        }[path]
        if isinstance(found, OSError):
            raise found
        return found

    paths = [Path(f"/dev/video{n}") for n in (10, 3, 2, 1, 0)]
    good, forbidden, raw = check_cameras(paths, read)
    assert good.status == "ok"
    assert "\x1b" not in good.text
    assert good.text.endswith("YUYV, MJPG")
    assert forbidden.status == "problem"
    assert "sudo usermod -aG video" in forbidden.next
    assert raw.status == "warning"
    assert "and 1 more: no format that can be read" in raw.text
    (none,) = check_cameras([], read)
    assert none.status == "warning"
    assert "demo:" in none.next


def test_groups_are_judged():
    both = dict.fromkeys(GROUPS, ())
    assert {c.status for c in check_groups("eve", list(GROUPS), both, False)} == {"ok"}
    assert {c.status for c in check_groups("root", [], {}, True)} == {"ok"}
    (video, dialout) = check_groups("eve", [], {"video": ["eve"], "dialout": []}, False)
    assert "not since this login" in video.text
    assert dialout.next == "sudo usermod -aG dialout eve, then log out and in"
    (video, _) = check_groups("eve", [], {}, False)
    assert "there is no group video" in video.text
    user, member_of, database, is_root = read_groups()
    assert is_root == (os.geteuid() == 0)
    assert set(member_of) <= set(database)
    assert user


def test_serial_ports_are_judged():
    ports = [Port("/dev/ttyACM0", "Pico", 0x2E8A, 0xA), Port("/dev/ttyS0")]
    (pico,) = check_serial(ports, lambda _: True)
    assert pico == Check("serial", "ok", "/dev/ttyACM0 (Pico, Raspberry Pi, 2e8a:000a)")
    (pico,) = check_serial(ports, lambda _: False)
    assert (pico.status, "dialout" in pico.next) == ("warning", True)
    assert check_serial(ports[1:])[0].status == "ok"


@pytest.mark.parametrize(
    ("answer", "synchronised"), [("yes", True), ("no", False), ("", None), ("maybe", None)]
)
def test_timedatectl_is_asked(tmp_path, answer, synchronised):
    command = tmp_path / "timedatectl"
    command.write_text(f"#!/bin/sh\necho {answer}\n")
    command.chmod(0o755)
    assert read_synchronised(str(command), tmp_path) == synchronised


def test_without_timedatectl_a_file_of_timesyncd_tells(tmp_path):
    folder = tmp_path / "run/systemd/timesync"
    assert read_synchronised("no-such-command", tmp_path) is None
    folder.mkdir(parents=True)
    assert read_synchronised("no-such-command", tmp_path) is False
    (folder / "synchronized").touch()
    assert read_synchronised("no-such-command", tmp_path) is True


def test_the_clock_is_judged():
    now = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    assert check_clock(True, now) == Check("clock", "ok", "2026-05-01 12:30 UTC, synchronised")
    assert check_clock(False, now).next.startswith("sudo timedatectl set-ntp true")
    assert check_clock(None, now).status == "unknown"
    for year in (1970, 2024, 2100):
        assert check_clock(True, now.replace(year=year)).status == "problem"


def test_space_is_judged_where_the_model_will_be(tmp_path, monkeypatch):
    check = check_space(tmp_path / "not/there/yet")
    assert check.status in ("ok", "warning")
    assert str(tmp_path) in check.text

    def free(mib):
        usage = type("Usage", (), {"free": mib << 20})
        monkeypatch.setattr("cfl_edge.doctor.board.shutil.disk_usage", lambda _: usage)
        return check_space(tmp_path).status

    assert [free(mib) for mib in (5000, 500, 50)] == ["ok", "warning", "problem"]
    monkeypatch.setattr("cfl_edge.doctor.board.os.access", lambda *_: False)
    assert check_space(tmp_path).status == "problem"

"""A USB camera's motion JPEG through the kernel's uvcvideo driver, whole and damaged.

A virtual machine runs `vm_uvc_guest.py`, which reports one line a scenario; the camera is
`vm_uvc.py`.
"""

import pytest
from vm_lab import Reports, run_guest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(460)]

# Of two decoders: they scale the colours, which have half the width, otherwise.
MOST_OFF = 4.0


@pytest.fixture(scope="module")
def reports() -> Reports:
    modules = ("vhci_hcd", "uvcvideo")
    return run_guest("vm_uvc_guest.py", last="imports", timeout_s=400, modules=modules)


@pytest.mark.parametrize(
    ("scenario", "shape"), [("plain", [360, 640, 3]), ("odd_size", [361, 641, 3])]
)
def test_a_page_shows_the_bytes_that_the_camera_sent(
    reports: Reports, scenario: str, shape: list[int]
) -> None:
    got = reports[scenario]
    assert got["description"] == f"/dev/video0: {shape[1]}x{shape[0]} mjpeg at 10 fps"
    assert got["notices"] == []
    assert got["damaged"] == 0
    assert len(got["frames"]) == 8
    for frame in got["frames"]:
        assert frame["shape"] == shape
        assert len(set(frame["numbers"])) == 1  # what the model sees is what is shown
        assert frame["as_sent"]
        assert frame["tables"]  # which not every browser has by itself
        assert frame["off"] < MOST_OFF


def test_no_damaged_frame_is_seen_or_shown(reports: Reports) -> None:
    got = reports["damaged"]
    assert len(got["frames"]) == 16
    for frame in got["frames"]:
        assert frame["numbers"][0] % 2 == 0
        assert len(set(frame["numbers"])) == 1
        assert frame["off"] < MOST_OFF
    assert got["damaged"] >= 7  # the emulated processor is slow: some are dropped unread
    assert got["notices"] == []


def test_a_camera_that_was_pulled_out_comes_back_by_itself(reports: Reports) -> None:
    got = reports["unplugged"]
    assert sum("is back after " in text for text in got["notices"]) == 2
    assert max(got["back_s"]) < 5
    assert got["devices"] == [["/dev/video0", "/dev/video1"]] * 2
    for frame in got["frames"]:
        assert len(set(frame["numbers"])) == 1

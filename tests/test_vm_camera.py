"""The camera stream against a real /dev/video0 (the kernel's test driver) that fails in each way.

A virtual machine runs `vm_camera_guest.py`, which reports one line a scenario.
"""

import pytest
from vm_lab import Reports, run_guest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(540)]


@pytest.fixture(scope="module")
def reports() -> Reports:
    return run_guest("vm_camera_guest.py", last="imports", timeout_s=480)


def test_reads_the_size_and_rate_that_it_asked_for(reports: Reports) -> None:
    got = reports["normal"]
    assert got["description"] == "/dev/video0: 640x360 yuyv422 at 30 fps"
    assert got["shape"] == [360, 640, 3]
    assert 25 < got["fps"] < 35
    assert got["age_s"] < 1
    assert got["distinct"] > 3
    assert 20 < got["bright"] < 235
    assert got["notices"] == []
    assert got["close_s"] < 1
    assert got["threads"] == 1


def test_tells_what_differs_from_what_was_asked(reports: Reports) -> None:
    got = reports["differs"]
    assert "(asked 8x8)" in got["description"]
    assert "(asked 31)" in got["description"]
    assert len(got["notices"]) == 1
    assert "instead of 8x8" in got["notices"][0]
    assert "instead of 31 fps" in got["notices"][0]


def test_a_slow_reader_gets_new_frames_and_the_count_of_the_rest(reports: Reports) -> None:
    got = reports["slow_reader"]
    assert got["last_index"] == got["frames"] - 1 + got["last_dropped"]
    assert got["dropped"] > 20  # 2.1 s at 30 fps, 8 frames read
    assert got["oldest_s"] < 0.5


def test_frames_that_the_driver_drops_are_counted(reports: Reports) -> None:
    got = reports["buffers_lost"]
    assert got["fps"] > 1
    assert got["dropped"] > 20
    assert got["notices"] == []


def test_a_damaged_buffer_is_dropped_and_the_stream_goes_on(reports: Reports) -> None:
    got = reports["buffer_error"]
    assert got["after"] > 0
    assert got["dropped"] >= 1
    assert got["notices"] == []


@pytest.mark.parametrize("scenario", ["qbuf_error", "fatal_error"])
def test_comes_back_after_a_failed_call(reports: Reports, scenario: str) -> None:
    got = reports[scenario]
    assert got["after"] > 0
    assert got["notices"][0].startswith("/dev/video0 stopped: ")
    assert got["notices"][-1].startswith("/dev/video0 is back after ")


def test_a_start_that_fails_leaves_the_camera_free(reports: Reports) -> None:
    got = reports["streamon_fails"]
    assert got["first"]["error"] == "StreamLostError"
    assert "/dev/video0 does not open: Invalid argument" in got["first"]["text"]
    assert got["second"]["opened"].startswith("/dev/video0: ")


def test_a_silent_hang_is_noticed_and_mended(reports: Reports) -> None:
    got = reports["hang"]
    assert got["notices"][0] == "/dev/video0 sent no frame for 1.5 s; next try in 0.5 s"
    assert got["notices"][-1].startswith("/dev/video0 is back after ")
    assert 1.5 < got["back_s"] < 10
    assert got["after"] > 0
    assert got["index_ok"]


def test_closes_at_once_while_the_camera_hangs(reports: Reports) -> None:
    got = reports["hang_and_close"]
    assert got["close_s"] < 1
    assert got["threads"] == 1
    assert "opened" in got["again"]


def test_a_camera_that_sends_nothing_at_the_start_is_an_error(reports: Reports) -> None:
    got = reports["hang_at_start"]
    assert got["error"] == "StreamLostError"
    assert got["seconds"] < 5


def test_a_process_that_forgets_to_close_ends_and_frees_the_camera(reports: Reports) -> None:
    got = reports["exit_without_close"]
    assert got["status"] == 0, got["stderr"]
    assert got["stderr"] == ""
    assert "opened" in got


def test_a_second_opener_is_told_who_holds_the_camera(reports: Reports) -> None:
    got = reports["busy"]
    assert got["error"] == "StreamBusyError"
    assert "fuser -v /dev/video0" in got["text"]
    assert got["first_goes_on"] > 0


@pytest.mark.parametrize(
    ("scenario", "error", "text"),
    [
        ("wrong_format", "StreamFormatError", "does not offer mjpeg; it offers YUYV, "),
        ("missing", "StreamNotFoundError", "/dev/video9: no such device; there: /dev/video0"),
        ("no_camera", "StreamFormatError", "/dev/null is not a camera"),
    ],
)
def test_what_does_not_open_says_why(
    reports: Reports, scenario: str, error: str, text: str
) -> None:
    got = reports[scenario]
    assert got["error"] == error
    assert text in got["text"]
    assert got["seconds"] < 2


@pytest.mark.parametrize("scenario", ["disconnect", "unplug"])
def test_a_camera_that_was_unplugged_comes_back_by_itself(reports: Reports, scenario: str) -> None:
    got = reports[scenario]
    assert got["before"] > 0
    assert got["notices"][0] == "/dev/video0 is gone; next try in 0.5 s"
    assert got["notices"][-1].startswith("/dev/video0 is back after ")
    assert got["after"] > 0
    assert got["index_ok"]


def test_unplugged_tries_are_told_each(reports: Reports) -> None:
    tries = [text for text in reports["unplug"]["notices"] if "no such device" in text]
    assert tries
    assert "next try in 1 s" in tries[0]


def test_the_stream_room_does_not_import_torch(reports: Reports) -> None:
    assert reports["imports"]["torch"] is False

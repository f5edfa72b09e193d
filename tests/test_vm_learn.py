"""`cfl-edge learn` from a real /dev/video0 (the kernel's test driver), in a virtual machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from vm_lab import Reports, run_guest

from cfl_edge.model.store import Saved, Store

TIMEOUT_S = 900  # 4 to 8 minutes on two cores

pytestmark = [pytest.mark.vm, pytest.mark.timeout(TIMEOUT_S + 60)]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("share")


@pytest.fixture(scope="module")
def reports(share: Path) -> Reports:
    return run_guest(
        "vm_learn_guest.py", last="second", timeout_s=TIMEOUT_S, memory_mib=3072, share=share
    )


def learned(report: dict[str, Any]) -> tuple[int, int, int]:
    """Return the frames learned, handled and dropped that the summary tells."""
    assert report["status"] == 0, report["stderr"]
    found = re.search(
        r"^learned +(\d+) of (\d+) frames in \d+ s, (\d+) dropped$", report["stdout"], re.MULTILINE
    )
    assert found, report["stdout"]
    return int(found[1]), int(found[2]), int(found[3])


def saved(folder: Path) -> Saved:
    notices: list[str] = []
    model = Store(folder, on_notice=notices.append).load()
    assert notices == []
    return model


def test_learns_sixty_frames_and_tells_how_many_were_dropped(reports: Reports) -> None:
    frames, handled, dropped = learned(reports["first"])
    assert (frames, handled) == (60, 60)
    assert dropped > 20  # the camera runs while torch is imported
    assert "classes    bars 60\n" in reports["first"]["stdout"]
    assert "model      runs/model\n" in reports["first"]["stdout"]


def test_saves_what_it_saw(reports: Reports, share: Path) -> None:
    model = saved(share / "first")
    assert model.manifest["classes"] == ["bars"]
    assert model.manifest["counters"] == {"runs": 1, "frames_learned": 60, "gradient_steps": 0}
    image = model.tensors["state"]["examples"][0]
    assert image.std(axis=1).mean() > 30  # vertical bars: colours change along the rows
    assert reports["list"]["status"] == 0, reports["list"]["stderr"]
    assert reports["list"]["stdout"].split()[3::2] == ["60", "bars"]


def test_a_second_start_has_the_camera_and_goes_on(reports: Reports, share: Path) -> None:
    assert learned(reports["second"])[:2] == (5, 5)
    told = "resuming runs/model: 1 class, 60 frames learned\n"
    assert told in reports["second"]["stderr"]
    model = saved(share / "second")
    assert model.manifest["classes"] == ["bars"]
    assert model.manifest["counters"] == {"runs": 2, "frames_learned": 65, "gradient_steps": 0}


@pytest.mark.parametrize("start", ["first", "second"])
def test_says_nothing_of_faults_that_were_none(reports: Reports, start: str) -> None:
    """Importing torch starves the camera's thread; the emulated processor has no NNPACK."""
    assert reports[start]["stderr"].splitlines()[0] == "/dev/video0: 640x360 yuyv422 at 5 fps"
    assert "sent no frame" not in reports[start]["stderr"]
    assert reports[start]["stderr"].count("Could not initialize NNPACK") <= 1

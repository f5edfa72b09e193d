"""`cfl-edge learn` from a real /dev/video0 (the kernel's test driver), and from a USB camera that
is unplugged meanwhile, in a virtual machine."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vm_lab import VIVID, Reports, run_guest
from vm_uvc_guest import SIZE, motion_jpeg, numbers

from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.store import Store
from cfl_edge.stream.decode import with_tables

TIMEOUT_S = 2400  # 8 to 25 minutes on two cores: torch is imported three times

pytestmark = [pytest.mark.vm, pytest.mark.timeout(TIMEOUT_S + 60)]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("share")


@pytest.fixture(scope="module")
def reports(share: Path) -> Reports:
    return run_guest(
        "vm_learn_guest.py",
        last="unplugged",
        timeout_s=TIMEOUT_S,
        memory_mib=3072,
        share=share,
        modules=(VIVID, "vhci_hcd", "uvcvideo"),
    )


def learned(report: dict[str, Any]) -> int:
    """Return the frames learned; every frame of the camera is accounted for."""
    assert report["status"] == 0, report["stderr"]
    told = report["summary"]
    assert told["ended_by"] == "SIGTERM"
    assert told["seen"] == told["learned"]
    assert told["frames"] == told["seen"] + told["dropped"] + told["damaged"]
    return int(told["learned"])


def saved(folder: Path) -> Saved:
    notices: list[str] = []
    model = Store(folder, on_notice=notices.append).load()
    assert notices == []
    return model


def counted(model: Saved) -> tuple[int, int]:
    """Return sessions and frames learned, as the model has them."""
    counters = model.manifest["counters"]
    return counters["runs"], counters["frames_learned"]


def test_learns_and_tells_how_many_frames_were_dropped(reports: Reports) -> None:
    assert learned(reports["first"]) >= 30
    assert reports["first"]["summary"]["dropped"] > 20  # the camera runs while torch is imported


def test_saves_what_it_saw(reports: Reports, share: Path) -> None:
    model, frames = saved(share / "first"), learned(reports["first"])
    assert model.manifest["classes"] == ["bars"]
    assert counted(model) == (1, frames)
    image = model.tensors["state"]["examples.images"][0]
    assert image.std(axis=1).mean() > 30  # vertical bars: colours change along the rows
    assert reports["list"]["status"] == 0, reports["list"]["stderr"]
    assert json.loads(reports["list"]["stdout"])["classes"] == {"bars": frames}


def test_a_second_start_has_the_camera_and_goes_on(reports: Reports, share: Path) -> None:
    first, second = learned(reports["first"]), learned(reports["second"])
    told = f"resuming runs/model: 1 class, {first} frames learned"
    assert told in reports["second"]["notices"]
    assert saved(share / "second").manifest["classes"] == ["bars"]
    assert counted(saved(share / "second")) == (2, first + second)


@pytest.mark.parametrize("start", ["first", "second"])
def test_says_nothing_of_faults_that_were_none(reports: Reports, start: str) -> None:
    """Importing torch starves the camera's thread; the emulated processor has no NNPACK."""
    assert reports[start]["notices"][0] == "/dev/video0: 640x360 yuyv422 at 5 fps"
    assert not [text for text in reports[start]["notices"] if "sent no frame" in text]
    assert reports[start]["stderr"].count("Could not initialize NNPACK") <= 1


def test_learning_goes_on_once_an_unplugged_camera_is_back(reports: Reports, share: Path) -> None:
    got = reports["unplugged"]
    frames = learned(got)
    assert frames >= 8
    device, notices = got["device"], got["notices"]
    assert notices.count(f"{device} is gone; next try in 0.5 s") == 1
    assert sum(text.startswith(f"{device} is back after ") for text in notices) == 1
    assert counted(saved(share / "unplugged")) == (1, frames)


def test_its_page_shows_the_camera_s_own_pictures(reports: Reports) -> None:
    sent = {with_tables(motion_jpeg(number, SIZE)): number for number in range(4)}
    pictures = [base64.b64decode(picture) for picture in reports["unplugged"]["pictures"]]
    assert len(pictures) == 3
    for jpeg in pictures:
        with Image.open(io.BytesIO(jpeg)) as image:
            shown = np.asarray(image.convert("RGB"))
        assert numbers(shown) == [sent[jpeg]] * 2

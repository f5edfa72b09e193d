"""A model on FAT, exFAT and a shared folder, in a virtual machine with the kernel's own drivers."""

import json

import pytest
from vm_files_guest import MOUNTS
from vm_lab import Reports, run_guest

TIMEOUT_S = 1500  # 7 to 15 minutes on two cores

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(TIMEOUT_S + 60)]


@pytest.fixture(scope="module")
def reports() -> Reports:
    modules = ("loop", "vfat", "exfat", "nls_cp437", "nls_ascii", "nls_utf8")
    return run_guest(
        "vm_files_guest.py", last="9p", timeout_s=TIMEOUT_S, memory_mib=2048, modules=modules
    )


@pytest.mark.parametrize("place", [*MOUNTS, "9p"])
def test_it_learns_is_corrected_exported_and_published(reports: Reports, place: str) -> None:
    report = reports[place]
    refused = {"zones", "in use"} | (set() if place == "9p" else {"other shared"})
    for name, done in report.items():
        if isinstance(done, dict) and "code" in done:
            assert (done["code"] != 0) == (name in refused), (name, done)
    assert "'door', expected a name of its own" in report["zones"]["err"]
    assert "is in use" in report["in use"]["err"]
    assert report["held"]["holder"]
    told = json.loads(report["listed"]["out"].splitlines()[-1])["classes"]
    assert told["Mug"] > 0 == told["mug"]
    assert not [name for name in report["left"] if ".writing-" in name or "-kept-" in name]
    assert {"model/onnx/model.onnx", "live/pets.onnx"} <= set(report["left"])

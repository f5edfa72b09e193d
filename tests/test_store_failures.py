"""The model folder when writing fails: full disks, missing permissions, kill -9."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from saved_models import assert_holds, checkpoints, save

from cfl_edge.errors import (
    ModelError,
    ModelNotFoundError,
    ModelWriteError,
)
from cfl_edge.model import writing
from cfl_edge.model.store import Store

# ------------------------------------------------------------------------------- failing to write


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "m").write_text("x")
    for folder in (tmp_path / "m", tmp_path / "m" / "deeper"):
        with pytest.raises(ModelWriteError, match="a file is in the way"):
            save(Store(folder), 1)
    assert (tmp_path / "m").read_text() == "x"


STEPS = ["mkdir", "open", "write", "fsync", "rename"]


def break_step(monkeypatch, step: str, number: int, count: int) -> list[int]:
    """Let the count-th call of one system function fail; returns a list with the calls left."""
    left = [count]

    def wrap(function):
        def failing(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(number, os.strerror(number))
            return function(*args, **kwargs)

        return failing

    if step == "open":
        monkeypatch.setattr(writing, "open", wrap(open), raising=False)
    elif step == "write":
        monkeypatch.setattr(writing, "open", broken_files(wrap), raising=False)
    else:
        monkeypatch.setattr(os, step, wrap(getattr(os, step)))
    return left


def failed_save(store: Store) -> ModelWriteError | None:
    try:
        save(store, 3)
    except ModelWriteError as error:
        return error
    return None


def broken_files(wrap):
    class File:
        def __init__(self, *args, **kwargs):
            self.file = open(*args, **kwargs)  # noqa: SIM115
            self.write = wrap(lambda data: self.file.write(data[:100]))  # and writes are partial

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def fileno(self):
            return self.file.fileno()

    return File


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_harms_nothing(store, monkeypatch, step, number):
    save(store, 1)
    save(store, 2)
    before = checkpoints(store.folder)
    for count in range(1, 100):
        fresh = Store(store.folder, on_notice=lambda _text: None)
        with monkeypatch.context() as patch:
            left = break_step(patch, step, number, count)
            failure = failed_save(fresh)
        if failure:
            assert "checkpoint-000002 is intact" in failure.problem
            assert failure.hint
        if left[0] > 0:
            break  # the step has fewer calls than that: nothing failed
        value = Store(store.folder).load().manifest["value"]
        assert value == (2 if failure else 3)  # what is reported as failed is not found later
        assert not [name for name in checkpoints(store.folder) if name.startswith(".writing")]
        shutil.rmtree(store.folder)
        save(store, 1)
        save(store, 2)
        assert checkpoints(store.folder) == before
    else:
        pytest.fail(f"{step} never succeeded")
    assert count > 1
    assert_holds(store.folder, 3)


@pytest.mark.parametrize(
    ("number", "problem", "hint"),
    [
        (
            errno.ENOSPC,
            r"the disk is full: it needs \d+\.\d [KM]iB, \d+\.\d MiB free",
            "free some space",
        ),
        (errno.EDQUOT, "may store on this disk is used up", "quota -s"),
        (errno.EACCES, "you may not write there", "chown"),
        (errno.EROFS, "read-only", "remount"),
        (errno.EIO, "Input/output error", "dmesg"),
    ],
)
def test_the_text_names_folder_reason_and_next_step(store, monkeypatch, number, problem, hint):
    break_step(monkeypatch, "fsync", number, 1)
    with pytest.raises(ModelWriteError, match=problem) as caught:
        save(store, 1)
    assert str(store.folder) in caught.value.problem
    assert hint in caught.value.hint
    assert "intact" not in caught.value.problem  # there was nothing
    assert checkpoints(store.folder) == []


def test_an_old_checkpoint_that_cannot_go_is_a_notice(store, monkeypatch, notices):
    save(store, 1)
    save(store, 2)
    with monkeypatch.context() as patch:
        break_step(patch, "rename", errno.EACCES, 2)
        save(store, 3)
    assert "checkpoint-000001 could not be removed: Permission denied" in notices[0]
    assert_holds(store.folder, 3)
    save(store, 4)
    assert checkpoints(store.folder) == ["checkpoint-000003", "checkpoint-000004"]


def noise(kibibytes: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return {"state": {"a": random.integers(0, 256, kibibytes * 1024, np.uint8)}}


def test_a_full_disk(small_disk, notices):
    store = Store(small_disk / "m", on_notice=notices.append)
    store.save({"value": 1}, noise(300, 1))
    store.save({"value": 2}, noise(300, 2))
    # Two checkpoints and a third do not fit: the older one goes first, with a notice.
    store.save({"value": 3}, noise(600, 3))
    assert "dropped checkpoint-000001" in notices[0]
    assert Store(store.folder).load().manifest["value"] == 3
    with pytest.raises(ModelWriteError, match=r"disk is full.*checkpoint-000003 is intact"):
        store.save({"value": 4}, noise(700, 4))
    assert checkpoints(store.folder) == ["checkpoint-000003"]
    assert Store(store.folder).load().manifest["value"] == 3
    with pytest.raises(ModelWriteError, match="disk is full"):
        Store(small_disk / "other").save({}, noise(600, 5))
    store.save({"value": 5}, noise(100, 6))
    assert Store(store.folder).load().manifest["value"] == 5


def test_a_full_disk_costs_the_oldest_first(small_disk, notices):
    store = Store(small_disk / "m", on_notice=notices.append)
    for value in range(1, 5):
        store.save({"value": value}, noise(150, value), keep={1, 2, 3})
    assert store.numbers() == [4, 3, 2, 1]
    store.save({"value": 5}, noise(650, 5), keep={1, 2, 3})
    assert store.numbers() == [5, 4, 3]
    assert [text.split("dropped ")[1][:17] for text in notices] == [
        "checkpoint-000001",
        "checkpoint-000002",
    ]
    assert "cfl-edge undo can now undo less" in notices[0]
    assert store.load().manifest["value"] == 5


# ------------------------------------------------------------------------------------------- kill

SAVING = r"""
import os, sys, time
from itertools import count
from pathlib import Path
import numpy as np
from cfl_edge.model.store import Store
os.fsync = lambda _: time.sleep(0.001)  # as a disk waits, but never for seconds
for _ in sys.stdin:  # this process imports; each line starts one that saves until it is killed
    if not os.fork():
        break
    print("ended", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
else:
    sys.exit()
print(os.getpid(), flush=True)
store = Store(Path(sys.argv[1]))
first = store.load().manifest["value"] if store.exists() else 0
for value in count(first + 1):
    store.save(
        {"value": value},
        {"state": {"a": np.full(50_000, value)}, "replay": {"b": np.full(20_000, value // 4)}},
    )
    os.write(1, b"%d\n" % value)  # whole or not at all, where print may be killed before the "\n"
"""


def test_kill_at_twenty_random_moments(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "m"
    interrupted = 0
    with subprocess.Popen(
        [sys.executable, "-c", SAVING, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starting:
        for _ in range(20):
            print(file=starting.stdin, flush=True)
            child = int(starting.stdout.readline())
            line = starting.stdout.readline()
            time.sleep(random.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            while not line.startswith("ended"):
                printed, line = int(line), starting.stdout.readline()
            assert line == f"ended {-signal.SIGKILL}\n"
            interrupted += any(name.startswith(".writing") for name in checkpoints(folder))
            notices: list[str] = []
            saved = Store(folder, on_notice=notices.append).load()
            value = saved.manifest["value"]
            assert notices == []  # not even the older checkpoint was needed
            assert value >= printed  # what was reported as saved is there
            assert (saved.tensors["state"]["a"] == value).all()
            assert (saved.tensors["replay"]["b"] == value // 4).all()
    assert interrupted > 0  # else the test has shown nothing


def test_a_link_among_other_files_is_no_part_of_a_model(tmp_path):
    (tmp_path / "photos").symlink_to("elsewhere")
    store = Store(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"holds no model\n.*--model \S*/model makes one"):
        store.load()
    with pytest.raises(ModelError, match=r"holds other files but no model \(photos\)"):
        store.save({"classes": []}, {})

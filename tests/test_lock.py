import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cfl_edge.errors import ModelLockedError, ModelWriteError
from cfl_edge.model import lock
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store

HOLD = """
import sys, time
from pathlib import Path
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store
with ModelLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "m"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(ModelLockedError, match=rf"process {holder.pid} is at work") as caught:
        ModelLock(tmp_path / "m").__enter__()
    assert caught.value.hint.startswith("Ctrl-C in its terminal saves and ends it, so does kill")
    (tmp_path / "m" / lock.SOCKET).touch()  # as of a session that learns
    with pytest.raises(ModelLockedError) as caught:
        ModelLock(tmp_path / "m").__enter__()
    hint = caught.value.hint
    assert hint.startswith(f"cfl-edge classes list {tmp_path / 'm'}, undo")
    assert hint.index("Ctrl-C") < hint.index(f"kill -INT {holder.pid}")
    with pytest.raises(ModelLockedError, match=f"{holder.pid}"):  # asking did not erase the id
        ModelLock(tmp_path / "m").__enter__()


def test_a_killed_process_leaves_no_lock(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "m" / "lock").read_text() == f"{holder.pid}\n"
    with ModelLock(tmp_path / "m"):
        assert (tmp_path / "m" / "lock").read_text() == f"{os.getpid()}\n"


def test_it_ends_with_the_block_even_by_an_error(tmp_path):
    def fail():
        with ModelLock(tmp_path):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with ModelLock(tmp_path), pytest.raises(ModelLockedError):  # and counts within a process too
        ModelLock(tmp_path).__enter__()
    with ModelLock(tmp_path):
        pass


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "m").write_text("x")
    with pytest.raises(ModelWriteError, match="file is in the way"):
        ModelLock(tmp_path / "m").__enter__()
    with pytest.raises(ModelWriteError, match="file is in the way"):
        ModelLock(tmp_path / "m" / "n").__enter__()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "lock").touch()
    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    assert lock.holder(tmp_path) is None
    with pytest.raises(ModelWriteError, match="file system has no locks") as caught:
        ModelLock(tmp_path).__enter__()
    assert "nolock" in caught.value.hint


def test_a_read_only_place():
    with pytest.raises(ModelWriteError):
        ModelLock(Path("/proc/m")).__enter__()


def test_a_folder_that_nobody_filled_goes_with_the_lock(tmp_path):
    folder = tmp_path / "runs" / "mine" / "m"
    (tmp_path / "runs").mkdir()
    with ModelLock(folder):
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert list((tmp_path / "runs").iterdir()) == []
    folder.mkdir(parents=True)  # now it is the user's
    with ModelLock(folder):
        pass
    assert folder.is_dir()


def test_a_folder_in_which_something_was_put_stays(tmp_path):
    folder = tmp_path / "m"
    with ModelLock(folder):
        (folder / "note").write_text("mine")
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "note"]


def test_who_opened_a_lock_that_is_removed_takes_the_new_one(tmp_path, monkeypatch):
    """Between opening the file and locking it, whoever had it may remove it."""
    opened, first = [], ModelLock(tmp_path / "m").__enter__()
    regular = lock.regular

    def opens_and_loses_it(path, flags):
        descriptor = regular(path, flags)
        if not opened:
            first.__exit__()
        opened.append(path)
        return descriptor

    monkeypatch.setattr(lock, "regular", opens_and_loses_it)
    with ModelLock(tmp_path / "m"):
        assert len(opened) == 2
        with pytest.raises(ModelLockedError):
            ModelLock(tmp_path / "m").__enter__()


def test_a_folder_that_was_removed_is_locked_again_before_it_is_written(tmp_path):
    folder = tmp_path / "m"
    store = Store(folder)
    with ModelLock(folder) as held:
        store.lock = held
        store.save({"classes": []}, {})
        shutil.rmtree(folder)
        store.save({"classes": []}, {})
        assert lock.holder(folder) == str(os.getpid())
        (folder / lock.LOCK).unlink()  # somebody takes it for a leftover
        store.save({"classes": []}, {})
        assert lock.holder(folder) == str(os.getpid())
    assert lock.holder(folder) is None


def test_another_model_that_was_put_in_place_of_a_folder_is_not_written_over(tmp_path):
    folder, other = tmp_path / "m", tmp_path / "backup"
    with ModelLock(other):
        Store(other).save({"classes": ["mug"]}, {})
    store = Store(folder)
    with ModelLock(folder) as held:
        store.lock = held
        store.save({"classes": ["pen"]}, {})
        folder.rename(tmp_path / "away")
        other.rename(folder)
        for _ in range(2):
            with pytest.raises(ModelWriteError, match="another was put in its place") as caught:
                store.save({"classes": ["pen", "key"]}, {})
        assert caught.value.hint.startswith(f"mv {folder} {folder}-other, and the next save")
        assert Store(folder).load().manifest["classes"] == ["mug"]
        folder.rename(f"{folder}-other")
        store.save({"classes": ["pen", "key"]}, {})
        assert Store(folder).load().manifest["classes"] == ["pen", "key"]

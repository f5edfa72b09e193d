"""Files that are replaced as one: whole, whatever fails and whenever the process ends."""

import errno
import os
import stat
import subprocess
import sys

import pytest
from saved_models import save

from cfl_edge.errors import ModelWriteError
from cfl_edge.model import replacing
from cfl_edge.model.replacing import (
    remove_leftover,
    remove_leftovers,
    replace_files,
    staged_files,
)
from cfl_edge.model.store import Store

OLD = {"model.onnx": b"old model", "classifier.onnx": b"old", "labels.txt": b"mug\n"}
NEW = {name: content.replace(b"old", b"new") + b"!" for name, content in OLD.items()}
# A way to replace them: as a folder that holds these alone, or next to files of the user's.
WAYS = pytest.mark.parametrize("others", [{}, {"notes.txt": b"mine"}], ids=["folder", "each"])


@pytest.fixture
def out(tmp_path):
    out = tmp_path / "deep/out"
    replace_files(out, OLD)
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_two_threads_write_files_of_one_name_into_a_folder(out):
    write(out, {"notes.txt": b"mine"})
    parts = {name: [memoryview(content)] for name, content in NEW.items()}
    with staged_files(out, parts):
        replace_files(out, OLD)  # while another is at it
    assert contents(out) == NEW | {"notes.txt": b"mine"}


@WAYS
def test_all_are_replaced_and_the_rest_stays(out, others):
    write(out, others)
    for name, mode in (("model.onnx", 0o640), ("labels.txt", 0o604)):
        (out / name).chmod(mode)
    out.chmod(0o750)
    replace_files(out, NEW)
    assert contents(out) == NEW | others
    assert list(out.parent.iterdir()) == [out]
    assert stat.S_IMODE(out.stat().st_mode) == 0o750
    modes = [stat.S_IMODE((out / name).stat().st_mode) for name in ("model.onnx", "labels.txt")]
    assert modes == [0o640, 0o604]


def test_on_a_file_system_without_links_and_modes(out, lesser_file_system):
    replace_files(out, NEW)
    replace_files(out, OLD)
    assert contents(out) == OLD
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_is_exchanged_only_where_it_holds_nothing_else(out, monkeypatch):
    before = out.stat().st_ino
    with staged_files(out, parts(NEW), beside=["model-int8.onnx"]) as (model, *_):
        assert model.parent.parent == out.parent
    assert out.stat().st_ino != before
    write(out, {"model-int8.onnx": b"int8"})
    with staged_files(out, parts(OLD), beside=["model-int8.onnx"]) as (model, *_):
        assert model.parent.parent == out.parent
        (model.parent / "model-int8.onnx").write_bytes(b"new int8")
    assert contents(out) == OLD | {"model-int8.onnx": b"new int8"}
    with staged_files(out, parts(NEW), beside=["model-int8.onnx"]):
        pass
    assert contents(out) == NEW | {"model-int8.onnx": b"new int8"}
    stays = out.stat().st_ino
    with monkeypatch.context() as patch:
        patch.chdir(out)  # a shell stands in it
        replace_files(out, OLD)
        assert sorted(os.listdir(".")) == sorted([*OLD, "model-int8.onnx"])
    (out / "model-int8.onnx").unlink()
    (out / "labels.txt").unlink()
    (out / "labels.txt").symlink_to("model.onnx")
    replace_files(out, NEW)
    assert contents(out) == NEW  # the link is replaced, not what it leads to
    assert not (out / "labels.txt").is_symlink()
    assert out.stat().st_ino == stays


@pytest.mark.parametrize("taken", [False, True])
def test_files_that_appear_before_the_exchange_stay(out, monkeypatch, caplog, taken):
    exchange = replacing._exchange_folders

    def late(stage, real, beside):
        write(real, {"notes.txt": b"mine"})
        (real / "plots").mkdir()
        write(real / "plots", {"1.png": b"png"})
        done = exchange(stage, real, beside)
        if taken:
            write(real, {"notes.txt": b"newer"})
        return done

    monkeypatch.setattr(replacing, "_exchange_folders", late)
    with caplog.at_level("INFO"):
        replace_files(out, NEW)
    assert contents(out) == NEW | {"notes.txt": b"newer" if taken else b"mine"}
    assert contents(out / "plots") == {"1.png": b"png"}
    kept = out.parent / f"{out.name}-kept-{os.getpid()}"
    assert sorted(out.parent.iterdir()) == ([out, kept] if taken else [out])
    if taken:
        assert contents(kept) == {"notes.txt": b"mine"}
    assert str(kept if taken else out / "notes.txt") in caplog.text


@pytest.mark.parametrize("clean", ["replace", "remove", "store"])
@pytest.mark.parametrize("taken", [False, True])
def test_what_appeared_before_a_kill_is_carried_over(tmp_path, monkeypatch, taken, clean):
    """Killed between the exchange and the clearing: the old folder has somebody's files."""
    save(Store(tmp_path / "model"), 1.0)
    out = tmp_path / "model/onnx"
    replace_files(out, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999_999_999)
        patch.setattr(replacing, "_clear_old", die)
        with pytest.raises(SystemExit):
            replace_files(out, NEW)
    (old,) = out.parent.glob(".writing-*")
    write(old, {"notes.txt": b"mine"})
    (old / "plots").mkdir()
    write(old / "plots", {"1.png": b"png"})
    if taken:
        write(out, {"notes.txt": b"newer"})
    if clean == "replace":
        replace_files(out, NEW)
    elif clean == "remove":
        remove_leftovers(out)
    else:
        save(Store(out.parent), 2.0)
    assert contents(out) == NEW | {"notes.txt": b"newer" if taken else b"mine"}
    assert contents(out / "plots") == {"1.png": b"png"}
    assert sorted(path.name for path in out.parent.glob(".writing-*")) == []
    kept = list(out.parent.glob("onnx-kept-*"))
    assert [contents(folder) for folder in kept] == ([{"notes.txt": b"mine"}] if taken else [])


def die(*_):
    sys.exit("killed")


@pytest.mark.parametrize("first", [False, True])
def test_new_files_of_a_killed_process_are_not_taken_for_somebodys(tmp_path, monkeypatch, first):
    """Killed before the exchange: what waits is not all there, and goes."""
    out = tmp_path / "deep/out"
    if first:
        out.mkdir(parents=True)  # whoever is killed leaves the folder that it has made
    else:
        replace_files(out, {name: OLD[name] for name in ("model.onnx", "labels.txt")})
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999_999_999)
        patch.setattr(replacing, "discard", lambda _: None)
        patch.setattr(replacing, "_exchange_folders", die)
        with pytest.raises(SystemExit):
            replace_files(out, NEW)
    assert list(out.parent.glob(".writing-*"))
    remove_leftovers(out)
    assert contents(out) == before
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("forge", ["link", "fifo", "bytes", "elsewhere"])
def test_a_forged_list_moves_nothing_out_of_its_folder(out, tmp_path, forge):
    old = out.parent / ".writing-999999999-out"
    old.mkdir()
    write(old, {"notes.txt": b"mine"})
    mark = out / old.name
    if forge == "link":
        write(tmp_path, {"victim": b"labels.txt"})
        mark.symlink_to(tmp_path / "victim")
    elif forge == "fifo":
        os.mkfifo(mark)
    elif forge == "bytes":
        mark.write_bytes(b"\xff\0" * 1_000_000)
    else:  # the folder itself is a link
        out.rename(tmp_path / "victim")
        out.symlink_to(tmp_path / "victim")
        mark.touch()
    before = contents(out)
    remove_leftover(old)
    moved = {"notes.txt": b"mine"} if forge == "bytes" else {}
    assert {k: v for k, v in contents(out).items() if k != old.name} == {
        k: v for k, v in (before | moved).items() if k != old.name
    }


def parts(files):
    return {name: [memoryview(content)] for name, content in files.items()}


def test_a_link_to_the_folder_stays_one(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    replace_files(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert contents(out) == NEW
    assert list(out.parent.iterdir()) == [out]


def test_a_parent_of_somebody_else(out, monkeypatch):
    """Nothing can be made beside the folder: the files are replaced within it."""
    mkdir = os.mkdir

    def refuse(path, *rest):
        if os.path.dirname(path) == os.fspath(out.parent):
            raise PermissionError(errno.EACCES, "Permission denied")
        mkdir(path, *rest)

    monkeypatch.setattr(os, "mkdir", refuse)
    replace_files(out, NEW)
    assert contents(out) == NEW


# Failures

CALLS = ["mkdir", "open", "fsync", "replace", "link", "chmod", "unlink", "rmdir"]


@pytest.mark.parametrize("way", ["folder", "each", "no exchange"])
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(out, monkeypatch, call, forever, way):
    """All files are new or all are old, and the error says which."""
    if way == "no exchange":  # as on FAT
        monkeypatch.setattr(replacing, "_exchange_folders", lambda *_: False)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # quick; what fails is in front of it
    others = {"notes.txt": b"mine"} if way == "each" else {}
    write(out, others)
    failed = True
    for number in range(1, 60):
        with monkeypatch.context() as patch:
            left = fail(patch, call, number, forever)
            error = failure(lambda: replace_files(out, NEW))
            failed = left[0] <= 0
        found = contents(out)
        mixed = {name for name in OLD if found.get(name) == NEW[name]} not in (set(), set(OLD))
        if error is None:
            assert {name: found[name] for name in NEW} == NEW
        elif mixed:
            assert forever  # putting back failed as well
            assert " of it are new, the rest is old." in error.problem
        elif found["model.onnx"] == OLD["model.onnx"]:
            assert error.problem.endswith("Nothing was replaced.")
        else:
            assert "The new files are in place" in error.problem
        assert all(found[name] == content for name, content in others.items())
        replace_files(out, OLD)  # and the next one succeeds and cleans up
        assert {*os.listdir(out)} == {*OLD, *others}
        assert list(out.parent.iterdir()) == [out]
        if not failed:
            break
    assert not failed


def failure(action):
    try:
        action()
    except ModelWriteError as error:
        return error
    return None


def fail(patch, call, number, forever):
    """Let the call of this number fail; return the calls that are left until then."""
    left = [number]
    module, name = (replacing, "write_file") if call == "open" else (os, call)
    real = getattr(module, name)

    def failing(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0 or (forever and left[0] < 0):
            raise OSError(errno.EIO, "Input/output error")
        return real(*args, **kwargs)

    patch.setattr(module, name, failing)
    return left


# Ends of processes

KILL = """
import os, signal, sys
from pathlib import Path
from cfl_edge.model.replacing import replace_files

calls = int(sys.argv[2])

def end(event, _):
    global calls
    if event.partition(".")[0] in ("os", "open", "shutil", "ctypes"):
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(end)
replace_files(Path(sys.argv[1]), dict.fromkeys(sys.argv[3:], b"new"))
"""


@pytest.mark.slow
@WAYS
def test_killed_at_any_call(out, others):
    """Python tells of each system call that changes or reads a folder."""
    write(out, others)
    ended, mixed = 0, 0
    for number in range(1, 200):
        command = [sys.executable, "-c", KILL, out, str(number), *OLD]
        code = subprocess.run(command, check=False).returncode
        found = contents(out)
        new = {name for name in OLD if found[name] == b"new"}
        mixed += new not in (set(), set(OLD))
        replace_files(out, OLD)
        assert contents(out) == OLD | others
        assert list(out.parent.iterdir()) == [out]
        if code == 0:
            break
        ended += 1
    assert code == 0
    assert ended > 10
    assert bool(mixed) == bool(others)  # one after the other only beside other files


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(out):
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        kept = f".writing-{living.pid}-p.onnx"
        dead = [f".writing-{os.getpid()}-p.onnx", ".writing-99999999999999999999-p.onnx"]
        for name in (kept, *dead, ".writing-x", "p.onnx"):
            (out / name).touch()
        beside = [out.parent / f".writing-{pid}-out" for pid in (living.pid, 999_999_999)]
        of_others = out.parent / ".writing-999999999-elsewhere"
        for folder in (*beside, of_others):
            folder.mkdir()
            (folder / "model.onnx").touch()
        with staged_files(out, {"p.onnx": []}) as (ours,):
            remove_leftovers(out)
            assert ours.exists()  # we are alive too
        assert {*os.listdir(out)} == {*OLD, kept, ".writing-x", "p.onnx"}
        assert {*out.parent.iterdir()} == {out, beside[0], of_others}
    finally:
        living.communicate()
    remove_leftovers(out)
    assert {*os.listdir(out)} == {*OLD, ".writing-x", "p.onnx"}


def test_each_parent_that_is_made_is_synced(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    replace_files(tmp_path / "a/b/c", {"labels.txt": b"mug"})
    assert {str(tmp_path / path) for path in ("", "a", "a/b", "a/b/c")} <= {
        path.rstrip("/") for path in synced
    }

"""Links, FIFOs, sockets and devices in a model folder that somebody else made."""

import os
import stat

import pytest
from command_line import cfl_edge
from saved_models import assert_holds, save

from cfl_edge.errors import ModelError, ModelWriteError
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.opening import regular
from cfl_edge.model.store import Store

PRECIOUS = "precious contents\n"


def link(path, victim):
    path.symlink_to(victim)


def dangling(path, _victim):
    path.symlink_to(path.parent.parent / "created-elsewhere")


def fifo(path, _victim):
    os.mkfifo(path)


def unix_socket(path, _victim):
    os.mknod(path, stat.S_IFSOCK | 0o600)


def device(path, _victim):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


KINDS = {
    link: "a link",
    dangling: "a link",
    fifo: "a FIFO",
    unix_socket: "a socket",
    device: "a device",
}


@pytest.fixture
def victim(tmp_path):
    """A file outside the model folder that must stay as it is, and beside which nothing appears."""
    folder = tmp_path / "outside"
    folder.mkdir()
    path = folder / "victim"
    path.write_text(PRECIOUS)
    before = sorted(tmp_path.iterdir())
    yield path
    assert path.read_text() == PRECIOUS
    assert sorted(folder.iterdir()) == [path]
    assert set(tmp_path.iterdir()) - set(before) <= {tmp_path / "m", tmp_path / "deep"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lock", "onnx", "checkpoint-000009", "anything"])
def test_an_entry_that_leads_elsewhere_is_refused(store, victim, kind, name):
    save(store, 1)
    path = store.folder / name
    kind(path, victim if name == "lock" else victim.parent)
    fresh = Store(store.folder)
    for action in (fresh.load, fresh.exists, fresh.require_usable, lambda: save(fresh, 2)):
        with pytest.raises(ModelError, match=f"{name} is {KINDS[kind]}") as caught:
            action()
        assert f"rm {path}" in caught.value.hint
    path.unlink()
    save(store, 2)
    assert_holds(store.folder, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors"])
def test_a_file_of_a_checkpoint_that_leads_elsewhere_is_refused(store, victim, kind, name):
    path = save(store, 1) / name
    path.unlink()
    kind(path, victim)
    with pytest.raises(ModelError, match=f"{name} is {KINDS[kind]}, expected a regular file"):
        Store(store.folder).load()
    with pytest.raises(ModelError, match=name):
        save(Store(store.folder), 2)  # which reads it to know what is intact


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_alone(tmp_path, victim, kind):
    (tmp_path / "m").mkdir()
    kind(tmp_path / "m" / "lock", victim)
    with pytest.raises(ModelWriteError, match=f"lock is {KINDS[kind]}, expected a regular file"):
        ModelLock(tmp_path / "m").__enter__()


def test_a_lock_that_is_another_name_of_a_file_writes_nothing_into_it(tmp_path, victim):
    folder = tmp_path / "m"
    folder.mkdir()
    os.link(victim, folder / "lock")
    with ModelLock(folder), pytest.raises(ModelError, match="another process is at work"):
        ModelLock(folder).__enter__()


@pytest.mark.parametrize("verb", [["list"], ["add", "fox"]])
def test_the_command_refuses_it_in_one_line(model, victim, verb):
    (model / "lock").unlink()
    (model / "lock").symlink_to(victim)
    result = cfl_edge("classes", verb[0], model, *verb[1:])
    assert result.code == 4
    assert f"{model}/lock is a link" in result.err
    assert "Traceback" not in result.err


def test_a_user_may_name_a_link(tmp_path, victim):
    (tmp_path / "m").symlink_to(victim)
    with pytest.raises(OSError, match="m is a link"):
        regular(tmp_path / "m", os.O_RDONLY)
    descriptor = regular(tmp_path / "m", os.O_RDONLY, follow=True)
    assert os.read(descriptor, 100) == PRECIOUS.encode()
    os.close(descriptor)


def test_a_model_folder_may_itself_be_reached_by_a_link(store, tmp_path):
    save(store, 1)
    (tmp_path / "m").symlink_to(store.folder)
    with ModelLock(tmp_path / "m"):
        save(Store(tmp_path / "m"), 2)
    assert_holds(store.folder, 2)

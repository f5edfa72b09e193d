import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from encoded import encoded
from PIL import Image
from stream_checks import read
from test_video_file import write_clip

from cfl_edge.errors import (
    DataError,
    StreamError,
    StreamFormatError,
    StreamNotFoundError,
    StreamPermissionError,
    UsageError,
)
from cfl_edge.frame.frame import Frame
from cfl_edge.stream import decode
from cfl_edge.stream.files import listing as folder_listing
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions


def write(path: Path, colour: tuple[int, int, int] = (10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), colour).save(path)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """cat 0-11 and dog 0-11: red is the class, green the number."""
    for red, name in enumerate(["cat", "dog"]):
        for number in range(12):
            write(tmp_path / "pets" / name / f"{number}.png", (red, number, 0))
    return tmp_path / "pets"


def numbers(frames: list[Frame]) -> list[tuple[str | None, int]]:
    return [(frame.label, int(frame.image[0, 0, 1])) for frame in frames]


def test_as_is_goes_class_by_class_2_before_10(pets: Path) -> None:
    frames = read(pets)
    assert numbers(frames) == [(name, n) for name in ("cat", "dog") for n in range(12)]
    assert [frame.index for frame in frames] == list(range(24))
    assert frames[0].image.shape == (4, 5, 3)


def test_labels_are_the_first_level_below(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "kittens" / "small" / "1.jpg")
    write(tmp_path / "dog" / "1.jpg")
    write(tmp_path / "top.jpg")
    for root in (tmp_path, f"{tmp_path}/", os.path.relpath(tmp_path)):
        assert [frame.label for frame in read(root)] == [None, "cat", "dog"]


def test_the_working_folder(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)
    assert {frame.label for frame in read(".")} == {"cat", "dog"}
    assert {frame.label for frame in read("*")} == {"cat", "dog"}
    assert {frame.label for frame in read("cat/*.png")} == {None}
    assert {frame.label for frame in read("**/1.png")} == {"cat", "dog"}


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("*/*.png", 24),
        ("*", 24),
        ("c*/1?.png", 2),
        ("**/*.png", 24),
        ("**", 24),
        ("**/dog", 12),
        ("**/[0-3].png", 8),
        ("**/?/1.png", 0),
        ("cat/*.jpg", 0),
    ],
)
def test_globs(pets: Path, pattern: str, count: int) -> None:
    if count == 0:
        with pytest.raises(StreamNotFoundError, match="no image matches"):
            read(pets / pattern)
    else:
        assert len(read(pets / pattern)) == count


def test_a_glob_labels_below_its_fixed_part(pets: Path) -> None:
    assert {frame.label for frame in read(pets / "*" / "1.png")} == {"cat", "dog"}
    assert {frame.label for frame in read(pets.parent / "*" / "cat" / "1.png")} == {"pets"}
    assert {frame.label for frame in read(pets / "cat" / "*")} == {None}


def test_a_folder_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    write(tmp_path / "set[1]" / "cat" / "1.png")
    assert [frame.label for frame in read(tmp_path / "set[1]")] == ["cat"]


def test_one_image(pets: Path) -> None:
    assert numbers(read(pets / "dog" / "3.png")) == [(None, 3)]


def test_shuffled_is_a_new_permutation_every_epoch(pets: Path) -> None:
    frames = numbers(read(pets, order="shuffled", epochs=2, seed=5))
    first, second = frames[:24], frames[24:]
    assert sorted(map(str, first)) == sorted(map(str, second))
    assert len(set(first)) == 24
    assert first != second
    assert len({name for name, _ in first[:12]}) == 2
    assert frames == numbers(read(pets, order="shuffled", epochs=2, seed=5))
    assert frames != numbers(read(pets, order="shuffled", epochs=2, seed=6))


def test_by_class_mixes_within_each_class(pets: Path) -> None:
    frames = numbers(read(pets, order="by-class", epochs=2, seed=1))
    assert [name for name, _ in frames] == (["cat"] * 12 + ["dog"] * 12) * 2
    parts = [[n for _, n in frames[start : start + 12]] for start in (0, 12, 24, 36)]
    for part in parts:
        assert sorted(part) == list(range(12))
        assert part != list(range(12))
    assert parts[0] != parts[2]
    assert frames == numbers(read(pets, order="by-class", epochs=2, seed=1))


def test_as_is_epochs_repeat(pets: Path) -> None:
    frames = read(pets, epochs=3)
    assert numbers(frames) == numbers(frames[:24]) * 3
    assert open_stream(pets, StreamOptions(epochs=3)).total == 72


def test_what_is_hidden_or_no_image_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "1.png")
    write(tmp_path / "cat" / ".2.png")
    write(tmp_path / ".git" / "3.png")
    (tmp_path / "cat" / "notes.txt").write_text("no")
    os.mkfifo(tmp_path / "cat" / "pipe.png")  # opening it would wait for ever
    with open_stream(tmp_path) as stream:
        assert len(list(stream)) == 1
        assert list(stream.skipped) == []


def test_loops_of_links_end(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "1.png")
    for name in ("a", "b"):
        (tmp_path / "cat" / name).symlink_to(tmp_path)
    assert len(read(tmp_path)) == 1
    assert len(read(tmp_path / "**" / "*.png")) == 1


def test_a_folder_counts_at_its_own_place(tmp_path: Path) -> None:
    for one, other in (("cat", "dog"), ("dog", "cat")):
        write(tmp_path / one / "1.png")
        (tmp_path / one / "friends").symlink_to(tmp_path / other)
    for path in (tmp_path, tmp_path / "*"):
        assert [frame.label for frame in read(path)] == ["cat", "dog"]


def test_a_linked_folder_is_a_class(tmp_path: Path) -> None:
    write(tmp_path / "store" / "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store")
    assert [frame.label for frame in read(tmp_path / "data")] == ["cat"]


def test_unreadable_images_are_skipped_counted_and_told(tmp_path: Path) -> None:
    good = write(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "2.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "cat" / "3.jpg").write_bytes(encoded(noise)[:2000])
    (tmp_path / "cat" / "4.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "cat" / "5.png").symlink_to("5.png")
    (tmp_path / "cat" / "6.png").write_text("text")
    (tmp_path / "cat" / "7.mp4").write_text("text")
    write(tmp_path / "cat" / "8.png")
    notices: list[str] = []
    with open_stream(tmp_path, StreamOptions(epochs=2), on_notice=notices.append) as stream:
        frames = list(stream)
        skipped = {os.path.basename(one.name): one.reason for one in stream.skipped}
    assert len(frames) == 4
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert skipped["2.png"] == skipped["6.png"] == "not an image that Pillow can read"
    assert "truncated" in skipped["3.jpg"]
    assert skipped["4.png"] == "No such file or directory"
    assert "symbolic links" in skipped["5.png"]
    assert "cannot be read as a video" in skipped["7.mp4"]
    assert len(skipped) == 6
    assert notices[0] == f"{good.with_name('2.png')} skipped: not an image that Pillow can read"
    assert len(notices) == 6
    assert notices[-1] == f"{tmp_path}: 6 skipped in all, the first 5 are named above"


def test_an_image_deleted_meanwhile_is_a_skip(pets: Path) -> None:
    with open_stream(pets, on_notice=lambda _: None) as stream:
        frames = iter(stream)
        next(frames)
        (pets / "cat" / "1.png").unlink()
        assert len(list(frames)) == 22
        assert [one.reason for one in stream.skipped] == ["No such file or directory"]


def test_a_decompression_bomb_is_refused(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 100)).save(pets / "cat" / "bomb.png")
    monkeypatch.setattr(decode, "LARGEST_PX", 9_999)
    with open_stream(pets, on_notice=lambda _: None) as stream:
        assert len(list(stream)) == 24
    assert [one.reason for one in stream.skipped] == [
        "100 x 100 pixels, expected at most 0 million"
    ]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    with (
        open_stream(tmp_path, StreamOptions(epochs=9), on_notice=lambda _: None) as stream,
        pytest.raises(
            StreamFormatError, match=r"not one of 3 files can be read; the first, .*0\.png"
        ),
    ):
        list(stream)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(StreamFormatError) as caught:
        open_stream(tmp_path)
    assert caught.value.problem == (
        f"{tmp_path} holds no image, expected jpg, png and the like in one subfolder per class"
    )


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(StreamNotFoundError, match=r"lost/: no such folder\n  try: ls "):
        open_stream(f"{tmp_path}/lost/")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (PermissionError(13, "Permission denied"), StreamPermissionError, "may not be read"),
        (OSError(5, "Input/output error"), StreamError, "cannot be read: Input/output error"),
    ],
)
def test_a_folder_that_cannot_be_listed_is_an_error(
    pets: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type, text: str
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("dog"):
            raise error
        return scandir(path)

    monkeypatch.setattr(folder_listing.os, "scandir", refuse)
    with pytest.raises(kind, match=f"pets/dog {text}"):
        open_stream(pets)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"order": "random"}, "order is 'random', expected one of as-is, shuffled, by-class"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
    ],
)
def test_wrong_options(pets: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        read(pets, **options)


def test_clips_among_images_take_the_folders_label(pets: Path) -> None:
    write_clip(pets / "bird" / "flight.mp4", 7)
    with open_stream(pets) as stream:
        assert stream.total is None
        labels = [frame.label for frame in stream]
    assert labels == ["bird"] * 7 + ["cat"] * 12 + ["dog"] * 12


def test_a_class_name_that_is_no_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    write(tmp_path / "1.png").rename(os.fsdecode(folder + b"/1.png"))
    with pytest.raises(DataError, match=r"the class folder 'caf\\udce9' is not UTF-8"):
        read(tmp_path)
    assert [frame.label for frame in read(tmp_path, labels=False)] == [None]


def test_many_files_cost_only_their_names(tmp_path: Path) -> None:
    small = encoded(Image.new("RGB", (1, 1)), "PNG")
    (tmp_path / "a").mkdir()
    for number in range(5_000):
        (tmp_path / "a" / f"{number}.png").write_bytes(small)
    tracemalloc.start()
    stream = open_stream(tmp_path, StreamOptions(order="shuffled"))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stream.total == 5_000
    assert kept_bytes < 200 * 5_000


def test_it_says_what_came(pets: Path) -> None:
    write(pets / "top.png")
    stream = open_stream(pets, StreamOptions(order="shuffled", epochs=2))
    assert stream.description() == f"{pets}: 25 files in 2 classes, shuffled, 2 times"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("bird", {}, "1 file, as-is"),
        ("", {}, "1 file in 1 class, as-is"),
        ("", {"labels": False}, "1 file, as-is"),
        ("bird/1.png", {}, "1 file, as-is"),
    ],
)
def test_it_counts_one_of_a_thing(
    tmp_path: Path, name: str, options: dict[str, bool], text: str
) -> None:
    write(tmp_path / "bird" / "1.png")
    stream = open_stream(tmp_path / name, StreamOptions(**options))
    assert stream.description() == f"{tmp_path / name}: {text}"

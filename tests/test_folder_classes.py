"""Folders as classes: what is left out is said once, what is no class is refused at the start."""

import os
import shutil
from pathlib import Path

import pytest
from command_line import SMALL, assert_error, cfl_edge, learn, write_images
from dataset_files import draw
from PIL import Image
from test_video_file import write_clip

from cfl_edge.errors import DataError, StreamFormatError
from cfl_edge.lab.data.sources import open_dataset
from cfl_edge.stream.files.classes import parts_of
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions

LABELLED, UNLABELLED = StreamOptions(), StreamOptions(labels=False)


def draw_all(root: Path, *names: str) -> Path:
    for name in names:
        draw(root / name)
    return root


def opened(path: Path, options: StreamOptions = LABELLED) -> list[str]:
    """Open a stream, read it, and return what was said of the whole of it."""
    notices: list[str] = []
    with open_stream(path, options, on_notice=notices.append) as stream:
        list(stream)
    return [notice.removeprefix(str(path)) for notice in notices]


# what is left out


def test_what_is_left_out_is_counted_by_ending_and_said_once(tmp_path: Path) -> None:
    draw_all(tmp_path, "cat/1.png", "cat/.2.png", "@eaDir/3.png", "cat/@eaDir/4.png", ".git/5.png")
    for name in ("a.heic", "b.HEIC", "c.txt", "LICENSE"):
        (tmp_path / "cat" / name).write_bytes(b"\0\0\0\x1cftypheic")
    os.mkfifo(tmp_path / "cat" / "pipe")
    said = (
        ": left out: 2 .heic, 1 hidden, 1 .txt, 1 without an ending, 1 special (broken link, pipe "
        "or device), 2 folders @eaDir, 1 folder .git; HEIC images can be read once they are JPEG: "
        "heif-convert makes them so"
    )
    for options in (LABELLED, UNLABELLED, StreamOptions(epochs=3)):
        (notice,) = opened(tmp_path, options)
        assert sorted(notice.split(", ")) == sorted(said.split(", "))


def test_many_endings_are_summed_up(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "1.png")
    for number in range(9):
        (tmp_path / "cat" / f"a.x{number}").write_text("text")
    (notice,) = opened(tmp_path)
    assert notice.endswith(", 4 of other endings")


def test_nothing_is_said_of_a_tidy_folder(tmp_path: Path) -> None:
    write_images(tmp_path)
    assert opened(tmp_path) == []


def test_a_glob_says_what_it_matched_and_could_not_read(tmp_path: Path) -> None:
    draw_all(tmp_path, "cat/1.png", "@eaDir/1.png")
    (tmp_path / "cat" / "a.txt").write_text("text")
    assert opened(tmp_path / "*" / "*.png") == []
    assert opened(tmp_path / "*") == [": left out: 1 .txt, 1 folder @eaDir"]
    with pytest.raises(StreamFormatError, match=r"holds no image.*; left out: 1 \.txt"):
        open_stream(tmp_path / "cat" / "*.txt")


def test_a_folder_of_heic_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.heic").write_bytes(b"\0\0\0\x1cftypheic")
    with pytest.raises(StreamFormatError, match=r"left out: 1 \.heic; HEIC images can be read"):
        open_stream(tmp_path)


def test_folders_without_an_image_are_named(tmp_path: Path) -> None:
    draw_all(tmp_path, "cat/1.png", "dog/1.png")
    for name in ("fish10", "fish2", "@eaDir"):
        (tmp_path / name).mkdir()
    (tmp_path / "bird" / "nest").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    assert ": no image in bird, fish2, fish10" in opened(tmp_path)


def test_a_folder_that_goes_while_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_all(tmp_path, "cat/1.png", "dog/1.png")
    scandir = os.scandir

    def remove_first(path: str) -> object:
        if str(path).endswith("dog"):
            shutil.rmtree(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_first)
    with open_stream(tmp_path) as stream:
        assert [frame.label for frame in stream] == ["cat"]


# names that no class can have


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("two\nlines", r"the class folder 'two\nlines' holds control characters"),
        ("a\x1b[31m", r"the class folder 'a\x1b[31m' holds control characters"),
        ("x" * 65, "has 65 characters, expected at most 64"),
        (" ", "the class folder is empty"),
        (os.fsdecode(b"caf\xe9"), r"the class folder 'caf\udce9' is not UTF-8"),
    ],
)
def test_a_folder_that_no_class_can_be_called_after(
    tmp_path: Path, name: str, problem: str
) -> None:
    data = write_images(tmp_path / "data")
    (data / "left").rename(data / name)
    result = learn(data, tmp_path / "model", *SMALL)
    assert_error(result, 4, problem)
    assert '"frame"' not in result.out
    assert not (tmp_path / "model" / "current").exists()
    with pytest.raises(DataError):
        open_dataset(str(data))
    assert len(opened(data, UNLABELLED)) == 0


def test_a_clip_that_no_class_can_be_called_after(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "two\nlines.mp4", 3)
    with pytest.raises(DataError, match=r"the clip's name 'two\\nlines' holds control"):
        open_stream(path)
    assert opened(path, UNLABELLED) == []


# parts of a data set


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["train", "val", "test"], {"train": "train", "validation": "val", "test": "test"}),
        (["Training", "valid"], {"train": "Training", "validation": "valid"}),
        (["train2017", "val2017"], {"train": "train2017", "validation": "val2017"}),
        (["train_images", "testset"], {"train": "train_images", "test": "testset"}),
        (["validation-data", "dev"], {"validation": "validation-data"}),
        (["trains", "valley", "contest", "developer", "value"], {}),
    ],
)
def test_names_of_parts(folders: list[str], parts: dict[str, str]) -> None:
    assert parts_of(folders) == parts


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["train/cat/1.png", "val/cat/1.png"], "{}/train to learn, --data {}/val to evaluate"),
        (
            ["Train/cat/1.png", "valid/cat/1.png", "test/cat/1.png"],
            "{}/Train to learn, --data {}/test to evaluate",
        ),
        (["train/cat/1.png", "train/dog/1.png", "test/1.png"], "{}/train to learn"),
        (["train/cat/1.png", "train/dog/1.png"], "{}/train to learn"),
        (["train/cat/1.png", "val/cat/1.png", "more/1.png"], "{}/train to learn, --data {}/val"),
    ],
)
def test_the_parts_of_a_data_set_are_no_classes(
    tmp_path: Path, names: list[str], hint: str
) -> None:
    root = draw_all(tmp_path, *names)
    with pytest.raises(
        DataError, match="of a data set, expected one subfolder per class"
    ) as caught:
        open_stream(root)
    assert hint.replace("{}", str(root)) in caught.value.hint
    with pytest.raises(DataError):
        open_stream(root / "**" / "*.png")
    assert opened(root, UNLABELLED) == []


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    assert opened(draw_all(tmp_path, "train/1.png", "plane/1.png", "car/old/1.png")) == []


def test_learning_and_measuring_on_the_parts(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_images(tmp_path / "data" / part)
    model = tmp_path / "model"
    assert_error(learn(tmp_path / "data", model, *SMALL), 4, "holds train and val, parts of")
    assert learn(tmp_path / "data" / "train", model, *SMALL).code == 0
    whole = cfl_edge("evaluate", model, "--data", tmp_path / "data")
    assert_error(whole, 4, "holds train and val, parts of")
    part = cfl_edge("evaluate", model, "--data", tmp_path / "data" / "val", "--json").summary
    assert set(part["per_class"]) == {"above", "left"}


@pytest.mark.parametrize(
    ("parts", "tested", "said"),
    [
        (("train", "test"), "test", []),
        (("Train", "valid"), "valid", []),
        (("train", "val", "test"), "test", ["val is left out: test is the test split"]),
    ],
)
def test_a_data_set_in_parts(
    tmp_path: Path, parts: tuple[str, ...], tested: str, said: list[str]
) -> None:
    for level, part in enumerate(parts, start=1):
        for name in ("cat", "dog"):
            draw(tmp_path / part / name / "1.png", colour=(level, 0, 0))
    notices: list[str] = []
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert dataset.class_names == ["cat", "dog"]
    assert set(dataset.x_train[:, 0, 0, 0].tolist()) == {1}
    assert set(dataset.x_test[:, 0, 0, 0].tolist()) == {1 + parts.index(tested)}
    assert [notice.removeprefix(f"{tmp_path}/") for notice in notices] == said


def test_one_class_that_holds_several_folders_is_pointed_out(tmp_path: Path) -> None:
    draw_all(tmp_path, "pets/cat/1.png", "pets/dog/1.png")
    assert opened(tmp_path) == [
        f" has one class, pets, with 2 folders in it; where those are the classes, give "
        f"{tmp_path}/pets"
    ]


@pytest.mark.parametrize(
    ("stream", "tries"),
    [
        ("train/my cat", "--stream {}/train, where my cat is one of its class folders"),
        ("train/my cat/*.png", "--stream {}/train, where my cat is one of its class folders"),
        ("clips", "--stream {}/clips/bottle.mp4, as a clip alone is labelled by its name"),
    ],
)
def test_images_that_no_folder_labels_are_refused(stream, tries, tmp_path: Path) -> None:
    """Else nothing was learned, and the same command was proposed again."""
    draw_all(tmp_path, "train/my cat/1.png", "train/dog/1.png", "clips/cover.png")
    write_clip(tmp_path / "clips" / "bottle.mp4", 3)
    learning = ("learn", "--stream", tmp_path / stream, "--model", tmp_path / "m", *SMALL)
    result = cfl_edge(*learning, "--labels-from", "dirs")
    assert_error(result, 4, "holds no image with a label, expected one subfolder per class")
    name = "clips" if stream == "clips" else "'my cat'"
    tries = tries.format(tmp_path)
    assert result.err.endswith(f"try: {tries}; or --label {name}, where all show the same\n")
    if "*" not in stream:  # which labels are wanted was not said: next is what can be learned
        assert cfl_edge(*learning).out.endswith(f" --label {name}\n")


# only --labels-from dirs makes a name a label


def test_run_takes_no_name_for_a_label_unless_asked(learned: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    clip = write_clip(tmp_path / "bottle.mp4", 3)
    onnx = learned / "onnx" / "model.onnx"
    for stream in (data, clip, data / "left" / "0.png"):
        ran = cfl_edge("run", onnx, "--stream", stream, "--json")
        assert (ran.code, ran.summary["samples"], ran.summary["accuracy"]) == (0, 0, None)
        assert {event["label"] for event in ran.events if event["event"] == "frame"} == {None}
    asked = ("--labels-from", "dirs", "--json")
    assert cfl_edge("run", onnx, "--stream", data, *asked).summary["samples"] == 16
    assert set(cfl_edge("run", onnx, "--stream", clip, *asked).summary["per_class"]) == {"bottle"}


def test_learn_takes_a_clips_name_only_where_asked(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "bottle.mp4", 3)
    options = ("--stream", clip, "--no-export", "--learn-flagged", "--json", *SMALL)
    without = cfl_edge("learn", "--model", tmp_path / "a", *options)
    assert (without.summary["learned"], without.summary["classes"]) == (0, [])
    asked = cfl_edge("learn", "--model", tmp_path / "b", "--labels-from", "dirs", *options)
    assert asked.summary["classes"] == ["bottle"]


@pytest.mark.parametrize("name", ["bottle.mp4", "left.png"])
def test_evaluate_takes_no_files_name_for_a_label(learned: Path, tmp_path: Path, name: str) -> None:
    if name.endswith("mp4"):
        write_clip(tmp_path / name, 3)
    else:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    result = cfl_edge("evaluate", learned, "--data", tmp_path / name)
    assert_error(result, 4, f"{name} is one file, whose name is no label")


def test_run_counts_images_that_it_could_not_read(learned: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    (data / "left" / "0.png").write_bytes(b"")
    ran = cfl_edge("run", learned / "onnx" / "model.onnx", "--stream", data, "--json")
    counted = [ran.summary[name] for name in ("frames", "seen", "skipped")]
    assert counted == [16, 15, 1]  # a skipped one is a frame of the stream
    assert [notice for notice in ran.notices if "0.png" in notice] == [
        f"{data}/left/0.png skipped: not an image that Pillow can read"
    ]

"""Names that are spelt with other code points are the same class, wherever they come in."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, cfl_edge, learn, write_images
from dataset_files import COLOUR, saved

from cfl_edge.errors import DataError
from cfl_edge.frame.frame import Frame
from cfl_edge.lab.data.sources import open_dataset
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.keys import KeyLabels
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.source import LabelOptions
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.loop.verb_arguments import VERBS
from cfl_edge.names import check_name
from cfl_edge.onnx.metadata import parse_metadata, to_metadata

ONE, TWO = "Caf\u00e9", "Cafe\u0301"  # NFC and NFD: "Café"
IMAGE = np.zeros((20, 20, 3), np.uint8)


def frame(label: str | None = None) -> Frame:
    return Frame(IMAGE, timestamp_s=0.0, index=0, label=label)


@pytest.mark.parametrize("name", ["Café", "한국어", "Ångström", "ệ", "नमस्ते"])
def test_every_spelling_is_one_name(name: str) -> None:
    spellings = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    assert {check_name(one) for one in spellings} == {unicodedata.normalize("NFC", name)}


def test_a_name_of_64_letters_fits_however_it_is_spelt() -> None:
    assert check_name(unicodedata.normalize("NFD", "é" * 64)) == "é" * 64


def test_label_option() -> None:
    assert open_labels(label=TWO, labels_from=None).label(frame()) == ONE


@pytest.mark.parametrize("labels", [FrameLabels.of_stream(), FrameLabels.of_board()])
def test_labels_that_come_with_frames(labels: FrameLabels) -> None:
    assert labels.label(frame(TWO)) == ONE


def test_requests() -> None:
    assert VERBS["label"].of("label", {"label": TWO}).label == ONE


def test_a_typed_name() -> None:
    person, terminal = os.openpty()
    try:
        with KeyLabels(LabelOptions([ONE]), descriptor=terminal) as labels:
            os.write(person, f"n{TWO}\n".encode())
            labels.label(frame())
            assert labels.waiting == f"{ONE} is on 1  1 {ONE}  n new  space pause"
    finally:
        os.close(person)
        os.close(terminal)


def test_a_program_that_teaches() -> None:
    learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
    for name in (ONE, TWO):
        learner.learn_one(IMAGE, name)
    assert learner.classes == [ONE]


def test_a_program_that_teaches_an_impossible_name_changes_nothing() -> None:
    learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
    encoded = learner.encode(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(DataError, match=r"the label 'two\\nlines' holds control characters"):
        learner.learn(encoded, ["one", "two\nlines"])
    assert (learner.classes, learner.frames_learned) == ([], 0)


def test_metadata_of_an_onnx_file() -> None:
    assert parse_metadata(to_metadata([TWO], 96, {}), Path("model.onnx"))[0] == [ONE]


def test_names_of_a_data_set_file(tmp_path: Path) -> None:
    path = saved(tmp_path, x_train=COLOUR, class_names=np.array([TWO, "b", "c"]))
    assert open_dataset(path).class_names == [ONE, "b", "c"]


def listed(model: Path) -> list[str]:
    return list(cfl_edge("classes", "list", model, "--json").summary["classes"])


def test_commands_that_change_classes(model: Path) -> None:
    assert cfl_edge("classes", "rename", model, "left", TWO).code == 0
    assert listed(model) == ["above", ONE]
    assert "already" in cfl_edge("classes", "add", model, TWO).err
    assert cfl_edge("classes", "rename", model, TWO, ONE).code == 0
    assert cfl_edge("classes", "add", model, "tea").code == 0
    assert cfl_edge("classes", "merge", model, TWO, "tea", "--into", TWO).code == 0
    assert listed(model) == ["above", ONE]
    assert cfl_edge("classes", "remove", model, TWO).code == 0
    assert listed(model) == ["above"]


def test_a_class_that_is_split(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", kinds=("above", TWO))
    model = tmp_path / "model"
    assert learn(data, model, *SMALL).code == 0
    split = cfl_edge("classes", "split", model, TWO, "--into", "new", "--frames", 3)
    assert split.code == 0, split.err
    assert listed(model) == ["above", ONE, "new"]


def test_folders_to_learn_from_and_to_measure_on(tmp_path: Path) -> None:
    one = write_images(tmp_path / "one", kinds=("above", ONE))
    two = write_images(tmp_path / "two", kinds=("above", TWO))
    model = tmp_path / "model"
    for data in (one, two):
        assert learn(data, model, *SMALL).code == 0
    assert listed(model) == ["above", ONE]
    measured = cfl_edge("evaluate", model, "--data", two, "--json").summary
    assert set(measured["per_class"]) == {"above", ONE}
    assert measured["unknown_classes"] == []

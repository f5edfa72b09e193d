"""`bp-deep`: stored JPEGs, a step against autograd on the backbone, a model of its own blocks."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoded import encoded
from PIL import Image

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.networks import build_network
from cfl_edge.errors import ExportError, UsageError
from cfl_edge.lab.learners.deep import from_jpegs, jpeg_bytes, to_jpegs
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, build_algorithm
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.saved import to_saved

pytestmark = pytest.mark.usefixtures("offered")
PX = 32
FROZEN = 4  # stem and three blocks


def scene(count, px=PX, seed=0):
    """Return smooth images: noise of few pixels, scaled up."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((px, px))) for x in small])


def noise(count, px):
    return np.random.default_rng(1).integers(0, 256, (count, px, px, 3), np.uint8)


def learner(**config):
    given = {"image_px": PX, "replay_mib": 0.2, "learning_rate": 0.05, **config}
    return Learner(LearnerConfig(learner="bp-deep", **given))


@pytest.mark.parametrize("px", [16, 96, 224])
@pytest.mark.parametrize("kind", [scene, noise])
def test_replay_returns_jpegs_bit_by_bit_also_of_noise(kind, px):
    images = torch.from_numpy(kind(3, px))
    jpegs = to_jpegs(images)
    assert jpegs.shape == (3, jpeg_bytes(px))
    generator = torch.Generator().manual_seed(0)
    replay = Replay((jpeg_bytes(px),), limit_mib=1, generator=generator, bits=8)
    replay.offered = [0]
    replay.add(jpegs, [0] * 3)
    back = replay.read(torch.arange(3)).to(torch.uint8)
    assert torch.equal(back, jpegs)
    shown = from_jpegs(back)
    assert shown.shape == images.shape
    if kind is scene and px > 16:  # of 16 px, colours have 8
        assert (shown.float() - images.float()).abs().mean() < 4  # of 255


def test_a_step_is_plain_sgd_through_all_blocks_after_the_third():
    built = learner(new_per_step=4, batch=4)
    sequence = copy.deepcopy(built.algorithm.backbone.network.sequence)
    images = scene(4)
    # Two classes are known once a step had samples of both: the first step tells them apart.
    built.learn(built.encode(images), ["a", "b", "a", "b"])
    assert built.algorithm.steps == 1

    jpegs = [np.asarray(Image.open(io.BytesIO(encoded(image, quality=90)))) for image in images]
    x = torch.from_numpy(np.stack(jpegs)).permute(0, 3, 1, 2).float()
    x = (x - built.algorithm.backbone.mean) / built.algorithm.backbone.std
    with torch.no_grad():
        plain = [sequence[:FROZEN](x), sequence[:FROZEN](x.flip(3))]
    learned = list(built.algorithm.network)
    rows = torch.zeros(2, 1281, requires_grad=True)
    mirrored = torch.rand(4, 1, 1, 1, generator=torch.Generator().manual_seed(0)) < 0.5
    h = torch.where(mirrored, plain[1], plain[0])
    deep = sequence[FROZEN:].requires_grad_()
    features = with_constant(deep(h).mean(dim=(2, 3)))
    F.cross_entropy(features @ rows.T, torch.tensor([0, 1, 0, 1])).backward()
    ours = built.algorithm.rows.detach().clone()
    torch.testing.assert_close(ours, -0.05 * rows.grad, rtol=1e-3, atol=1e-5)
    for layer, block in zip(learned, deep, strict=True):
        for own, other in zip(layer.parameters(), block.parameters(), strict=True):
            # From rows of zeros no gradient reaches the blocks in the first step.
            torch.testing.assert_close(own, other - 0.05 * other.grad)

    # A second step, from rows that are no longer zero, moves every block alike.
    state = built.generator.get_state()
    built.learn(built.encode(images), ["a", "b", "a", "b"])
    assert built.algorithm.steps == 2
    generator = torch.Generator()
    generator.set_state(state)
    mirrored = torch.rand(4, 1, 1, 1, generator=generator) < 0.5
    h = torch.where(mirrored, plain[1], plain[0])
    deep.zero_grad()
    start = ours.requires_grad_()
    features = with_constant(deep(h).mean(dim=(2, 3)))
    F.cross_entropy(features @ start.T, torch.tensor([0, 1, 0, 1])).backward()
    for layer, block in zip(learned, deep, strict=True):
        for own, other in zip(layer.parameters(), block.parameters(), strict=True):
            assert other.grad.any()
            expected = other - 0.05 * other.grad
            torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-5)


def test_the_backbone_stays_and_the_scores_are_those_of_the_moved_copy():
    built = learner()
    digest = built.algorithm.backbone.digest()
    for seed in range(4):
        built.learn(built.encode(scene(8, seed=seed)), ["a", "b"] * 4)
    assert built.algorithm.backbone.digest() == digest
    images = scene(3, seed=99)
    x = built.algorithm.backbone.scaled(torch.from_numpy(images))
    with torch.no_grad():
        h = built.algorithm.backbone.network.sequence[:FROZEN](x)
        before = h
        for layer in built.algorithm.network:
            h = layer(h)
        expected = with_constant(h.mean(dim=(2, 3))) @ built.algorithm.rows.T
        untouched = built.algorithm.backbone.network.sequence[FROZEN:](before)
    np.testing.assert_allclose(built.predict(built.encode(images)), expected, rtol=1e-4, atol=1e-5)
    assert (h - untouched).abs().max() > 1e-3


def test_a_saved_model_has_its_own_blocks():
    built = learner()
    for seed in range(3):
        built.learn(built.encode(scene(8, seed=seed)), ["a", "b"] * 4)
    built.recalibrate()
    back = Learner.from_saved(copy.deepcopy(to_saved(built)))
    images = scene(3, seed=99)
    one, other = (each.predict(each.encode(images)) for each in (built, back))
    np.testing.assert_array_equal(one, other)


def test_what_it_cannot_do_is_said(tmp_path):
    built = Learner(
        LearnerConfig(learner="bp-deep", backbone="none", layers="4", image_px=16, replay_mib=0.1)
    )
    for name in ("a", "b"):
        built.learn_one(scene(1, 16)[0], name)
    with pytest.raises(ExportError, match="bp-deep predicts by more than a matrix product"):
        built.export(tmp_path / "out")
    inputs = AlgorithmInputs(
        LearnerConfig(learner="bp-deep", backbone="torchvision:x@y"),
        *(build_network("none", (3, 8, 8)), (3, 8, 8), [3, 2], 2, torch.Generator()),
        torch.device("cpu"),
    )
    with pytest.raises(UsageError, match="--backbone is torchvision:x@y"):
        build_algorithm(inputs)

"""How predictions read the frozen backbone and the layers."""

import numpy as np
import pytest
import torch

from cfl_edge.core.features import frozen_sources, scale_pooled
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.learner import Learner
from cfl_edge.learners import LEARNERS, declaration


def test_at_unit_scale_the_length_of_the_end_says_nothing():
    final = torch.rand(3, 8)
    scaled = scale_pooled(final, "unit")
    torch.testing.assert_close(scaled.square().mean(dim=1), torch.ones(3))
    torch.testing.assert_close(scale_pooled(7 * final, "unit"), scaled)
    cosines = torch.nn.functional.cosine_similarity(final, scaled)
    torch.testing.assert_close(cosines, torch.ones(3))
    assert torch.equal(scale_pooled(torch.zeros(1, 8), "unit"), torch.zeros(1, 8))


def test_the_backbone_is_read_as_asked():
    end, joint = torch.rand(2, 5), torch.rand(2, 7)
    final = torch.cat([end, joint], dim=1)
    raw_end, same = frozen_sources(final, [5, 7], "raw")
    assert torch.equal(raw_end, end)
    assert torch.equal(same, joint)
    unit_end, same = frozen_sources(final, [5, 7], "unit")
    assert torch.equal(same, joint)
    assert torch.equal(unit_end, scale_pooled(end, "unit"))
    assert frozen_sources(None, [], "raw") == []


def test_predictions_read_a_power_of_what_the_layers_loss_sees():
    learner = Learner(LearnerConfig(backbone="none", layers="4,8", image_px=8))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    encoded = learner.encode(images)
    x = encoded.h0
    for layer, features in zip(learner.network, encoded.features, strict=True):
        x = layer(x)
        np.testing.assert_allclose(
            features, layer.pool(x).detach().numpy() ** learner.network.power, 1e-5
        )


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_what_people_use_instead_reads_the_layers_as_they_are(algorithm):
    assert (declaration(algorithm).layer_power < 1) == (algorithm == "cfl")


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_what_people_use_instead_reads_the_end_as_it_is(algorithm):
    expected = "unit" if algorithm in ("cfl", "joint") else "raw"
    assert declaration(algorithm).pooled_scale == expected

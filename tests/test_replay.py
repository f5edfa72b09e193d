"""The replay memory: balance, bounds, fidelity."""

import collections

import pytest
import torch

from cfl_edge.learner.quantise import pack, quantise, unpack
from cfl_edge.learner.replay import HALF, Replay


def make(capacity=20, classes=3, bits=4):
    sample_bytes = bits // 2 + 8
    generator = torch.Generator().manual_seed(0)
    replay = Replay((1, 2, 2), limit_mib=(capacity * sample_bytes + 1) / 2**20,
                    generator=generator, bits=bits)  # fmt: skip
    replay.offered = [0] * classes
    assert replay.capacity == capacity
    return replay


def test_classes_share_the_memory_whatever_the_order_of_arrival():
    replay = make(capacity=21)
    for label in (0, 1, 2):
        replay.add(torch.randn(100, 1, 2, 2), [label] * 100)
    assert replay.counts == [7, 7, 7]
    assert replay.offered == [100, 100, 100]


def test_a_rare_class_is_kept_whole():
    replay = make()
    replay.add(torch.randn(3, 1, 2, 2), [2] * 3)
    replay.add(torch.randn(200, 1, 2, 2), [0, 1] * 100)
    assert replay.counts[2] == 3
    assert sum(replay.counts) == 20


def test_every_sample_of_a_class_is_kept_with_the_same_chance():
    kept = collections.Counter()
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        replay = Replay((1, 1, 1), limit_mib=5 * 9.01 / 2**20, generator=generator)
        replay.offered = [0]
        replay.add(torch.arange(20.0).view(20, 1, 1, 1), [0] * 20)
        kept.update(replay.read(torch.arange(5)).flatten().tolist())
    expected = 300 * 5 / 20
    assert min(kept[i] for i in range(20)) > 0.6 * expected
    assert max(kept[i] for i in range(20)) < 1.4 * expected


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_read_is_within_half_a_step_of_the_features(bits):
    replay = make(bits=bits)
    samples = torch.randn(20, 1, 2, 2) * torch.logspace(-2, 2, 20).view(20, 1, 1, 1)
    replay.add(samples, [0] * 20)
    error = (replay.read(torch.arange(20)) - samples).abs().flatten(1).amax(1)
    span = samples.flatten(1).amax(1) - samples.flatten(1).amin(1)
    assert (error <= span / (2**bits - 1) / 2 * 1.01).all()


def test_exact_samples_come_back_to_the_bit_also_from_the_store():
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).half().float()
    replay = Replay((2, 3), limit_mib=1, generator=torch.Generator(), bits=HALF)
    replay.offered = [0]
    replay.add(x, [0] * 5)
    back = Replay((2, 3), limit_mib=1, generator=torch.Generator(), bits=HALF)
    back.put_samples(replay.samples())
    assert torch.equal(replay.read(torch.arange(5)), x)
    assert torch.equal(back.read(torch.tensor([3, 1])), x[[3, 1]])


def test_constant_features_survive():
    replay = make()
    replay.add(torch.full((1, 1, 2, 2), 3.25), [0])
    assert torch.equal(replay.read(torch.tensor([0])), torch.full((1, 1, 2, 2), 3.25))


def test_a_draw_is_balanced_over_the_classes():
    replay = make()
    replay.add(torch.randn(19, 1, 2, 2), [0] * 18 + [1])
    _, labels = replay.sample(1000)
    assert 400 < int((labels == 1).sum()) < 600
    assert not (labels == 2).any()


def test_an_empty_memory_draws_nothing():
    x, labels = make().sample(8)
    assert x.shape == (0, 1, 2, 2)
    assert len(labels) == 0


@pytest.mark.parametrize("capacity", [20, 6])
def test_state_comes_back_also_into_a_smaller_memory(capacity):
    replay = make()
    replay.add(torch.randn(30, 1, 2, 2), [0, 1, 2] * 10)
    other = make(capacity=capacity)
    other.put_samples(replay.samples())
    assert len(other) == min(20, capacity)
    assert sum(other.counts) == len(other)
    assert sorted(i for places in other.places for i in places) == list(range(len(other)))


def test_a_rare_class_is_whole_also_in_a_smaller_memory():
    replay, other = make(capacity=602), make(capacity=90)
    replay.add(torch.randn(602, 1, 2, 2), [0, 1] * 300 + [2] * 2)
    other.put_samples(replay.samples())
    assert sorted(other.counts) == [2, 44, 44]
    assert other.counts[2] == 2


@pytest.mark.parametrize(("before", "after"), [(4, 8), (8, 4)])
def test_state_comes_back_with_other_bits(before, after):
    """As from a memory of another size, where layers read images."""
    replay, back = make(capacity=400, bits=before), make(capacity=300, bits=after)
    replay.add(torch.randn(300, 1, 2, 2), [0] * 300)
    back.put_samples(replay.samples())
    assert back.labels == [0] * 300
    span = replay.read(torch.arange(300)).flatten(1)
    step = (span.amax(1) - span.amin(1)) / 15
    error = (back.read(torch.arange(300)) - replay.read(torch.arange(300))).abs().flatten(1)
    assert (error.amax(1) <= step * (0.51 if after == 4 else 0.04)).all()


def test_a_state_of_other_samples_is_refused():
    state = make().samples() | {"values": torch.zeros(1, 3, dtype=torch.uint8)}
    state |= {"labels": torch.zeros(1, dtype=torch.long), "ranges": torch.zeros(1, 2)}
    with pytest.raises(RuntimeError, match="must match"):
        make().put_samples(state)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 7, 8, 33])
def test_packing_keeps_every_value_in_the_fewest_bytes(bits, count):
    values = torch.randint(2**bits, (5, count), dtype=torch.uint8)
    packed = pack(values, bits)
    assert packed.shape == (5, -(-count * bits // 8))
    assert torch.equal(unpack(packed, (count,), bits), values)


def test_fewer_bits_use_their_whole_range():
    values, _ = quantise(torch.linspace(0, 1, 100)[None], bits=4)
    assert values.unique().tolist() == list(range(16))

"""Gradient steps in pieces: the same result as at once, every layer in turn, never a stop."""

import copy
import sys

import numpy as np
import pytest
import torch

from cfl_edge.core.device import multiplies_bfloat16
from cfl_edge.errors import UsageError
from cfl_edge.learner import trainer as trainer_module
from cfl_edge.learner.algorithms import local_contrast
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.state import State

CONFIG = {"backbone": "none", "image_px": 16, "replay_mib": 0.1, "layers": "8,16,16"}


def frames(count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 1, 16, 16, 3), dtype=np.uint8)
    return list(zip(images, ["day", "night"] * count, strict=False))


def learned(count=40, budget_s=None, idle=0, **config):
    learner = Learner(LearnerConfig(**CONFIG | config))
    for image, label in frames(count):
        learner.learn(learner.encode(image), [label], budget_s=budget_s)
        for _ in range(idle):
            learner.work(budget_s)
    return learner


class Clock:
    """Each look at the time takes a millisecond."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        self.now_s += 0.001
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(trainer_module, "time", clock)
    return clock


def test_pieces_that_keep_up_give_the_weights_of_whole_steps():
    whole, pieces = learned(), learned(budget_s=1e-9, idle=30)
    assert pieces.algorithm.trainer.steps == whole.algorithm.trainer.steps == 10
    for one, other in zip(whole.network.parameters(), pieces.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "config",
    [{}, {"recompute": True}, {"layers": "conv256"}, {"layers": "fc"}],  # the last are autograd's
    ids=str,
)
def test_steps_in_bfloat16_move_the_layers_as_those_in_float32_do(config, monkeypatch):
    moved = []
    for native in (False, True):
        monkeypatch.setattr(local_contrast, "multiplies_bfloat16", lambda _, native=native: native)
        learner = Learner(LearnerConfig(**CONFIG | config))
        before = torch.cat([p.detach().flatten() for p in learner.network.parameters()])
        for image, label in frames(4):
            learner.learn(learner.encode(image), [label])
        assert learner.algorithm.trainer.steps == 1
        after = torch.cat([p.detach().flatten() for p in learner.network.parameters()])
        assert after.dtype == torch.float32
        moved.append(after - before)
    exact, reduced = moved
    assert not torch.equal(reduced, exact)
    assert torch.cosine_similarity(reduced, exact, dim=0) > 0.98


def test_bfloat16_ends_where_a_step_pauses(monkeypatch):
    monkeypatch.setattr(local_contrast, "multiplies_bfloat16", lambda _: True)
    learner = Learner(LearnerConfig(**CONFIG, new_per_step=32))
    for image, label in frames(8):
        learner.learn(learner.encode(image), [label])
    work = learner.algorithm.contrast.slices(
        torch.stack([sample.float() for sample, _ in learner.algorithm.trainer.pending]),
        torch.arange(8) % 2,
        torch.zeros(8, 1, 1, 1, dtype=torch.bool),
    )
    pauses = 0
    for _ in work:
        assert not torch.is_autocast_enabled("cpu")
        pauses += 1
    assert pauses > len(learner.network.channels)


def test_only_a_processor_multiplies_bfloat16():
    assert not multiplies_bfloat16(torch.device("cuda"))


def test_layers_take_turns(clock):
    learner = learned(200, budget_s=0.003)
    assert len(learner.algorithm.trainer.layer_steps) == 3
    assert (
        max(learner.algorithm.trainer.layer_steps) - min(learner.algorithm.trainer.layer_steps) <= 1
    )
    assert 0 < learner.algorithm.trainer.steps < 50  # not all that were due


def test_a_larger_budget_takes_more_steps(clock):
    steps = [learned(100, budget_s=b).algorithm.trainer.steps for b in (0.0, 0.004, 0.016, None)]
    assert steps[0] >= 1
    assert steps == sorted(steps)
    assert steps[3] == 25


def test_the_budget_is_kept_to_the_next_piece(clock, monkeypatch):
    learner = learned(40)
    learner.algorithm.trainer.add(torch.zeros(3, 16, 16), 0)
    for budget_s in (0.01, 0.03):
        for _ in range(4):
            learner.algorithm.trainer.add(torch.zeros(3, 16, 16), 0)
        began = clock.now_s
        list(learner.algorithm.trainer.work(budget_s))
        assert clock.now_s - began <= budget_s + 0.004


@pytest.mark.parametrize("layers", ["8,16,16", "conv256"])
def test_predictions_between_two_pieces_change_nothing(clock, layers):
    learner = learned(6, budget_s=0.0, layers=layers)
    assert learner.algorithm.trainer._training is not None
    image, _ = frames(1)[0]
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    first = learner.predict(learner.encode(image))
    assert np.array_equal(learner.predict(learner.encode(image)), first)
    for name, value in learner.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_step_counts_in_the_statistics_of_its_batch_where_layers_have_some():
    learner = learned(8, layers="conv256")
    norms = [m for m in learner.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert {int(norm.num_batches_tracked) for norm in norms} == {learner.algorithm.trainer.steps}
    assert not learner.network.training


def test_a_negative_budget_is_for_nothing(clock):
    learner = learned(8, budget_s=-1.0)
    assert learner.algorithm.trainer.layer_steps == [0, 0, 0]
    assert sum(learner.samples().values()) == 8


def test_label_embeddings_wait_for_a_frame_in_time_but_for_a_new_class(clock):
    learner = learned(2, budget_s=-1.0)
    first = learner.algorithm.readout.clone()
    assert len(first) == 2
    image, label = frames(3)[2]
    for budget_s, waits in ((-1.0, True), (0.0, False)):  # the second frame of a class is early
        learner.learn(learner.encode(image), [label], budget_s=budget_s)
        assert torch.equal(learner.algorithm.readout, first) is waits


def test_samples_that_wait_in_vain_are_remembered_and_counted(clock):
    learner = learned(150, budget_s=0.0)
    assert len(learner.algorithm.trainer.pending) <= learner.config.batch
    assert sum(learner.samples().values()) == 150
    assert len(learner.algorithm.replay) > 0


def test_a_class_that_comes_during_a_step_is_no_trouble(clock):
    learner = learned(20, budget_s=0.0)
    image, _ = frames(1)[0]
    for name in ("dawn", "dusk"):
        learner.learn(learner.encode(image), [name], budget_s=0.0)
    while learner.algorithm.trainer._training is not None:
        learner.work(0.0)
    assert learner.algorithm.contrast.embeddings.shape == (4, 16)
    assert learner.algorithm.contrast.embeddings.isfinite().all()
    learner.recalibrate()
    assert learner.predict(learner.encode(image)).shape == (1, 4)


def test_recalibration_ends_the_step_under_way():
    learner = learned(10, budget_s=0.0)
    learner.recalibrate()
    assert learner.algorithm.trainer._training is None
    assert not learner.algorithm.trainer.pending


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_every_optimizer_learns_and_is_saved(optimizer):
    learner = learned(40, optimizer=optimizer)
    learner.recalibrate()  # as the loop does before it saves
    back = Learner.from_saved(copy.deepcopy(to_saved(learner)))
    assert back.config == learner.config
    for image, label in frames(8):
        for one in (learner, back):
            one.learn(one.encode(image), [label])
    for one, other in zip(learner.network.parameters(), back.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert learner.algorithm.trainer.steps == 12


@pytest.mark.parametrize("config", [{"chunk": 1}, {"chunk": 5}, {"chunk": 5, "recompute": True}])
def test_how_a_batch_passes_the_layers_changes_rounding_only(config, monkeypatch):
    monkeypatch.setattr(local_contrast, "multiplies_bfloat16", lambda _: False)
    for one, other in zip(
        learned().network.parameters(), learned(**config).network.parameters(), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [({"optimizer": "lion"}, "--optimizer is 'lion'"), ({"chunk": 0}, "chunk is 0")],
)
def test_refusals(config, message):
    with pytest.raises(UsageError, match=message):
        LearnerConfig(**config)


@pytest.mark.parametrize("lines", range(60, 3000, 293))
def test_a_learner_that_is_interrupted_goes_on_and_can_be_saved(tmp_path, lines):
    learner = learned(3)
    left = iter(range(lines))

    def interrupt(frame, event, _):
        if "cfl_edge" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(left, None) is None:
            raise KeyboardInterrupt
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        learner.learn_one(frames(1)[0][0][0], "dusk")
    except KeyboardInterrupt:
        assert learner.classes in (["day", "night"], ["day", "night", "dusk"])
    finally:
        sys.settrace(before)
        torch.set_autocast_enabled("cpu", False)  # Python does not end a `with` that it was leaving
        torch.set_autocast_cache_enabled(True)
    learner.learn_one(frames(1)[0][0][0], "dusk")
    learner.save(tmp_path / "model")
    loaded = Learner.load(tmp_path / "model")
    assert loaded.classes == ["day", "night", "dusk"]
    assert loaded.samples()["dusk"] in (1, 2)


@pytest.mark.parametrize("writes", [0, 1, 5])
def test_a_class_whose_rows_are_interrupted_is_not_there(tmp_path, monkeypatch, writes):
    learner = learned(3)
    write, left = State._write, iter(range(writes))

    def interrupted(*args):
        if next(left, None) is None:
            monkeypatch.setattr(State, "_write", write)
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(State, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learner.learn_one(frames(1)[0][0][0], "dusk")
    assert learner.classes == ["day", "night"]
    learner.save(tmp_path / "model")
    assert Learner.load(tmp_path / "model").samples() == {"day": 2, "night": 1}

"""The learner: the contract, locality, limits, refusals."""

import re

import learner_checks
import numpy as np
import pytest
import torch

from cfl_edge.core.embeddings import visible_to_layer
from cfl_edge.core.local_step import LocalTraining, local_step
from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import build_network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.training import train_step
from cfl_edge.errors import DataError, UsageError
from cfl_edge.lab.learners.offered import MEASURED
from cfl_edge.learner.learner import Learner, LearnerConfig

pytestmark = pytest.mark.usefixtures("offered", "narrow_networks")
SMALL = {"backbone": "none", "image_px": 16, "replay_mib": 0.1, "statistics_mib": 0.25}
BUILT = {
    "widths": lambda: Learner(LearnerConfig(**SMALL, layers="8,16")),
    "conv256": lambda: Learner(LearnerConfig(**SMALL, layers="conv256")),
    "fc": lambda: Learner(LearnerConfig(**SMALL, layers="fc", batch=8)),
}
ALGORITHM_LEARNERS = {
    algorithm: lambda algorithm=algorithm: Learner(
        LearnerConfig(**SMALL, layers="8,16", learner=algorithm)
    )
    for algorithm in MEASURED
}
# Two of three votes need two samples; gradient steps from a row of zeros need several.
NOT_FROM_ONE_SAMPLE = ("knn", "bp", "bp-replay", "layer-bp", "bp-deep")


@pytest.mark.parametrize("check", learner_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["widths", "conv256"])
def test_contract(name, check):
    check(BUILT[name])


@pytest.mark.parametrize("check", learner_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("algorithm", [algorithm for algorithm in MEASURED if algorithm != "cfl"])
def test_contract_of_algorithms(algorithm, check):
    at_once = learner_checks.check_a_new_name_is_a_class_from_its_first_sample_on
    if check is at_once and algorithm in NOT_FROM_ONE_SAMPLE:
        check = learner_checks.check_a_new_name_is_a_class_soon
    check(ALGORITHM_LEARNERS[algorithm])


def test_the_fully_connected_network_learns():
    learner_checks.check_it_learns(BUILT["fc"])


@pytest.mark.parametrize("kind", ["8,16,16", "conv256"])
def test_a_layer_does_not_move_when_a_later_layer_s_loss_changes(kind):
    def weights_after(last_weight):
        torch.manual_seed(0)
        network = build_network(kind, (3, 12, 12))
        embeddings = torch.nn.Parameter(torch.randn(3, max(network.channels)))
        optimizers = [torch.optim.AdamW(layer.parameters()) for layer in network]
        x, labels = torch.randn(6, 3, 12, 12), torch.tensor([0, 1, 2, 0, 1, 2])
        for i, (layer, optimizer) in enumerate(zip(network, optimizers, strict=True)):
            loss = LocalLoss(dict_weight=last_weight if i == len(optimizers) - 1 else 1.0)
            d_l = visible_to_layer(embeddings, i, len(optimizers))
            x, _, _ = local_step(layer, x, labels, d_l, LocalTraining(loss))
            optimizer.step()
        return [p.detach().clone() for layer in list(network)[:-1] for p in layer.parameters()]

    for one, other in zip(weights_after(1.0), weights_after(100.0), strict=True):
        assert torch.equal(one, other)


def test_no_gradient_crosses_a_layer_and_embeddings_learn_at_the_last():
    network = build_network("8,16", (3, 12, 12))
    embeddings = torch.nn.Parameter(torch.randn(2, 16))
    x, labels = torch.randn(4, 3, 12, 12, requires_grad=True), torch.tensor([0, 1, 0, 1])
    layers = list(network)
    h, _, _ = local_step(layers[0], x, labels, visible_to_layer(embeddings, 0, 2), LocalTraining())
    assert x.grad is None
    assert embeddings.grad is None
    assert not h.requires_grad
    local_step(layers[1], h, labels, visible_to_layer(embeddings, 1, 2), LocalTraining())
    assert embeddings.grad is not None


def test_a_step_lowers_every_layer_s_loss():
    torch.manual_seed(0)
    network = build_network("8,16", (3, 12, 12))
    embeddings = torch.nn.Parameter(torch.randn(2, 16))
    optimizers = [Optimizer("adamw", layer.parameters(), 3e-3, 1e-2) for layer in network]
    optimizers[-1].add(embeddings)
    x, labels = torch.randn(8, 3, 12, 12), torch.tensor([0, 1] * 4)
    losses = [
        train_step(network, optimizers, x, labels, embeddings, LocalTraining())[1]
        for _ in range(30)
    ]
    assert all(last < first for first, last in zip(losses[0], losses[-1], strict=True))


def test_the_dictionary_and_its_optimiser_grow_with_the_classes():
    learner = BUILT["widths"]()
    learner_checks.teach(learner)
    before = learner.algorithm.contrast.embeddings.detach().clone()
    moments = learner.algorithm.contrast.optimizers[-1].moments[-1].first.clone()
    learner.learn(learner.encode(np.zeros((1, 16, 16, 3), np.uint8)), ["dark"])
    assert learner.algorithm.contrast.embeddings.shape == (3, 16)
    assert torch.equal(learner.algorithm.contrast.embeddings[:2], before)
    grown = learner.algorithm.contrast.optimizers[-1].moments[-1].first
    assert torch.equal(grown[:2], moments)
    assert not grown[2].any()
    learner_checks.teach(learner, steps=2)
    assert not torch.equal(learner.algorithm.contrast.embeddings[:2], before)


def test_replay_stays_within_its_bytes():
    learner = BUILT["widths"]()
    for i in range(80):
        learner.learn(learner.encode(learner_checks.pictures(learner, i % 2, 4, i)), ["x"] * 4)
    assert len(learner.algorithm.replay) == learner.algorithm.replay.capacity
    used = learner.algorithm.replay.values.numel() + learner.algorithm.replay.ranges.numel() * 4
    assert used <= 0.1 * 2**20


def test_samples_counts_every_frame_once():
    learner = BUILT["widths"]()
    learner_checks.teach(learner, steps=3)
    learner.learn(learner.encode(learner_checks.pictures(learner, 0, 1)), ["above"])
    assert learner.samples() == {"above": 7, "left": 6}
    assert learner.frames_learned == 13


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), ["x"], r"shape \(1, 8, 8, 3\)"),
        (np.zeros((1, 16, 16, 3), np.float32), ["x"], "float32"),
        (np.zeros((2, 16, 16, 3), np.uint8), ["x"], "1 labels for 2 samples"),
        (np.zeros((1, 16, 16, 3), np.uint8), [" "], "expected a name"),
    ],
)
def test_refusals_of_data(images, labels, message):
    learner = BUILT["widths"]()
    with pytest.raises(DataError, match=message):
        learner.learn(learner.encode(images), labels)
    assert learner.frames_learned == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": "resnet"}, "--backbone is 'resnet'"),
        ({"backbone": "torchvision:nonsense@x"}, "torchvision model 'nonsense'"),
        ({"backbone": "none", "layers": "conv255"}, "--layers is 'conv255'"),
        ({"backbone": "none", "layers": "8,-1"}, "--layers is '8,-1'"),
        ({"backbone": "none", "image_px": 4}, "image_px is 4, expected a whole number, 8 to 1,024"),
        ({"backbone": "none", "replay_mib": 0.001}, "--replay-mib is 0.001"),
        ({"backbone": "none", "batch": 2}, "4 new of 2"),
    ],
)
def test_refusals_of_configurations(config, message):
    with pytest.raises(UsageError, match=message):
        Learner(LearnerConfig(**config))


@pytest.mark.parametrize(
    "choices",
    [{}, {"learner": "bp"}, {"backbone": "none"}, {"backbone": "none", "learner": "slda"}],
)
def test_no_layers_are_refused_where_they_are_needed(choices):
    with pytest.raises(UsageError, match="--layers is none, but --learner"):
        LearnerConfig(layers="none", **choices)


def test_a_algorithm_on_the_backbone_alone_has_no_layers():
    assert LearnerConfig(layers="none", learner="slda").resolved_layers() == "none"


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([3], "3 (int), expected a name"),
        ([None], "None (NoneType), expected a name"),
        ("m", "'m' (str), expected a list of names"),
    ],
)
def test_what_is_no_list_of_names_is_refused_and_nothing_is_learned(labels, shown):
    learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
    encoded = learner.encode(np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(DataError, match=f"^{re.escape(f'A label is {shown}')}\n"):
        learner.learn(encoded, labels)
    assert (learner.classes, learner.frames_learned) == ([], 0)
    with pytest.raises(DataError, match=r"A label is 3 \(int\), expected a name\n"):
        learner.learn_one(np.zeros((20, 20, 3), np.uint8), 3)


def test_names_of_numpy_are_names():
    learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
    names = np.array(["mug", "Stra\u00dfe", "mug"])
    learner.learn(learner.encode(np.zeros((3, 16, 16, 3), np.uint8)), list(names))
    learner.learn_one(np.zeros((20, 20, 3), np.uint8), names[0])
    assert learner.samples() == {"mug": 3, "Stra\u00dfe": 1}
    assert {type(name) for name in learner.classes} == {str}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replay_mib", "8"),
        ("replay_mib", -1),
        ("replay_mib", float("nan")),
        ("journal_mib", None),
        ("batch", 2.5),
        ("batch", True),
        ("seed", -1),
        ("refresh_frames", 0),
        ("chunk", 0),
        ("learning_rate", float("inf")),
        ("weight_decay", "much"),
        ("replay_mib", 65537),
        ("journal_mib", 1e5),
        ("batch", 65537),
        ("refresh_frames", 10**16),
        ("seed", 2**63),
    ],
)
def test_a_number_of_the_configuration_is_checked_at_once(name, value):
    told = rf"^{name} is {re.escape(repr(value))}, expected a .*, \d( or more| to [\d,]+)\n"
    with pytest.raises(UsageError, match=told):
        LearnerConfig(**{name: value})


def test_numbers_of_numpy_are_numbers_and_can_be_saved(tmp_path):
    numbers = {"replay_mib": np.float32(1), "batch": np.int64(8), "seed": np.int64(1)}
    learner = Learner(LearnerConfig(**SMALL | numbers, layers="8"))
    learner.learn_one(np.zeros((9, 9, 3), np.uint8), "dark")
    learner.save(tmp_path / "m")
    assert Learner.load(tmp_path / "m").config == learner.config


@pytest.mark.parametrize("value", [np.True_, 1, None])
def test_a_switch_of_the_configuration_is_checked_at_once(value):
    with pytest.raises(UsageError, match=r"^recompute is .*, expected True or False"):
        LearnerConfig(recompute=value)


def test_no_images_have_no_predictions():
    assert Learner(LearnerConfig(**SMALL, layers="8")).predict_batch([]) == []

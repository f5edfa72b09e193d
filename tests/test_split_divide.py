"""What divides a class in two: samples, images, statistics."""

import numpy as np
import pytest
import torch
from command_line import contents
from test_split import WITH_REPLAY

from cfl_edge.cli.commands.split import split
from cfl_edge.core.features import Encoded, pool_intermediate
from cfl_edge.errors import DataError
from cfl_edge.learner import divide
from cfl_edge.learner.config import LEARNERS
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import from_saved, to_saved
from cfl_edge.model import class_table
from cfl_edge.model.store import Store


def lit(colour, count, seed):
    """Noisy images whose upper half is red (0), green (1), blue (2) or white (3)."""
    rng = np.random.default_rng([seed, colour])
    images = rng.integers(0, 80, (count, 16, 16, 3), dtype=np.uint8)
    images[:, :8, :, colour if colour < 3 else slice(None)] += 150
    return images


def two_in_one(algorithm, **config):
    """A learner whose class "both" is really two things, the second of them rarer."""
    learner = Learner(
        LearnerConfig(
            backbone="none",
            layers="8,16",
            image_px=16,
            replay_mib=0.2,
            learner=algorithm,
            batch=16,
            **config,
        )
    )
    for i in range(12):
        for name, colour, count in (("both", 0, 3), ("other", 2, 3), ("both", 1, 1)):
            learner.learn(learner.encode(lit(colour, count, i)), [name] * count)
    learner.recalibrate()
    return learner


def answers(learner, colour):
    scores = learner.predict(learner.encode(lit(colour, 20, 777)))
    return [learner.classes[i] for i in scores.argmax(1)]


@pytest.mark.parametrize("algorithm", WITH_REPLAY)
def test_the_rarer_of_two_things_becomes_the_new_class(algorithm):
    rate = (
        {} if algorithm == "cfl" else {"learning_rate": 1e-2}
    )  # steps alone make those algorithms sure
    saved = to_saved(two_in_one(algorithm, **rate), {})
    learner, divided = divide.divide(saved, "both", "rare", device="cpu", otherwise="")
    assert (divided.stayed, divided.moved, divided.shared_end) == (36, 12, False)
    assert 0.3 < divided.apart < 1
    assert learner.samples() == {"both": 36, "other": 36, "rare": 12}
    right = [
        np.mean([answer == name for answer in answers(learner, colour)])
        for colour, name in ((0, "both"), (1, "rare"), (2, "other"))
    ]
    assert min(right) >= 0.9, right
    back = from_saved(to_saved(learner, {"runs": 0}))  # it can be stored, and learns on
    assert answers(back, 1) == answers(learner, 1)
    for i in range(20, 24):
        for name, colour in (("both", 0), ("rare", 1), ("other", 2)):
            back.learn(back.encode(lit(colour, 3, i)), [name] * 3)
    back.recalibrate()
    assert np.mean([answer == "rare" for answer in answers(back, 1)]) >= 0.9


def test_the_samples_that_move_are_those_of_the_thing_itself():
    learner = two_in_one("cfl")
    saved = to_saved(learner, {})
    after, _ = divide.divide(saved, "both", "rare", device="cpu", otherwise="")
    replay = after.algorithm.replay
    places = torch.tensor(replay.places[after.classes.index("rare")])
    red, green, _ = replay.read(places).mean(dim=(2, 3)).unbind(1)
    assert (green > red).all()
    again, _ = divide.divide(saved, "both", "rare", device="cpu", otherwise="")
    assert again.algorithm.replay.labels == replay.labels


def test_the_image_of_an_export_goes_with_its_group():
    learner = two_in_one("cfl")
    [image] = [p for p, number in learner.examples.values() if number == 0]  # the rare thing
    after, _ = divide.divide(to_saved(learner, {}), "both", "rare", device="cpu", otherwise="")
    pictures = {after.classes[number]: p for p, number in after.examples.values()}
    assert (pictures["rare"] == image).all()
    assert "both" not in pictures


class WithBackbone:
    """What a backbone would return, without one: sources are its end, its cut and the layers."""

    def __init__(self, algorithm):
        from cfl_edge.core.networks import build_network
        from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs
        from cfl_edge.learner.algorithms.build import build_algorithm

        config = LearnerConfig(learner=algorithm, layers="8,8", replay_mib=0.2, batch=16)
        self.network = build_network("8,8", (3, 8, 8)).eval()
        generator = torch.Generator().manual_seed(0)
        channels = [5, 6, *self.network.channels]
        inputs = AlgorithmInputs(
            config, self.network, (3, 8, 8), channels, 2, generator, torch.device("cpu")
        )
        self.algorithm, self.device, self.config = (
            build_algorithm(inputs),
            torch.device("cpu"),
            config,
        )

    @torch.inference_mode()
    def encode(self, kind, count, seed):
        noise = torch.Generator().manual_seed(seed)
        h0 = torch.randn(count, 3, 8, 8, generator=noise)
        h0[:, kind] += 2
        end = torch.randn(count, 5, generator=noise)
        end[:, kind] += 2
        features = [end, pool_intermediate(h0, "mean-std"), *self.network(h0)]
        return Encoded(torch.zeros(0), h0, features)


@pytest.mark.parametrize("algorithm", ["cfl", "bp-replay", "layer-bp"])
def test_features_of_replayed_samples_are_those_that_were_learned(algorithm):
    with_backbone = WithBackbone(algorithm)
    with_backbone.algorithm.add_class()
    encoded = with_backbone.encode(0, 6, seed=1)
    with_backbone.algorithm.learn(encoded, torch.zeros(6, dtype=torch.long), None)
    with_backbone.algorithm.recalibrate()
    features, scales = divide.replayed_features(with_backbone, torch.arange(6))
    sources = encoded.features if algorithm != "cfl" else encoded.features[1:]
    expected = torch.cat(sources, dim=1)
    assert features.shape == (6, len(scales)) == expected.shape
    frozen = 11 if algorithm != "cfl" else 6  # the layers have moved since, where there was a step
    apart = (features - expected)[:, :frozen].norm() / expected[:, :frozen].norm()
    assert apart < 0.1  # 4 bits a value
    widths = [source.shape[1] for source in sources]
    spreads = [x.var(dim=0, unbiased=False).mean().sqrt() for x in features.split(widths, dim=1)]
    measured = [scale.unique() for scale in scales.split(widths)]
    torch.testing.assert_close(torch.cat(measured), torch.stack(spreads))


def test_the_cut_of_a_backbone_is_estimated_from_the_replay_memory():
    algorithm = (with_backbone := WithBackbone("cfl")).algorithm
    for z in range(2):
        algorithm.add_class()
        numbers = torch.full((20,), z)
        algorithm.learn(with_backbone.encode(z, 20, seed=z), numbers, None)
    algorithm.recalibrate()
    exact, estimated = algorithm.statistics[1], divide._cut_statistics(algorithm)
    assert estimated.counts.tolist() == [20, 20]
    torch.testing.assert_close(estimated.means, exact.means, rtol=0.02, atol=0.02)
    torch.testing.assert_close(estimated.scatter, exact.scatter, rtol=0.05, atol=0.5)


def test_a_divided_row_of_statistics_keeps_mean_and_total():
    saved = to_saved(two_in_one("cfl"), {})
    state = saved.tensors["state"]
    before = {name: state[name].copy() for name in saved.manifest["class_rows"]}
    moved = np.zeros(len(saved.tensors["replay"]["labels"]), bool)
    moved[np.flatnonzero(saved.tensors["replay"]["labels"] == 0)[:12]] = True
    class_table.split(saved, "both", "rare", moved)
    assert saved.manifest["classes"] == ["both", "other", "rare"]
    for name, rows in before.items():
        after = state[name]
        if name.endswith(".counts"):
            np.testing.assert_allclose(after, [rows[0] * 0.75, rows[1], rows[0] * 0.25])
        else:
            np.testing.assert_array_equal(after, rows[[0, 1, 0]])
    assert saved.tensors["replay"]["seen"].tolist() == [36, 36, 12]


@pytest.mark.parametrize(
    "algorithm", [algorithm for algorithm in LEARNERS if algorithm not in WITH_REPLAY]
)
def test_algorithms_without_replay_say_what_works(tmp_path, algorithm):
    saved = to_saved(two_in_one(algorithm), {})
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    before = contents(tmp_path / "m")
    with pytest.raises(DataError, match=f"The algorithm {algorithm} keeps no samples") as caught:
        split(tmp_path / "m", "both", "rare")
    assert f"split {tmp_path}/m both --into rare --frames N" in caught.value.hint
    assert contents(tmp_path / "m") == before


def test_too_few_samples_and_samples_that_are_all_the_same(tmp_path):
    learner = two_in_one("knn")
    learner.learn(learner.encode(lit(3, 3, 0)), ["few"] * 3)
    learner.learn(learner.encode(np.repeat(lit(3, 1, 0), 5, axis=0)), ["same"] * 5)
    saved = to_saved(learner, {})
    class_table.add(saved, "none")
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    for name, message in {
        "few": "'few' has 3 replayed samples, expected at least 4",
        "none": "'none' has 0 replayed samples",
        "same": "5 replayed samples of 'same' are all the same",
    }.items():
        with pytest.raises(DataError, match=message):
            split(tmp_path / "m", name, "new")

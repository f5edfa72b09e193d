"""The heads that people use instead: oracles, stored state, class changes, growing, refusals."""

import copy

import learner_checks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from test_learner import HEAD_LEARNERS, SMALL

from cfl_edge.commands.classes import change, samples
from cfl_edge.commands.export import export_learner
from cfl_edge.commands.learn import check_unchanged, new_config
from cfl_edge.config import load_settings
from cfl_edge.core.class_statistics import NEVER, ClassStatistics, with_constant
from cfl_edge.core.networks import build_network
from cfl_edge.errors import ExportError, ModelError, UsageError
from cfl_edge.model import class_table
from cfl_edge.model.checkpoint import from_saved, to_saved
from cfl_edge.model.store import Store
from cfl_edge.online.features import Encoded
from cfl_edge.online.heads.build import build_head
from cfl_edge.online.heads.class_means import (
    IMPRINTING_SCALE,
    NEAREST_MEAN_SCALE,
    RunningMeans,
)
from cfl_edge.online.heads.head import HeadInputs
from cfl_edge.online.heads.packing import Packing
from cfl_edge.online.heads.slda import (
    REFERENCE_SHRINKAGE,
    SHRINKAGE,
    TEMPERATURE,
    discriminant_rows,
)
from cfl_edge.online.learner import Learner, LearnerConfig
from cfl_edge.online.learner_config import HEADS
from cfl_edge.online.memory_plan import fit_memory, plan_memory
from cfl_edge.online.replay import Replay

OTHERS = [head for head in HEADS if head != "cfl"]
LINEAR = [head for head in OTHERS if head != "knn"]
GRADIENT = ["bp", "bp-replay", "layer-bp"]
CHANNELS, CUT = 6, 3  # of a stem that is not there: its end and its cut


def frozen_head(name, **config):
    """A head on a stem's end: what `Learner` builds with a stem, without the stem."""
    return build_head(
        HeadInputs(
            LearnerConfig(head=name, replay_mib=0.1, **config),
            build_network("none", (CUT, 2, 2)),
            (CUT, 2, 2),
            [CHANNELS, CUT],
            2,
            torch.Generator().manual_seed(0),
            torch.device("cpu"),
        )
    )


def encoded(end):
    h0 = torch.zeros(len(end), CUT, 2, 2)
    return Encoded(torch.zeros(len(end), 1), h0, [end, torch.full((len(end), CUT), 7.0)])


def blobs(count=90, classes=3, seed=0):
    """Features with correlated channels, and classes of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.rand(classes, CHANNELS, generator=generator)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=generator)
    labels = torch.randint(classes + 1, (count,), generator=generator) % classes
    noise = torch.randn(count, CHANNELS, generator=generator) @ mixing
    return means[labels] + 0.5 * noise, labels


def stream(head, x, labels, sizes=(1, 2, 5)):
    """Teach in batches of several sizes; a class is added before its first sample."""
    start, turn = 0, 0
    while start < len(x):
        part = slice(start, start + sizes[turn % len(sizes)])
        while len(head.samples()) <= int(labels[part].max()):
            head.add_class()
        head.learn(encoded(x[part]), labels[part], None)
        start, turn = part.stop, turn + 1
    head.settle()
    return head


def differences(scores):
    return (scores - scores[:, :1]).double().numpy()


# Oracles


def test_nearest_mean_is_the_smallest_distance():
    x, labels = blobs()
    head = stream(frozen_head("ncm"), x, labels)
    means = torch.stack([x[labels == z].mean(0) for z in range(3)])
    within = (x - means[labels]).square().sum(1).mean()
    distances = torch.cdist(x, means).square()
    expected = -NEAREST_MEAN_SCALE * distances / within
    scores = head.scores(encoded(x))
    np.testing.assert_allclose(differences(scores), differences(expected), rtol=1e-3, atol=1e-2)
    assert scores.argmax(1).tolist() == distances.argmin(1).tolist()


def test_imprinting_is_the_largest_cosine_with_the_normalised_mean_of_normalised_samples():
    x, labels = blobs()
    head = stream(frozen_head("imprint"), x, labels)
    units = x / x.norm(dim=1, keepdim=True)
    weights = torch.stack([units[labels == z].mean(0) for z in range(3)])
    cosines = units @ (weights / weights.norm(dim=1, keepdim=True)).T
    length = x.square().sum(1).mean().sqrt()
    scores = head.scores(encoded(x))
    expected = IMPRINTING_SCALE * cosines * (x.norm(dim=1, keepdim=True) / length)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    assert scores.argmax(1).tolist() == cosines.argmax(1).tolist()


@pytest.mark.parametrize("shrinkage", [SHRINKAGE, REFERENCE_SHRINKAGE, 0.5])
def test_streaming_discriminant_is_scikit_learn_s(shrinkage):
    x, labels = blobs(200)
    statistics = ClassStatistics(CHANNELS)
    for _ in range(3):
        statistics.add_class()
    for part in torch.split(torch.randperm(200, generator=torch.Generator().manual_seed(1)), 7):
        statistics.update(x[part], labels[part])
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    oracle.fit(x.double().numpy(), labels.numpy())  # a covariance weighted as the classes are
    expected = oracle.decision_function(x.double().numpy()) - np.log(oracle.priors_)
    ours = with_constant(x) @ discriminant_rows(statistics, shrinkage).T
    expected -= expected[:, :1]
    np.testing.assert_allclose(differences(ours), expected, rtol=1e-3, atol=2e-3)


def test_the_streaming_discriminant_head_is_scikit_learn_s():
    x, labels = blobs(60)
    labels = torch.arange(60) % 3  # as many of each: equal priors
    head = stream(frozen_head("slda"), x, labels)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE, priors=[1 / 3] * 3)
    oracle.fit(x.double().numpy(), labels.numpy())
    expected = TEMPERATURE * oracle.decision_function(x.double().numpy())
    expected -= expected[:, :1]
    scores = head.scores(encoded(x))
    np.testing.assert_allclose(differences(scores), expected, rtol=1e-3, atol=1e-3)


def test_the_discriminant_is_solved_for_new_classes_and_every_few_frames():
    head = frozen_head("slda", refresh_frames=4)
    head.add_class()
    x = torch.randn(40, CHANNELS, generator=torch.Generator().manual_seed(0))
    changes = []
    for i in range(20):
        before = head.readout.clone()
        head.learn(encoded(x[i : i + 1]), torch.tensor([0]), None)
        changes.append(not torch.equal(before, head.readout) or i == 0)
    head.add_class()
    head.learn(encoded(x[20:21]), torch.tensor([1]), -1.0)  # hurried: for a new class none the less
    assert head.readout.shape[0] == 2
    before = head.readout.clone()
    for i in range(21, 40):
        head.learn(encoded(x[i : i + 1]), torch.tensor([1]), -1.0)
    assert torch.equal(before, head.readout)


def test_three_nearest_neighbours_vote():
    x, labels = blobs(80)
    head = stream(frozen_head("knn"), x, labels)
    oracle = KNeighborsClassifier(3, metric="cosine", algorithm="brute")
    oracle.fit(x.numpy(), labels.numpy())
    queries, _ = blobs(60, seed=5)
    scores = head.scores(encoded(queries))
    votes = oracle.predict_proba(queries.numpy()) * 3
    clear = votes.max(1) >= 2  # otherwise the closest of three wins
    assert clear.sum() > 30
    assert (scores.argmax(1).numpy() == votes.argmax(1))[clear].all()
    closest = labels[oracle.kneighbors(queries.numpy(), 1)[1][:, 0]]
    assert (scores.argmax(1) == closest)[~clear].all()
    np.testing.assert_allclose(
        scores.softmax(1)[clear], (votes[clear] + 1 / 3) / 4, atol=0.06
    )  # a share of the votes


def test_neighbours_stay_within_the_bytes_of_replay():
    head = frozen_head("knn")
    head.add_class()
    for _ in range(20):
        head.learn(encoded(torch.randn(512, CHANNELS)), torch.zeros(512, dtype=torch.long), None)
    groups = head.state()
    stored = sum(groups["replay"][name].nbytes for name in ("values", "ranges"))
    assert stored <= 0.1 * 2**20
    assert head.samples() == [20 * 512]
    assert int(groups["replay"]["seen"]) == 20 * 512


def test_the_last_layer_takes_the_steps_of_autograd():
    x, labels = blobs(30)
    labels[:3] = torch.arange(3)
    head = stream(frozen_head("last-layer-sgd", learning_rate=0.3), x, labels, sizes=(1, 4))
    rows = torch.zeros(3, CHANNELS + 1)
    for i, (sample, label) in enumerate(zip(with_constant(x), labels, strict=True)):
        seen = min(i + 1, 3)  # classes that came so far
        leaf = rows[:seen].clone().requires_grad_()
        F.cross_entropy((leaf @ sample)[None], label[None]).backward()
        rows[:seen] = (leaf - 0.3 / sample.square().sum() * leaf.grad).detach()
    expected = with_constant(x) @ rows.T
    np.testing.assert_allclose(head.scores(encoded(x)), expected, rtol=1e-4, atol=1e-4)


def one_step(name, layers="4,5"):
    """A learner before and after its first step on four samples, and what it was taken on."""
    learner = Learner(
        LearnerConfig(
            **SMALL, layers=layers, head=name, optimizer="sgd", learning_rate=0.1, weight_decay=0.0
        )
    )
    images = np.concatenate([learner_checks.pictures(learner, kind, 2) for kind in (0, 1)])
    network = copy.deepcopy(learner.network)
    flips = torch.Generator()
    flips.set_state(learner.generator.get_state())
    pictures = learner.encode(images)
    learner.learn(pictures, ["above", "above", "left", "left"])
    assert learner.head.steps == 1
    flipped = torch.rand(4, 1, 1, 1, generator=flips) < 0.5
    x = torch.where(flipped, pictures.h0.flip(3), pictures.h0).clone()
    return learner, network, x, torch.tensor([0, 0, 1, 1])


def test_backpropagation_is_autograd_through_everything():
    learner, network, x, labels = one_step("bp")
    rows = torch.zeros(2, 4 + 5 + 1, requires_grad=True)
    first, second = network
    h = first(x)
    h_2 = second(h)
    features = torch.cat([h.mean((2, 3)), h_2.mean((2, 3)), torch.ones(4, 1)], dim=1)
    F.cross_entropy(features @ rows.T, labels).backward()
    np.testing.assert_allclose(
        learner.head.readout, (rows - 0.1 * rows.grad).detach(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["bp", "layer-bp"])
def test_what_moves_the_first_layer(name):
    learner, _, x, labels = one_step(name)
    head, network = learner.head, learner.network
    rows = [each.detach() + 0.1 for each in head.rows]
    rows = [each * torch.tensor([[1.0], [-1.0]]) for each in rows]  # classifiers that disagree
    changed = [*rows[:-1], rows[-1] * 3]
    gradients = []
    for each in (rows, changed):
        network.zero_grad()
        head._backward(network, x, [], labels, torch.tensor([True, True]), each)
        gradients.append([p.grad.clone() for p in network.layers[0].parameters()])
    network.zero_grad()
    same = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert same == (name == "layer-bp")  # the last classifier's error stays in the last layer


def test_layer_backpropagation_is_autograd_on_each_layer():
    learner, network, x, labels = one_step("layer-bp")
    rows = [torch.zeros(2, c + 1, requires_grad=True) for c in (4, 5)]
    h = x
    for layer, each in zip(network, rows, strict=True):
        h = layer(h.detach())
        F.cross_entropy(with_constant(h.mean((2, 3))) @ each.T, labels).backward()
    for ours, each in zip(learner.head.rows, rows, strict=True):
        np.testing.assert_allclose(ours.detach(), each.detach() - 0.1 * each.grad, atol=1e-6)
    scores = learner.predict(learner.encode(learner_checks.pictures(learner, 0, 3)))
    features = learner.encode(learner_checks.pictures(learner, 0, 3)).features
    logits = [with_constant(f) @ r.detach().T for f, r in zip(features, learner.head.rows,
                                                              strict=True)]  # fmt: skip
    np.testing.assert_allclose(scores, sum(logits), rtol=1e-4, atol=1e-5)


# What every head keeps


def taught(head, extra=1):
    faster = {"learning_rate": 1e-2} if head in GRADIENT else {}
    learner = Learner(LearnerConfig(**SMALL, layers="8,16", head=head, **faster))
    dark = np.zeros((1, 16, 16, 3), np.uint8)
    for i in range(30):  # classes mixed: without replay, what comes last is all that stays
        kinds = [learner_checks.pictures(learner, kind, 1, i) for kind in (0, 1)]
        learner.learn(learner.encode(np.concatenate([*kinds, dark])), ["above", "left", "dark"])
    learner.learn(learner.encode(np.repeat(dark, extra, axis=0)), ["dark"] * extra)
    return learner


def stored(learner):
    """As from a folder: `to_saved` shares its arrays with the learner."""
    return copy.deepcopy(to_saved(learner, {}))


def predictions(learner):
    kinds = [learner_checks.pictures(learner, kind, 3, 9) for kind in (0, 1)]
    kinds.append(np.zeros((3, 16, 16, 3), np.uint8))
    return [
        [learner.classes[i] for i in learner.predict(learner.encode(images)).argmax(1)]
        for images in kinds
    ]


@pytest.mark.parametrize("head", OTHERS)
def test_a_saved_learner_goes_on_as_if_nothing_had_happened(head):
    learner = taught(head)
    learner.settle()  # as the learning loop does before it saves
    back = from_saved(stored(learner))
    assert back.samples() == learner.samples()
    for each in (learner, back):
        learner_checks.teach(each, steps=3, seed=50)
        each.learn(each.encode(np.full((3, 16, 16, 3), 255, np.uint8)), ["white"] * 3)
        each.settle()
    one, other = stored(learner), to_saved(back, {})
    assert one.manifest == other.manifest
    for group, tensors in one.tensors.items():
        assert tensors.keys() == other.tensors[group].keys()
        for name, value in tensors.items():
            np.testing.assert_array_equal(value, other.tensors[group][name], err_msg=name)


@pytest.mark.parametrize("head", OTHERS)
def test_class_changes(head):
    learner = taught(head)
    assert predictions(learner) == [["above"] * 3, ["left"] * 3, ["dark"] * 3]

    renamed = stored(learner)
    class_table.rename(renamed, "left", "aside")
    assert predictions(from_saved(renamed))[1] == ["aside"] * 3

    removed = stored(learner)
    class_table.remove(removed, "left")
    back = from_saved(removed)
    assert back.classes == ["above", "dark"]
    assert predictions(back)[0::2] == [["above"] * 3, ["dark"] * 3]
    assert sum(back.samples().values()) == sum(learner.samples().values()) - 30
    learner_checks.teach(back, steps=2)
    back.settle()
    assert back.classes == ["above", "dark", "left"]

    added = stored(learner)
    class_table.add(added, "white")
    back = from_saved(added)
    assert predictions(back) == predictions(learner)
    for _ in range(25):
        back.learn(back.encode(np.full((4, 16, 16, 3), 255, np.uint8)), ["white"] * 4)
    white = back.encode(np.full((1, 16, 16, 3), 255, np.uint8))
    assert back.predict(white).argmax(1).tolist() == [3]

    merged = stored(learner)
    class_table.merge(merged, ["left", "dark"], into="rest")
    back = from_saved(merged)
    assert back.classes == ["above", "rest"]
    assert sum(back.samples().values()) == sum(learner.samples().values())
    assert predictions(back)[0] == ["above"] * 3
    learner_checks.teach(back, steps=2)
    back.settle()


@pytest.mark.parametrize("head", ["ncm", "imprint", "slda"])
def test_merged_statistics_are_those_of_samples_seen_together(head):
    x, labels = blobs()
    apart = stream(frozen_head(head), x, labels)
    together = stream(frozen_head(head), x, labels.clamp(max=1))
    learner = HEAD_LEARNERS[head]()
    saved = stored(learner)
    saved.manifest |= {"classes": ["a", "b", "c"], "class_rows": list(apart.class_rows())}
    groups = apart.state()
    saved.tensors["state"] = {name: value.numpy() for name, value in groups["state"].items()}
    saved.tensors["replay"] = {name: value.numpy() for name, value in groups["replay"].items()}
    class_table.merge(saved, ["b", "c"], into="b")
    back = frozen_head(head)
    back.load_state(
        {g: {n: torch.from_numpy(np.asarray(v)) for n, v in tensors.items()}
         for g, tensors in saved.tensors.items()}, 2
    )  # fmt: skip
    np.testing.assert_allclose(back.readout, together.readout, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", LINEAR)
def test_scores_are_the_product_with_the_readout(head):
    learner = taught(head)
    pictures = learner.encode(learner_checks.pictures(learner, 0, 4))
    features = with_constant(torch.cat(pictures.features, dim=1))
    np.testing.assert_allclose(
        learner.predict(pictures), features @ learner.head.readout.T, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("head", ["slda", "layer-bp"])
def test_export(tmp_path, head):
    learner = HEAD_LEARNERS[head]()
    learner_checks.teach(learner)
    exported = export_learner(learner, tmp_path)
    assert exported.labels.read_text().split() == ["above", "left"]
    assert exported.max_difference < 1e-4


def test_neighbours_have_nothing_to_export(tmp_path):
    with pytest.raises(ExportError, match="The head knn compares with stored samples"):
        export_learner(taught("knn"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_state_of_the_streaming_discriminant_is_a_covariance_and_class_means():
    inputs = HeadInputs(
        LearnerConfig(head="slda"),
        build_network("none", (112, 6, 6)),
        (112, 6, 6),
        [1280, 112],
        2,
        torch.Generator(),
        torch.device("cpu"),
    )
    head = build_head(inputs)
    for _ in range(100):
        head.add_class()
    x = torch.rand(100, 1280)
    head.learn(Encoded(x, x, [x, x[:, :112]]), torch.arange(100), None)
    readout_bytes = 100 * (1280 + 112 + 1) * 4
    rest = head.state_bytes() - readout_bytes - 4 * (1280**2 + 100 * 1280)
    assert 0 < rest < 4096 + 4 * 100 * (100 + 1)  # and what the means are to each other


# Gradient heads


@pytest.mark.parametrize("head", GRADIENT)
def test_classifiers_and_their_moments_grow(head):
    learner = HEAD_LEARNERS[head]()
    learner_checks.teach(learner)
    old = learner.head.rows[-1]
    before = old.detach().clone()
    moments = learner.head.optimizer.state[old]["exp_avg"].clone()
    learner.head.add_class()
    new = learner.head.rows[-1]
    assert torch.equal(new[:2].detach(), before)
    assert not new[2].any()
    assert torch.equal(learner.head.optimizer.state[new]["exp_avg"][:2], moments)
    assert not learner.head.optimizer.state[new]["exp_avg"][2].any()
    assert float(learner.head.readout[2, -1]) == NEVER
    assert old not in learner.head.optimizer.state


@pytest.mark.parametrize("layers", ["conv256", "fc"])
@pytest.mark.parametrize("head", ["bp", "layer-bp"])
def test_a_step_on_a_single_sample(head, layers):
    learner = Learner(LearnerConfig(**SMALL, layers=layers, head=head, batch=8))
    learner_checks.teach(learner, steps=1)
    learner.learn(learner.encode(learner_checks.pictures(learner, 0, 1)), ["above"])
    steps = learner.head.steps
    learner.settle()
    assert learner.head.steps == steps + 1
    assert not learner.head.pending
    assert np.isfinite(
        learner.predict(learner.encode(learner_checks.pictures(learner, 0, 2)))
    ).all()


@pytest.mark.parametrize("head", GRADIENT)
def test_a_budget_decides_how_many_steps(head):
    learner = HEAD_LEARNERS[head]()
    learner_checks.teach(learner, steps=2)
    steps = learner.head.steps
    images = learner.encode(learner_checks.pictures(learner, 0, 12))
    learner.learn(images, ["above"] * 12, budget_s=-1)
    assert learner.head.steps == steps
    assert len(learner.head.pending) == 12
    learner.work(0.0)
    assert learner.head.steps == steps + 1  # one, however short the budget
    learner.work(60.0)
    assert len(learner.head.pending) < learner.config.new_per_step
    learner.learn(images, ["above"] * 12, budget_s=-1)
    for _ in range(4):
        learner.learn(images, ["above"] * 12, budget_s=-1)
    assert len(learner.head.pending) == learner.config.batch
    assert learner.samples() == {"above": 76, "left": 4}


def test_backpropagation_without_replay_keeps_no_sample():
    learner = HEAD_LEARNERS["bp"]()
    learner_checks.teach(learner)
    assert list(learner.head.state()["replay"]) == ["seen"]


def test_packed_samples_keep_their_features_in_eight_bits():
    generator = torch.Generator().manual_seed(0)
    packing = Packing((3, 4, 4), [8, 3])
    h0 = 20 * torch.randn(5, 3, 4, 4, generator=generator)
    end, cut = torch.rand(5, 8, generator=generator), h0.mean((2, 3))
    replay = Replay((packing.size,), limit_mib=1, generator=generator)
    replay.add_class()
    replay.add(packing.pack(h0, [end, cut]), [0] * 5)
    h0_back, (end_back, cut_back) = packing.unpack(replay.read(torch.arange(5)))
    assert (h0_back - h0).abs().max() <= h0.abs().max() * 2 / 255
    assert (end_back - end).abs().max() <= max(end.max(), cut.abs().max()) * 2 / 255
    assert (cut_back - cut).abs().max() <= max(end.max(), cut.abs().max()) * 2 / 255


def test_running_means_in_any_order():
    x, labels = blobs(50)
    whole, parts = RunningMeans(CHANNELS), RunningMeans(CHANNELS)
    for running in (whole, parts):
        for _ in range(3):
            running.add_class()
    whole.update(x, labels)
    for part in torch.split(torch.randperm(50, generator=torch.Generator().manual_seed(2)), 7):
        parts.update(x[part], labels[part])
    np.testing.assert_allclose(whole.means, parts.means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.squares, parts.squares, rtol=1e-4)
    np.testing.assert_allclose(whole.means[1], x[labels == 1].mean(0), rtol=1e-5, atol=1e-5)


# Memory


def plan_of(head, **config):
    return plan_memory(LearnerConfig(stem="none", layers="8x64", image_px=96, head=head, **config))


def test_heads_without_layers_need_no_update():
    for head in ("slda", "ncm", "imprint", "last-layer-sgd"):
        plan = plan_of(head)
        assert (plan.layers, plan.update_bytes, plan.replay_bytes) == ([], 0, 0)
    assert plan_of("knn").replay_bytes == 16 * 2**20
    assert plan_of("slda").statistics_bytes == 3 * 4 * (8 * 64) ** 2  # all layers together
    assert fit_memory(plan_of("slda").config, 1000).config.head == "slda"
    with pytest.raises(UsageError, match="--memory-mib is 20, but learning needs at least"):
        fit_memory(plan_of("slda").config, 20)


def test_a_covariance_of_the_stem_s_end_fits_a_limit():
    plan = fit_memory(LearnerConfig(head="slda"), 60)
    assert plan.layers == []
    assert plan.statistics_bytes == 3 * 4 * 1280**2


def test_backpropagation_needs_all_layers_at_once():
    one, everything = plan_of("layer-bp"), plan_of("bp-replay")
    assert one.update_bytes == max(layer.update_bytes for layer in one.layers)
    assert everything.update_bytes == sum(layer.update_bytes for layer in one.layers)
    assert "all layers" in everything.passing_name


# The command


def test_the_head_of_a_model_stays():
    settings = load_settings(None, stream="demo:", head="slda", stem="none")
    assert new_config(settings).head == "slda"
    saved = stored(HEAD_LEARNERS["ncm"]())
    with pytest.raises(UsageError, match=r"--head is slda, but .* was learned with ncm"):
        check_unchanged(saved, load_settings(None, stream="demo:", head="slda"))
    check_unchanged(saved, load_settings(None, stream="demo:", head="ncm"))


def test_a_head_on_the_end_of_a_stem_refuses_layers():
    settings = load_settings(None, stream="demo:", head="ncm", layers="256,256")
    with pytest.raises(UsageError, match="--layers is 256,256, but --head ncm reads the end"):
        new_config(settings)


def test_an_unknown_head_is_refused():
    with pytest.raises(UsageError, match="--head is 'svm', expected 'cfl', 'slda'"):
        load_settings(None, stream="demo:", head="svm")


def test_classes_of_neighbours_have_no_onnx_files(tmp_path):
    saved = stored(taught("knn"))
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    with pytest.raises(ModelError, match="has no label embeddings"):
        change(
            tmp_path / "m",
            lambda saved: class_table.remove(saved, "left"),
            onnx=tmp_path / "model.onnx",
        )
    change(tmp_path / "m", lambda saved: class_table.remove(saved, "left"))
    assert list(samples(tmp_path / "m")) == ["above", "dark"]

"""What the options of a run in the paper room change, and what makes it another run."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from tiny_training import OPTIONS, changed, pets

from cfl_edge.core.losses import LocalLoss
from cfl_edge.errors import UsageError
from cfl_edge.lab.paper.options import TrainOptions
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.recipes import RECIPES, TABLE_5, batch_for, find_recipe, kind_of
from cfl_edge.lab.paper.trainer import Trainer


@pytest.fixture
def dataset():
    return pets()


@pytest.mark.parametrize(
    ("recipe", "options"), [("cfl-conv256", {}), ("cfl-fc", {"fc_loss": "relu"})]
)
def test_a_step_in_bfloat16_is_another_run_whose_weights_are_float32(dataset, recipe, options):
    plan = plan_run(recipe, dataset, changed(**options))
    reduced = plan_run(recipe, dataset, changed(precision="bfloat16", **options))
    assert plan.config.key() != reduced.config.key()
    trainers = []
    for each in (plan, reduced):
        trainers.append(Trainer(each))
        trainers[-1].step()
    exact, other = (trainer.losses()["layer 1"] for trainer in trainers)
    assert exact != other
    assert exact == pytest.approx(other, rel=0.02)
    weights = trainers[1].rule.state_dict().values()
    assert {w.dtype for w in weights if w.is_floating_point()} == {torch.float32}


def test_a_recipe_that_has_changed_is_another_run(dataset, monkeypatch):
    before = plan_run("cfl-conv256", dataset, OPTIONS)
    changed = replace(RECIPES["cfl-conv256"], options={"loss": LocalLoss(feat_weight=0.5)})
    monkeypatch.setitem(RECIPES, "cfl-conv256", changed)
    after = plan_run("cfl-conv256", dataset, OPTIONS)
    assert before.config.key() != after.config.key()
    assert json.loads(json.dumps(after.config.recipe_options)) == after.config.recipe_options


def test_a_batch_of_more_images_than_there_are_is_named(dataset):
    with pytest.raises(UsageError, match="--batch is 1000, expected at most the 76"):
        plan_run("cfl-conv256", dataset, changed(batch=1000))


def test_more_images_than_there_are_means_all(dataset):
    options = changed(train_images=10_000, test_images=10_000)
    config = plan_run("cfl-conv256", dataset, options).config
    assert (config.train_images, config.validation_images, config.test_images) == (76, 20, 40)


def test_digits_are_not_mirrored_and_colour_images_are(dataset):
    grey = replace(dataset, x_train=dataset.x_train[:, :1], x_test=dataset.x_test[:, :1])
    for data, augmented in ((dataset, True), (grey, False)):
        plan = plan_run("bp-conv256", data, OPTIONS)
        batches = Trainer(plan).images
        assert batches.augmented is augmented
        x, _ = batches.batch(torch.arange(76))
        plain = torch.cat(list(batches.plain(batches.x_train)))
        assert torch.equal(x, plain) is not augmented


def first_losses(dataset, recipe, **values):
    trainer = Trainer(plan_run(recipe, dataset, changed(**values)))
    trainer.step()
    return trainer.losses()


def test_the_feature_loss_of_a_recipe_is_the_one_asked_for(dataset):
    found = {
        form: first_losses(dataset, "cfl-conv256", feature_loss=form)["layer 1"]
        for form in ("printed", "no_self", "usual")
    }
    assert len(set(found.values())) == 3
    assert found["no_self"] == first_losses(dataset, "cfl-conv256")["layer 1"]
    assert found["usual"] == first_losses(dataset, "cfl-conv256-usual-feat")["layer 1"]
    plan = plan_run("cfl-conv256", dataset, changed(feature_loss="printed"))
    assert plan.config.options == {"feature_loss": "printed"}
    assert plan.config.recipe_options["loss"]["feat_form"] == "printed"
    every_layer = "bp-conv256-every-layer"
    printed, no_self = (
        first_losses(dataset, every_layer, feature_loss=form) for form in ("printed", "no_self")
    )
    assert printed["layer 1"] != no_self["layer 1"]
    assert printed["classifier"] == no_self["classifier"]


def test_the_batch_loss_of_a_recipe_is_the_one_asked_for(dataset):
    own = first_losses(dataset, "cfl-conv256-b")
    bounded = first_losses(dataset, "cfl-conv256-b", batch_loss="bounded")
    assert bounded["layer 1"] > own["layer 1"]  # the denominator has one term more
    assert bounded["classifier"] == own["classifier"]
    plan = plan_run("cfl-conv256-b", dataset, changed(batch_loss="bounded"))
    assert plan.config.options == {"batch_loss": "bounded"}
    assert plan.config.recipe_options["loss"]["batch_bounded"] is True


@pytest.mark.parametrize(
    ("recipe", "own"),
    [("cfl-conv256", True), ("bp-conv256-every-layer", True), ("cfl-conv256-feat-only", False)],
)
def test_the_classifier_starts_where_it_was_asked_to(dataset, recipe, own):
    for start, at_embeddings in (("embeddings", True), ("drawn", False), (None, own)):
        rule = Trainer(plan_run(recipe, dataset, changed(classifier_start=start))).rule
        scores = rule.scores(torch.randn(4, *dataset.input_shape))
        same = torch.allclose(scores["classifier"], scores["layer 2"], rtol=1e-4, atol=1e-4)
        assert same is at_embeddings


def test_the_loss_of_fully_connected_layers_reads_what_it_was_asked_to(dataset):
    x, labels = torch.randn(8, *dataset.input_shape), torch.arange(8) % 2
    for place in ("layer-norm", "relu"):
        rule = Trainer(plan_run("cfl-fc", dataset, changed(fc_loss=place))).rule
        rule.learn(x, labels)
        first, second = rule.model.layers
        product = first.block[1](x.flatten(1)).relu()  # (N, 3072), positive where it is not 0
        read, handed_on = first(x), second.block[1] if place == "relu" else first.block[-1]
        assert (read >= 0).all() == (place == "relu")
        assert isinstance(handed_on, torch.nn.LayerNorm)
        if place == "relu":
            torch.testing.assert_close(read, product)
            assert not isinstance(second.block[-1], torch.nn.LayerNorm)
        assert first.pool(read).shape == (8, 128)  # K = 24


@pytest.mark.parametrize(
    ("recipe", "same"),
    [
        ("cfl-conv256", {"feature_loss": "no_self", "batch_norm": "running"}),
        ("cfl-conv256", {"classifier_start": "embeddings", "augmentation": "crop-flip"}),
        ("cfl-conv256-usual-feat", {"feature_loss": "usual"}),
        ("cfl-conv256-feat-only", {"classifier_start": "drawn"}),
        ("cfl-conv256-b", {"batch_loss": "printed"}), ("cfl-conv256", {"batch_loss": "bounded"}),
        ("cfl-fc", {"fc_loss": "layer-norm", "batch_norm": "re-estimated"}),
        ("bp-fc", {"batch_norm": "re-estimated", "fc_loss": "relu"}),
        ("bp-vit", {"batch_norm": "re-estimated"}), ("ff", {"batch_norm": "re-estimated"}),
        ("cfl-conv256", {"fc_loss": "relu"}),
    ],
)  # fmt: skip
def test_what_is_so_already_makes_no_other_run(dataset, recipe, same):
    wide = replace(dataset, **wider(dataset))
    plain = plan_run(recipe, wide, changed()).config.key()
    assert plan_run(recipe, wide, changed(**same), strict=False).config.key() == plain


def test_digits_make_no_other_run_without_augmentation(dataset):
    grey = replace(dataset, x_train=dataset.x_train[:, :1], x_test=dataset.x_test[:, :1])
    for data, differs in ((dataset, True), (grey, False)):
        with_it, without = (
            plan_run("bp-conv256", data, changed(augmentation=name)).config.key()
            for name in ("crop-flip", "none")
        )
        assert (with_it != without) is differs


def test_augmentation_is_the_one_asked_for(dataset):
    def batch_of(recipe, augmentation):
        plan = plan_run(recipe, dataset, changed(augmentation=augmentation))
        images = Trainer(plan).images
        images.x_train, images.mean, images.std = white, torch.zeros(3), torch.ones(3)
        x, _ = images.batch(torch.arange(76))
        return (255 * x).round().byte()

    white = torch.randint(1, 256, (76, *dataset.input_shape), dtype=torch.uint8)
    shifted, flipped, plain = (
        batch_of("cfl-conv256", name) for name in ("crop-flip", "flip", "none")
    )
    assert (shifted == 0).any()  # the black around an image
    assert torch.equal(plain, white)
    kept = (flipped == white).flatten(1).all(1)
    assert (kept ^ (flipped == white.flip(3)).flatten(1).all(1)).all()
    assert 10 < kept.sum() < 66
    for recipe, own in (("drtp-conv", "flip"), ("cafo", "none"), ("cfl-conv256", None)):
        config = plan_run(recipe, dataset, changed(augmentation="source")).config
        assert config.options == ({"augmentation": own} if own else {})


def test_batch_norm_is_re_estimated_on_plain_images_and_changes_no_step(dataset):
    trainers = []
    for name in ("running", "re-estimated"):
        trainers.append(Trainer(plan_run("bp-conv256", dataset, changed(batch_norm=name))))
        while not trainers[-1].is_done:
            trainers[-1].step()
    running, re_estimated = (trainer.rule for trainer in trainers)
    pairs = zip(running.parameters(), re_estimated.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    conv, norm, *_ = re_estimated.model.layers[0].block
    x = torch.cat(list(trainers[1].images.plain(trainers[1].images.x_train)))
    h = conv(x).detach()
    torch.testing.assert_close(norm.running_mean, h.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, h.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == running.model.layers[0].block[1].momentum
    other = running.model.layers[0].block[1].running_mean
    assert not torch.allclose(norm.running_mean, other, rtol=1e-3)


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ("bp-conv256", {"feature_loss": "no_self"}), ("cafo", {"feature_loss": "usual"}),
        ("cfl-conv256-dict-only", {"feature_loss": "usual"}),
        ("cfl-conv256", {"batch_loss": "bounded"}),
        ("bp-conv256-total", {"classifier_start": "drawn"}),
        ("cfl-plus-conv256", {"classifier_start": "drawn"}),
        ("cfl-conv256", {"fc_loss": "relu"}), ("bp-fc", {"fc_loss": "relu"}),
        ("bp-fc", {"batch_norm": "re-estimated"}),
    ],
)  # fmt: skip
def test_an_option_that_changes_nothing_is_refused_for_a_run_and_left_out_in_a_table(
    dataset, recipe, option
):
    (name, value), wide = option.popitem(), replace(dataset, **wider(dataset))
    with pytest.raises(UsageError, match=f"is {value}, which changes nothing of {recipe}"):
        plan_run(recipe, wide, changed(**{name: value}))
    plan = plan_run(recipe, wide, changed(**{name: value}), strict=False)
    assert plan.config.options == {}
    assert plan.config.key() == plan_run(recipe, wide, OPTIONS).config.key()


def wider(dataset):
    """Images of twice the side: CaFo halves them three times."""
    return {name: getattr(dataset, name).repeat(1, 1, 2, 2) for name in ("x_train", "x_test")}


def test_table_5_and_what_scaling_makes_of_it(dataset):
    assert TABLE_5["conv", "cifar10"].epochs == 500
    assert find_recipe("cfl-conv256").schedule("cifar100").epochs == 400
    assert find_recipe("cfl-conv512").schedule("cifar100").epochs == 200
    assert find_recipe("bp-fc").schedule("mnist").learning_rate == 5e-4
    options = TrainOptions(epochs_scale=0.01, device="cpu")
    config = plan_run("cfl-conv512", dataset, options).config
    assert (config.epochs, config.batch) == (5, 32)
    assert config.learning_rate == pytest.approx(7.5e-3 / 16)  # batch 32 is a sixteenth of 512
    assert batch_for(512, 45_000) == 512
    assert kind_of(3, 10) == "cifar10"


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UsageError, match="try: --recipe cfl-conv256"):
        find_recipe("cfl-conv265")


def test_every_recipe_is_a_different_one():
    described = [json.dumps(asdict(recipe), sort_keys=True) for recipe in RECIPES.values()]
    assert len(set(described)) == len(described)

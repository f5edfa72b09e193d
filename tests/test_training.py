"""Runs of the paper room: schedule, selection, going on after an interruption, files."""

from types import SimpleNamespace

import pytest
import torch
from command_line import contents
from rule_checks import Told
from tiny_training import OPTIONS, changed, pets

from cfl_edge.errors import ModelDamagedError, ModelLockedError, UsageError
from cfl_edge.lab.paper import train as command
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.train import coarse_scores, train
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.paper.training_files import CHECKPOINT, claim, load_checkpoint, save_checkpoint
from cfl_edge.model.lock import ModelLock

pytestmark = pytest.mark.usefixtures("narrow_networks")


@pytest.fixture
def dataset():
    return pets()


def numbers(trainer):
    state = trainer.rule.state_dict()
    moments = [vars(each) for o in trainer.rule.optimizers for each in o.moments]
    flat = [value for each in moments for value in each.values()]
    return [*state.values(), *flat, torch.get_rng_state()]


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        ("cfl-conv256", "float32"),
        ("bp-conv256", "float32"),
        ("cfl-fc-b", "float32"),
        ("cfl-conv256", "bfloat16"),
    ],
)
@pytest.mark.parametrize("after", [2, 5])
def test_a_run_goes_on_to_the_same_bits(dataset, tmp_path, recipe, precision, after):
    plan = plan_run(recipe, dataset, changed(precision=precision))
    whole = Trainer(plan)
    while not whole.is_done:
        whole.step()
    wanted = numbers(whole)
    first = Trainer(plan)
    for _ in range(after):
        first.step()
    save_checkpoint(tmp_path, first)
    torch.manual_seed(99)  # whatever happens in between
    second = Trainer(plan)
    assert load_checkpoint(tmp_path, second)
    while not second.is_done:
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(wanted, numbers(second), strict=True))
    assert second.state.best == whole.state.best
    losses = [epoch.losses for epoch in second.state.epochs]
    assert losses == [epoch.losses for epoch in whole.state.epochs]
    for number, weights in whole.best_weights.items():
        for name, value in weights.items():
            assert torch.equal(value, second.best_weights[number][name])


def test_ctrl_c_keeps_what_was_learned_and_the_same_call_goes_on(dataset, tmp_path):
    plan = plan_run("cfl-conv256", dataset, OPTIONS)
    whole = train(plan, tmp_path / "whole", Told())
    told = Told(interrupt_after=4)
    out = tmp_path / "run"
    stopped = train(plan, out, told)
    assert stopped is None
    assert "the same command again to resume" in told.notices[-1]
    result = train(plan, out, told)
    assert result.last_test == whole.last_test
    assert result.best_test == whole.best_test
    done = [step for _, step in told.steps]
    assert done == list(range(1, 1 + 3 * 4))  # no step was done twice: 76 images, batches of 16
    assert sorted(p.name for p in out.iterdir()) == [
        "best.safetensors", "config.json", "lock", "model.safetensors", "result.json",
    ]  # fmt: skip
    again = train(plan, out, told)
    assert "is done" in told.notices[-1]
    assert again.last_test.keys() == result.last_test.keys()
    for name, value in result.last_test.items():
        assert again.last_test[name] == pytest.approx(value, abs=1e-4)


def test_it_learns_and_reports_every_readout(dataset, tmp_path):
    plan = plan_run("cfl-conv256", dataset, changed(epochs=20))
    told = Told()
    result = train(plan, tmp_path, told)
    assert list(result.last_test) == ["layer 1", "layer 2", "sum", "classifier"]
    assert result.last_test["classifier"] >= 0.8
    assert set(result.best_epoch) == set(result.last_test)
    assert result.coarse_test["sum"] >= 0.7
    assert len(result.curve) == 20
    epochs = [fields for name, fields in told.events if name == "epoch"]
    assert [fields["epoch"] for fields in epochs] == list(range(1, 21))
    assert list(epochs[-1]["losses"]) == ["layer 1", "layer 2", "classifier"]


def test_selection_never_sees_the_test_images(dataset):
    plan = plan_run("bp-conv256", dataset, OPTIONS)
    trainer = Trainer(plan)
    images_seen = trainer.images
    images_seen.x_test = images_seen.y_test = None  # touching it would raise
    while not trainer.is_done:
        trainer.step()
    best, number = trainer.state.best["classifier"]
    assert best == max(epoch.validation["classifier"] for epoch in trainer.state.epochs)
    assert trainer.state.epochs[number - 1].validation["classifier"] == best


def test_best_weights_are_those_of_the_best_epoch(dataset):
    plan = plan_run("bp-conv256", dataset, changed(epochs=6))
    trainer = Trainer(plan)
    after = {}
    while not trainer.is_done:
        epoch = trainer.step()
        if epoch is not None:
            after[epoch.number] = trainer.test()
    before = [value.clone() for value in trainer.rule.state_dict().values()]
    number = trainer.state.best["classifier"][1]
    assert trainer.test_best(after[6]) == {"classifier": after[number]["classifier"]}
    unchanged = zip(before, trainer.rule.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in unchanged)


def test_the_learning_rate_follows_the_milestones_whatever_the_number_of_epochs(dataset):
    plan = plan_run("cfl-conv256", dataset, changed(epochs=10))
    trainer = Trainer(plan)
    rates = []
    for _ in range(10):
        for _ in range(trainer.steps):
            trainer.step()
        rates.append({o.learning_rate for o in trainer.rule.optimizers})
    # Table 5, CIFAR-10: 500 epochs with milestones at 100, 200, 300, 400 and 450.
    halvings = [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]
    assert rates == [{3e-3 * 0.5**n} for n in halvings]


def test_seeds_differ_and_a_seed_repeats(dataset, tmp_path):
    results = []
    for number, seed in enumerate((0, 0, 1)):
        plan = plan_run("cfl-conv256", dataset, changed(seed=seed, epochs=1))
        results.append(train(plan, tmp_path / str(number), Told()).curve[0].losses)
    assert results[0] == results[1] != results[2]


def test_a_folder_of_another_run_is_refused(dataset, tmp_path):
    plan = plan_run("bp-conv256", dataset, changed(epochs=1))
    train(plan, tmp_path, Told())
    other = plan_run("bp-conv256", dataset, changed(epochs=2))
    with pytest.raises(UsageError, match="its epochs is 1, not 2"):
        train(other, tmp_path, Told())


@pytest.mark.parametrize("foreign", ["pictures", "model.safetensors", "config.json pictures"])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(dataset, tmp_path, foreign):
    for name in foreign.split():
        (tmp_path / name).write_text("mine")
    plan = plan_run("bp-conv256", dataset, OPTIONS)
    with pytest.raises(UsageError, match=r"holds other files \(.*\n  try: --out .*/run$"):
        train(plan, tmp_path, Told())
    assert contents(tmp_path) == dict.fromkeys(foreign.split(), b"mine")


def test_a_damaged_checkpoint_is_named(dataset, tmp_path):
    plan = plan_run("bp-conv256", dataset, OPTIONS)
    trainer = Trainer(plan)
    trainer.step()
    claim(tmp_path, plan.config)
    save_checkpoint(tmp_path, trainer)
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelDamagedError, match="the run then starts from its beginning"):
        train(plan, tmp_path, Told())


def test_a_second_process_at_the_same_run_is_refused(dataset, tmp_path):
    plan = plan_run("bp-conv256", dataset, OPTIONS)
    with ModelLock(tmp_path), pytest.raises(ModelLockedError):
        train(plan, tmp_path, Told())


def test_no_validation_images_means_no_best_epoch(dataset, tmp_path):
    plan = plan_run("bp-conv256", dataset, changed(validation=0.0, epochs=1))
    result = train(plan, tmp_path, Told())
    assert plan.config.train_images == 96
    assert result.best_test == {}
    assert not (tmp_path / "best.safetensors").exists()


def test_coarse_embeddings_are_means_and_score_as_they_should(dataset):
    plan = plan_run("cfl-conv256", dataset, OPTIONS)
    trainer = Trainer(plan)
    x = next(trainer.images.plain(trainer.images.x_test))
    coarse = coarse_scores(trainer.rule, x, dataset.coarse_of)
    fine = trainer.rule.scores(x)
    assert list(coarse) == ["layer 1", "layer 2", "sum"]
    for name, scores in coarse.items():  # a dot product with a mean is the mean of dot products
        mean = fine[name].view(-1, 2, 2).mean(dim=2)
        torch.testing.assert_close(scores, mean, rtol=1e-4, atol=1e-5)
    uneven = coarse_scores(trainer.rule, x, torch.tensor([1, 0, 1, 1]))["layer 2"]
    parts = [fine["layer 2"][:, members].mean(dim=1) for members in ([1], [0, 2, 3])]
    torch.testing.assert_close(uneven, torch.stack(parts, dim=1), rtol=1e-4, atol=1e-5)
    bp_plan = plan_run("bp-conv256", dataset, OPTIONS)
    assert coarse_scores(Trainer(bp_plan).rule, x, dataset.coarse_of) == {}


def test_checkpoints_are_written_in_between(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "CHECKPOINT_S", 0.0)
    plan = plan_run("bp-conv256", dataset, OPTIONS)
    found = []
    told = Told()
    told.bar = lambda *_: found.append((tmp_path / CHECKPOINT).exists())
    train(plan, tmp_path, told)
    assert found[0] is False
    assert all(found[1:])


@pytest.mark.parametrize(("save_s", "saves"), [(0.0, 6), (0.33, 2)])
def test_checkpoints_that_take_long_are_written_less_often(
    dataset, tmp_path, monkeypatch, save_s, saves
):
    now, saved = [0.0], []

    def save(out, trainer):
        saved.append(trainer.state.step)
        now[0] += save_s

    def tick(*_):
        now[0] += 1.0  # a step

    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(command, "save_checkpoint", save)
    monkeypatch.setattr(command, "CHECKPOINT_S", 2.0)
    plan = plan_run("bp-conv256", dataset, OPTIONS)
    told = Told()
    told.bar = tick
    train(plan, tmp_path, told)
    assert plan.config.epochs * Trainer(plan).steps == 12
    assert len(saved) == saves  # every 2 steps; or after 2, and 6.6 s later

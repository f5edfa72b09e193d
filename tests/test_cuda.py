"""What a CUDA device computes is what the CPU computes; `make gpu` runs the tests marked `cuda`.

Every comparison also runs of the CPU with itself, so that it works before a GPU is at hand.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import learner_checks
import numpy as np
import pytest
import torch
from command_line import cfl_edge
from rule_checks import batch, fresh
from torch.overrides import TorchFunctionMode

from cfl_edge.core.closed_form import closed_form_step, finish
from cfl_edge.core.layers import normalised_conv, normalised_fc
from cfl_edge.core.local_step import LocalTraining, local_step
from cfl_edge.core.losses import LocalLoss
from cfl_edge.lab.data.dataset import Dataset
from cfl_edge.lab.learners.offered import MEASURED
from cfl_edge.lab.paper.options import TrainOptions
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.recipes import RECIPES
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.paper.training_files import load_checkpoint, save_checkpoint
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.onnx.inference import OnnxModel

ROOT = Path(__file__).parents[1]
CUDA = torch.cuda.is_available()
ON_GPU = [
    pytest.mark.cuda,
    pytest.mark.skipif(not CUDA, reason="torch finds no CUDA device"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]
RULES = (
    "cfl-conv256", "cfl-conv256-b", "cfl-conv256-all-d", "cfl-conv256-cosine", "cfl-conv512",
    "cfl-conv256-usual-feat", "cfl-plus-conv256", "cfl-fc", "cfl-vit", "bp-conv256", "bp-fc",
    "bp-conv256-total", "bp-conv256-every-layer", "fa-conv256", "dfa-conv256", "drtp-fc",
    "drtp-conv", "ff", "symba", "cafo", "pff",
)  # fmt: skip
DRAWN = {torch.randn, torch.rand, torch.randn_like, torch.rand_like, torch.randint_like}


def script(name):
    """Return a module of `.ci/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class DrawnOnTheCpu(TorchFunctionMode):
    """Every random number comes from the CPU's generator: devices differ in theirs."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func not in DRAWN:
            return func(*args, **kwargs)
        device = kwargs.pop("device", None)
        kwargs.pop("generator", None)
        like = [a.cpu() if isinstance(a, torch.Tensor) else a for a in args]
        if isinstance(args[0], torch.Tensor):
            device = args[0].device
        drawn = func(*like, **kwargs)
        return drawn if device is None else drawn.to(device)


@pytest.fixture(autouse=True)
def exact_products():
    """Convolutions and products in float32, not in TF32 with its 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def close(one, other, rtol=2e-3, atol=2e-4):
    torch.testing.assert_close(one.detach().cpu(), other.detach().cpu(), rtol=rtol, atol=atol)


def learned(name, device):
    """Return a rule after two steps of plain gradient descent, and its losses."""
    kind = "cifar10"

    def make(shape, classes):
        return RECIPES[name].build(kind, shape, classes, learning_rate=1e-3)

    rule = fresh(make).to(device)
    for optimizer in rule.optimizers:
        optimizer.name = "sgd"  # Adam divides by gradients that may be rounding errors
    torch.manual_seed(1)
    losses = []
    with DrawnOnTheCpu():
        for seed in range(2):
            x, labels = batch(seed=seed)
            losses.append(rule.learn(x.to(device), labels.to(device)))
    return rule, losses


@pytest.mark.parametrize(
    ("name", "device"),
    [
        *(pytest.param(name, "cuda", marks=ON_GPU) for name in RULES),
        *((name, "cpu") for name in ("cfl-conv256", "bp-conv256-every-layer", "drtp-fc", "ff")),
    ],
)
def test_a_rule_learns_and_scores_as_on_the_cpu(name, device):
    (rule, losses), (expected, wanted) = learned(name, device), learned(name, "cpu")
    for one, other in zip(losses, wanted, strict=True):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-4)
    for (label, value), other in zip(
        rule.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert value.device.type == device, label
        close(value, other)
    x = batch(count=9, seed=7)[0]
    torch.manual_seed(2)
    with DrawnOnTheCpu():
        scores = rule.scores(x.to(device))
    torch.manual_seed(2)
    with DrawnOnTheCpu():
        for label, value in expected.scores(x).items():
            close(scores[label], value, rtol=1e-2, atol=1e-2 * float(value.abs().max()))


def test_every_rule_of_the_recipes_is_compared_and_a_difference_is_found():
    assert {RECIPES[name].rule for name in RULES} == {recipe.rule for recipe in RECIPES.values()}
    (rule, _), (other, _) = learned("cfl-conv256", "cpu"), learned("cfl-conv256", "cpu")
    weight = next(rule.parameters())
    close(weight, next(other.parameters()))
    with pytest.raises(AssertionError):
        close(weight + 1e-2, next(other.parameters()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("kind", ["conv", "fc"])
def test_the_closed_form_step_is_autograd_on_the_cpu(kind, chunk, device):
    loss = LocalLoss(batch_weight=0.5, dict_weight=1.0, feat_weight=0.3, feat_form="no_self")
    found = []
    for where in (device, "cpu"):
        torch.manual_seed(0)
        layer = normalised_conv(4, 8, 2) if kind == "conv" else normalised_fc(4 * 9 * 7, 8)
        x, rows = torch.randn(6, 4, 9, 7), torch.randn(3, 8)
        layer, x, labels = layer.to(where), x.to(where), (torch.arange(6) % 3).to(where)
        rows = rows.to(where).requires_grad_()
        how = LocalTraining(loss, chunk=chunk)
        if where == device:
            values = finish(closed_form_step(layer, x, labels, rows, how))
        else:
            values = local_step(layer, x, labels, rows, how)
        found.append([*values, rows.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*found, strict=True):
        close(one, other, rtol=1e-3, atol=1e-5)


def taught(name, device):
    config = LearnerConfig(
        backbone="none",
        image_px=16,
        replay_mib=0.1,
        statistics_mib=0.25,
        layers="8,16",
        learner=name,
    )
    learner = Learner(config, device)
    learner_checks.teach(learner, steps=6)
    return learner


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MEASURED)
def test_a_learner_predicts_as_on_the_cpu_and_its_export_as_itself(name, device, tmp_path):
    learner, expected = taught(name, device), taught(name, "cpu")
    images = np.concatenate([learner_checks.pictures(learner, kind, 8, 99) for kind in (0, 1)])
    found, wanted = (one.predict(one.encode(images)) for one in (learner, expected))
    assert list(learner.classes) == list(expected.classes)
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2 * np.abs(wanted).max())
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9
    if not MEASURED[name].exports:
        return
    learner.export(tmp_path)
    model = OnnxModel(tmp_path / "model.onnx")
    answers = [model.predict_one(image).label for image in images]
    found = learner.predict(learner.encode(images)).argmax(1)
    names = [learner.classes[i] for i in found]
    assert np.mean([one == other for one, other in zip(answers, names, strict=True)]) > 0.9


def small_set():
    x, labels = batch(count=96)
    x = (60 * x + 100).clamp(0, 255).byte()
    return Dataset("cifar10", x, labels, x[:30], labels[:30], ["a", "b", "c"])


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_resumed_on_a_device_draws_and_learns_as_if_it_had_not_been_interrupted(
    device, tmp_path
):
    options = TrainOptions(epochs=3, batch=32, device=device, validation=0.2)
    plan = plan_run("cfl-conv256", small_set(), options)
    whole = Trainer(plan)
    whole.step()
    save_checkpoint(tmp_path, whole)
    whole.step()
    resumed = Trainer(plan)
    torch.manual_seed(5)
    assert load_checkpoint(tmp_path, resumed)
    resumed.step()
    assert resumed.losses() == pytest.approx(whole.losses(), rel=1e-3)
    pairs = zip(resumed.rule.parameters(), whole.rule.parameters(), strict=True)
    assert all(one.device.type == device for one in resumed.rule.parameters())
    for one, other in pairs:
        close(one, other, rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not CUDA, reason="torch finds no CUDA device")
@pytest.mark.parametrize("recipe", ["cfl-conv512", "bp-conv512"])
def test_a_captured_step_learns_what_a_step_learns(recipe):
    gpu_train = script("gpu_train")
    found = []
    for captured in (False, True):
        trainer = gpu_train.trainer_of(small_set(), recipe, 20, "cuda", captured=captured)
        losses = []
        for _ in range(6):  # three before the capture, three replayed
            trainer.step()
            losses.append(trainer.losses())
        found.append(losses)
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=0.05, abs=0.05)


@pytest.mark.parametrize(("slower", "is_done"), [(1, True), (10, False)])
def test_training_fills_the_time_it_has_and_no_more(monkeypatch, slower, is_done):
    gpu_train, step, now_s = script("gpu_train"), Trainer.step, [0.0]

    def timed(trainer):
        now_s[0] += 0.125 if trainer.config.epochs == gpu_train.MAX_EPOCHS else 0.125 * slower
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", timed)
    monkeypatch.setattr(gpu_train, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    result = gpu_train.train_within(small_set(), "bp-conv256", 11.0, "cpu", captured=False)
    assert result["epochs_planned"] > 1
    assert (result["epochs"] == result["epochs_planned"]) is is_done
    assert len(result["validation_error"]) == result["epochs"] >= 1
    assert result["seconds"] <= 11.0 - gpu_train.RESERVE_S / 2 + 0.125 * slower
    assert 0 <= result["error"]["classifier"] <= 100
    json.dumps(result)


def test_without_a_gpu_each_part_says_what_it_would_run(tmp_path):
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, ".ci/gpu.py", "--dry-run", "--data", "cifar10.npz", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert list(report["parts"]) == ["tests", "bench", "train"]
    for part in report["parts"].values():
        assert part["skipped"] == "dry run"
        for command in part["would_run"]:
            assert f"  {command}" in done.stdout
    (tests,) = report["parts"]["tests"]["would_run"]
    assert "-m cuda tests/test_cuda.py" in tests
    assert sum("--device cuda" in each for each in report["parts"]["bench"]["would_run"]) == 4
    cfl, bp = report["parts"]["train"]["would_run"]
    assert "cfl-conv512" in cfl
    assert "bp-conv512" in bp


def test_the_parts_fit_ten_minutes_and_their_commands_are_understood():
    gpu = script("gpu")
    assert sum(gpu.LIMITS_S.values()) <= 570
    from cfl_edge.lab.bench.options import StepSettings

    for command in gpu.commands("bench", "data.npz"):
        start, words = command[:3], command[3:]
        assert start == [sys.executable, "-m", "cfl_edge"]
        shown = cfl_edge(*words, "--help")
        assert shown.code == 0, shown.err
    settings = StepSettings(
        network="conv512", image_px=32, batch=512, sweep="none", cases=gpu.CASES
    )
    assert [group.cases for group in settings.plan()] == [gpu.CASES.split(",")]
    assert all(name in RECIPES for name in gpu.SYSTEMS)


def test_a_part_that_fails_or_never_ends_is_reported_and_training_is_tried_without_graphs(
    monkeypatch,
):
    gpu = script("gpu")
    code = "import json; print(json.dumps({'a': 1})); print('text'); raise SystemExit(3)"
    found = gpu.run([sys.executable, "-c", code], 30, {})
    assert (found["exit_code"], found["events"], found["output"]) == (3, [{"a": 1}], ["text"])
    sleeps = [sys.executable, "-c", "import time; print('began', flush=True); time.sleep(60)"]
    found = gpu.run(sleeps, 1.0, {})
    assert found["exit_code"] < 0
    assert found["seconds"] < 30
    failing = [sys.executable, "-c", "import sys; raise SystemExit('--eager' not in sys.argv)"]
    monkeypatch.setattr(gpu, "commands", lambda part, data: [[*failing, "60"]])
    runs = gpu.run_part("train", "data.npz", {})
    assert [each["exit_code"] for each in runs] == [1, 0]
    assert runs[1]["command"].endswith("--eager")

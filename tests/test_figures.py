"""Figures of the paper: what is computed, what is written, and the errors."""

import importlib
import io
import sys

import numpy as np
import pytest
import torch
from command_line import assert_error, cfl_edge
from dataset_files import striped
from PIL import Image
from rule_checks import Told

from cfl_edge.core.embeddings import average_pool
from cfl_edge.errors import DataError, ModelDamagedError, UsageError
from cfl_edge.lab.data.dataset import Dataset
from cfl_edge.lab.data.sources import open_dataset
from cfl_edge.lab.paper import draw as command
from cfl_edge.lab.paper.draw import draw_figure
from cfl_edge.lab.paper.figures.attention import attention, attention_maps, choose_images
from cfl_edge.lab.paper.figures.correlation import correlate, points
from cfl_edge.lab.paper.figures.features import layer_features, silhouette, t_sne
from cfl_edge.lab.paper.figures.matrices import class_order, confusion_percent, cosine_similarities
from cfl_edge.lab.paper.options import ReproduceSettings, TrainOptions
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.run import RunConfig, RunResult
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.paper.training_files import append_result, read_results

pytest.importorskip("matplotlib")
BUDGET = {"epochs": 1, "device": "cpu", "validation": 0.2}
OPTIONS = TrainOptions(**BUDGET)
NAMES = ["a$b$", "\x1b[31m", "cat_of_a_very_long_name_indeed", "d"]


def settings(what, out, data=(), **more):
    return ReproduceSettings(what=what, out=out, data=list(data), **BUDGET, **more)


@pytest.fixture
def cifar(tmp_path):
    return striped(tmp_path / "cifar10.npz", classes=4, class_names=NAMES)


def trainer_of(recipe, source):
    dataset = open_dataset(source)
    plan = plan_run(recipe, dataset, OPTIONS)
    return Trainer(plan)


def image_of(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.convert("RGB")


def test_a_map_has_the_dot_product_at_each_position_and_its_mean_is_equation_1():
    h, rows = torch.randn(3, 4, 5, 2), torch.randn(6, 9)
    labels = torch.tensor([[0, 5], [2, 1], [3, 3]])
    maps = attention_maps(h, rows, labels)
    pooled = average_pool(rows, 4)
    for n in range(3):
        for r in range(2):
            for i in range(5):
                for j in range(2):
                    expected = sum(h[n, c, i, j] * pooled[labels[n, r], c] for c in range(4))
                    torch.testing.assert_close(maps[n, r, i, j], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", ["cfl-conv256", "cfl-conv256-cosine", "bp-conv256-every-layer"])
def test_the_mean_of_a_map_is_the_layers_score(cifar, recipe):
    trainer = trainer_of(recipe, cifar)
    trainer.step()
    found = attention(trainer.rule, trainer.images, 5)
    assert [tuple(m.shape[:2]) for m in found.maps] == [(5, 2), (5, 2)]
    x = torch.cat(list(trainer.images.plain(found.images)))
    scores = trainer.rule.scores(x)
    for number, maps in enumerate(found.maps, 1):
        wanted = scores[f"layer {number}"].gather(1, found.labels)
        torch.testing.assert_close(maps.mean(dim=(2, 3)), wanted, rtol=1e-3, atol=1e-4)
    best, second = found.labels.T
    assert torch.equal(best, trainer.rule.predict(x))
    assert (best != second).all()


def test_images_that_were_not_recognised_are_shown_too():
    right = torch.tensor([True, True, False, True, False, False, True, True])
    assert choose_images(right, 6).tolist() == [0, 1, 3, 6, 2, 4]
    assert choose_images(torch.ones(9, dtype=torch.bool), 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert choose_images(torch.zeros(3, dtype=torch.bool), 6).tolist() == [0, 1, 2]
    assert choose_images(right, 1).tolist() == [0]
    assert choose_images(right, 6, 0.0).tolist() == [0, 1, 3, 6, 7]  # not filled up with others
    assert choose_images(right, 2, 1.0).tolist() == [2, 4]


def test_images_of_one_class_or_of_one_outcome_are_shown_alone(cifar):
    trainer = trainer_of("cfl-conv256", cifar)
    trainer.step()
    found = attention(trainer.rule, trainer.images, 5, of_class=2)
    assert found.truth.tolist() == [2] * 5
    right = attention(trainer.rule, trainer.images, 3, share_wrong=0.0)
    assert torch.equal(right.labels[:, 0], right.truth)
    wrong = attention(trainer.rule, trainer.images, 3, share_wrong=1.0)
    assert (wrong.labels[:, 0] != wrong.truth).all()
    trainer.images.x_test = trainer.images.x_test[:1]
    trainer.images.y_test = trainer.rule.predict(next(trainer.images.plain(trainer.images.x_test)))
    with pytest.raises(DataError, match="none of 1 test images was not recognised"):
        attention(trainer.rule, trainer.images, 3, share_wrong=1.0)


def test_matrices_against_loops():
    rows = torch.randn(5, 7, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            wanted = rows[i] @ rows[j] / (rows[i].norm() * rows[j].norm())
            torch.testing.assert_close(cosine_similarities(rows)[i, j], wanted)
    truth, predicted = torch.randint(0, 3, (2, 50))
    found = confusion_percent(truth, predicted, 4)
    for i in range(3):
        of_class = [int(p) for t, p in zip(truth, predicted, strict=True) if t == i]
        for j in range(4):
            assert found[i, j] == pytest.approx(100 * of_class.count(j) / len(of_class))
    assert found[3].tolist() == [0, 0, 0, 0]


def test_features_are_those_that_the_loss_reads(cifar):
    trainer = trainer_of("cfl-conv256", cifar)
    model = trainer.rule.model
    features = layer_features(model, trainer.images, trainer.images.x_test)
    assert [tuple(f.shape) for f in features] == [(40, 64), (40, 256)]
    x = torch.cat(list(trainer.images.plain(trainer.images.x_test)))
    scores = trainer.rule.scores(x)["layer 2"]
    torch.testing.assert_close(features[1] @ model.embeddings.T, scores, rtol=1e-3, atol=1e-4)


def test_silhouette_and_t_sne():
    pytest.importorskip("sklearn")
    labels = torch.arange(40) % 2
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(40, 60)) + 30.0 * labels.numpy()[:, None]
    mixed = rng.normal(size=(40, 60))
    assert silhouette(apart, labels) > 0.8
    assert abs(silhouette(mixed, labels)) < 0.1
    assert silhouette(mixed, torch.zeros(40, dtype=torch.long)) is None
    places = t_sne(apart)
    assert places.shape == (40, 2)
    assert silhouette(places, labels) > 0.5
    assert np.array_equal(places, t_sne(apart))


@pytest.mark.parametrize(
    ("what", "recipe", "images"),
    [
        ("figure2", "cfl-conv256", 3), ("figure3", "cfl-conv256", 3),
        ("figure4", "cfl-conv256", 2), ("figure5", "cfl-conv256", 2),
        ("figure6", "bp-conv256", 30), ("figure7", "cfl-fc", None),
        ("figure10", "cfl-conv256", None),
    ],
)  # fmt: skip
def test_a_figure_is_drawn_and_a_second_call_trains_nothing(
    cifar, tmp_path, what, recipe, images, monkeypatch
):
    pytest.importorskip("sklearn")
    out, told = tmp_path / "out", Told()
    asked = settings(what, out, [cifar], recipe=recipe, images=images)
    path = draw_figure(asked, told)
    assert path == out / "figures" / f"{what}-cifar10-{recipe}.png"
    picture = image_of(path)
    assert 1000 <= picture.width <= 1400
    assert 500 <= picture.height <= 2000
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert len(picture.getcolors(10**6)) > 100
    assert told.steps
    assert len(read_results(out)) == 1
    first, told = path.read_bytes(), Told()
    assert draw_figure(asked, told) == path
    assert told.steps == []
    assert path.read_bytes() == first  # the same images, chosen by a generator of its own
    assert len(read_results(out)) == 1


@pytest.mark.parametrize(
    ("what", "recipe"),
    [("figure8", "cfl-conv512-feat-only"), ("figure9", "cfl-conv512-batch-only")],
)
def test_figures_8_and_9_show_one_loss_alone_unless_told_otherwise(cifar, tmp_path, what, recipe):
    pytest.importorskip("sklearn")
    path = draw_figure(settings(what, tmp_path, [cifar], images=20), Told())
    assert path.name == f"{what}-cifar10-{recipe}.png"
    assert image_of(path).width > 900


def test_ctrl_c_writes_nothing_and_the_same_call_goes_on(cifar, tmp_path):
    asked = settings("figure10", tmp_path, [cifar], recipe="cfl-conv256")
    assert draw_figure(asked, Told(interrupt_after=1)) is None
    assert not (tmp_path / "figures").exists()
    assert draw_figure(asked, Told()).exists()


def run(recipe, coarse, fine, data="cifar100", seed=0):
    config = RunConfig(recipe, data, f"of-{data}", "cifar100", seed, 2, 32, 1e-3, 90, 10, 20)
    zero_shot = {"layer 1": 0.9, "layer 2": coarse} if coarse is not None else {}
    return RunResult(config, 7, {"layer 2": 0.9, "classifier": fine}, {}, {}, zero_shot, [], 1.0)


RUNS = [
    run("cfl-conv256", 0.4, 0.3), run("cfl-conv512-b", 0.5, 0.4), run("cfl-fc", 0.2, 0.1),
    run("bp-conv256", None, 0.5), run("cfl-conv256", 0.9, 0.9, data="pets"),
]  # fmt: skip


def test_correlation_of_the_runs_that_have_coarse_scores():
    found = points(RUNS)
    assert [(p.network, p.zero_shot, p.fine) for p in found] == [
        ("conv256", 40, 30), ("conv512", 50, 40), ("fc", 20, 10),
    ]  # fmt: skip
    x, y = torch.randn(2, 9, dtype=torch.float64)
    line = correlate(x.tolist(), y.tolist())
    r = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
    assert line == pytest.approx((r, *np.polyfit(x.numpy(), y.numpy(), 1)))
    assert correlate([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(DataError, match="figure1 has 1 finished runs"):
        points(RUNS, "of-pets")


def test_figure_1_is_drawn_from_what_is_there(tmp_path):
    with pytest.raises(DataError, match="has 0 finished runs") as caught:
        draw_figure(settings("figure1", tmp_path), Told())
    assert "reproduce table2 --data" in caught.value.hint
    for result in RUNS:
        append_result(tmp_path, result)
    path = draw_figure(settings("figure1", tmp_path), Told())
    assert path.name == "figure1-cifar100.png"
    assert image_of(path).width > 900


def test_names_of_others_are_drawn_as_they_are():
    canvas = importlib.import_module("cfl_edge.lab.canvas")
    for name, shown in (("a$b$", "a$b$"), ("$\\frac$", "$\\frac$"), ("x\x1b", "x\\x1b")):
        figure = canvas.new_figure(2, 2)
        text = figure.text(0, 0, canvas.literal(name))
        assert text._preprocess_math(text.get_text()) == (shown, False)
        Image.open(io.BytesIO(canvas.png(figure))).load()


def test_long_titles_and_long_names_stay_inside_the_image(monkeypatch):
    canvas = importlib.import_module("cfl_edge.lab.canvas")
    features = importlib.import_module("cfl_edge.lab.paper.figures.features")
    drawn = []
    monkeypatch.setattr(canvas, "png", drawn.append)
    panels = [features.Panel(64, np.zeros((40, 2)), 0.1)] * 2
    names = [f"{i:02d}_large_man-made_outdoor_things" for i in range(20)]
    title = "cfl-conv512-no-noise on " + "a_long_name " * 9
    features.features_png(panels, torch.arange(40) % 20, names, title)
    (figure,) = drawn
    figure.draw_without_rendering()
    for part in (figure._suptitle, figure.legends[0]):
        box = part.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_many_classes_are_ordered_and_named_by_their_coarse_ones():
    x, y = torch.zeros(24, 1, 8, 8, dtype=torch.uint8), torch.arange(24)
    names = [f"c{i}" for i in range(24)]
    coarse = torch.arange(24) % 2
    order, shown = class_order(Dataset("d", x, y, x, y, names, coarse, ["even", "odd"]))
    assert order.tolist() == [*range(0, 24, 2), *range(1, 24, 2)]
    assert {i: name for i, name in enumerate(shown) if name} == {6: "even", 18: "odd"}
    order, shown = class_order(Dataset("d", x, y, x, y, names))
    assert order.tolist() == list(range(24))
    assert [name for name in shown if name] == names[::2]


@pytest.mark.parametrize(
    ("what", "change", "problem"),
    [
        ("figure2", {"recipe": "bp-conv256"}, "need label embeddings"),
        ("figure2", {"recipe": "cfl-fc"}, "need layers of convolutions"),
        ("figure2", {"recipe": "cfl-vit"}, "need layers of convolutions"),
        ("figure7", {"images": 7}, "--images is 7, expected 8 or more"),
        ("figure7", {"recipe": "cafo"}, "needs the layers of Table 4, which this recipe does not"),
        ("figure10", {"recipe": "bp-conv256"}, "needs label embeddings"),
        ("figure10", {"recipe": "cfl"}, "--recipe is 'cfl'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(
    cifar, tmp_path, what, change, problem
):
    with pytest.raises(UsageError, match=problem):
        draw_figure(settings(what, tmp_path / "out", [cifar], **change), Told())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("module", "package"), [("matplotlib", "matplotlib"), ("sklearn", "scikit")]
)
def test_a_library_that_is_missing_is_named(cifar, tmp_path, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    result = cfl_edge("reproduce", "figure7", "--data", cifar, "--out", tmp_path / "out")
    assert_error(result, 2, f"figure7 needs {package}")
    assert f"try: {sys.executable} -m pip install {package}" in result.err


def test_damaged_weights_are_named(cifar, tmp_path):
    asked = settings("figure10", tmp_path, [cifar], recipe="cfl-conv256")
    draw_figure(asked, Told())
    (weights,) = tmp_path.glob(f"runs/*/{command.MODEL}")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelDamagedError, match="cannot be read") as caught:
        draw_figure(asked, Told())
    assert f"rm -r {weights.parent}" in caught.value.hint

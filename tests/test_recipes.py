"""Recipes against the paper's Tables 1 and 6: they have the printed number of parameters."""

import importlib
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from cfl_edge.lab.paper.published import TABLES
from cfl_edge.lab.paper.recipes import RECIPES

SHAPES = {
    "mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
}
CELLS = {cell.row: cell for cell in TABLES["table1"] + TABLES["table6"] if cell.parameters}
ROUNDING = 0.006  # of the figures as printed

# How much a cell deviates, and why.
DEVIATIONS = {
    "mnist/ff": (-0.009, "the paper's own FC without its classifier and embeddings"),
    "mnist/cafo": (-0.294, "243K is 10 times the maps of 32 px; 28 px give 17,152 features"),
    "cifar10/cafo": (0.012, "24,576 features times 10; the paper prints 243K"),
    "cifar100/cafo": (0.012, "24,576 features times 100; the paper prints 2.43M"),
    "mnist/pff": (
        -0.337,
        "2 x 2000 units as published; the paper's extra 8M are not accounted for",
    ),
    "cifar10/pff": (-0.246, "as on MNIST: 8M more in the paper, two matrices of 2000 x 2000"),
    "cifar100/pff": (-0.244, "as on MNIST"),
    "mnist/symba": (0.035, "two layers of 500 on an image and a pattern; the paper prints 1M"),
    "mnist/symba-large": (0.013, "three layers of 2000; the paper prints 11M"),
    "cifar10/symba": (0.013, "three layers of 2000; the paper prints 16M"),
    "cifar10/symba-large": (0.016, "three layers of 3072; the paper prints 31M"),
    "cifar100/symba-large": (0.016, "as on CIFAR-10: the patterns are not learned"),
    "cifar100/drtp-conv": (-0.642, "46.42M is no published topology; this is CIFAR-10's"),
    "cifar100/ff": (-0.017, "19.2M holds a classifier of 100 classes, which FF has not"),
    "cifar10/cfl-vit": (-0.008, "embeddings add 2,560; what else the paper's 30K are is not told"),
}


@cache
def counts(recipe, data):
    """Return all numbers that are learned, and those of the classifier f^L."""
    shape, classes = SHAPES[data]
    with torch.device("meta"):  # weights without memory
        rule = RECIPES[recipe].build(data, shape, classes, learning_rate=1e-3)
    classifier = getattr(getattr(rule, "model", None), "classifier", None)
    return rule.parameter_count(), sum(p.numel() for p in classifier.parameters()) if (
        classifier is not None
    ) else 0


@pytest.mark.parametrize("row", CELLS)
def test_parameters_are_the_papers(row):
    cell = CELLS[row]
    count, classifier = counts(cell.recipe, cell.data)
    if cell.readout == "last layer":
        count -= classifier
    printed = float(cell.parameters[:-1]) * {"K": 1e3, "M": 1e6}[cell.parameters[-1]]
    expected, _ = DEVIATIONS.get(row, (0.0, ""))
    assert count / printed - 1 == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", RECIPES)
def test_a_rule_knows_the_options_of_its_recipes(name, kind):
    recipe = RECIPES[name]
    module, _, rule = recipe.rule.partition(":")
    found = getattr(importlib.import_module(f"cfl_edge.lab.rules.{module}"), rule)
    found.Options(learning_rate=1e-3, **recipe.rule_options(kind))


def test_no_deviation_is_named_for_nothing():
    for row, (expected, why) in DEVIATIONS.items():
        assert row in CELLS
        assert abs(expected) > ROUNDING
        assert why


def test_pff_has_the_papers_count_with_the_lateral_weights_that_are_always_0():
    always_0 = 2 * (2000 * 2000 - 200 * 10 * 10)  # two layers; units inhibit within their group
    for data, printed in (("mnist", 23.22e6), ("cifar10", 32.37e6), ("cifar100", 32.73e6)):
        assert counts("pff", data)[0] + always_0 == pytest.approx(printed, rel=2e-4)


def test_where_the_papers_totals_do_not_add_up():
    # 18.93M and 19.21M of the FC nets fit one more LayerNorm of 3072 than Table 4 lists.
    layer_norm = 2 * 3072
    assert round((counts("cfl-fc", "cifar10")[0] + layer_norm) / 1e4) == 1893
    assert round((counts("bp-fc", "cifar100")[0] + layer_norm) / 1e4) == 1921
    # D of the MNIST FC net is 10 x 98 in Table 4, but K = 8 of 1024 units makes 128 channels.
    rule = RECIPES["cfl-fc"].build("mnist", (1, 28, 28), 10, learning_rate=1e-3)
    assert rule.model.rows().shape == (10, 128)


def test_committed_results_are_found_by_the_recipes_that_made_them():
    """`reproduce --out examples/results` runs only what is missing."""
    lines = (Path(__file__).parents[1] / "examples/results/results.jsonl").read_text().splitlines()
    earlier = 0
    for line in lines:
        config = json.loads(line)["config"]
        known, recipe = config["recipe_options"], RECIPES[config["recipe"]]
        # Two recipes have changed since: what they predict by.
        if known.get("closed_form") is True or (known.get("grid") and "classifier" not in known):
            earlier += 1
            continue
        recipe = recipe.changed(config.get("options", {}))
        assert json.loads(json.dumps(recipe.described(config["kind"]))) == known, config["recipe"]
    assert len(lines) > earlier + 70

"""Every option of every recipe says what the paper's row says, and changes what is learned."""

import importlib
from dataclasses import asdict

import pytest
import torch
from rule_checks import batch, everything, fresh, gather

from cfl_edge.lab.paper.recipes import RECIPES, PerKind

NETWORKS = ("fc", "conv256", "conv512")
# Weights of L_batch, L_dict and L_feat (Eq. 10), its form, and what else a row changes.
B, D = (1.0, 0.0, 1.0, "no_self"), (0.0, 1.0, 1.0, "no_self")
USUAL = (0.0, 1.0, 1.0, "usual")
READ_APART = {
    "classifier_starts_at_embeddings": False, "closed_form": "last", "predict": "classifier",
}  # fmt: skip
OF_CFL = {
    "": (D, {}), "-b": (B, {}), "-usual-feat": (USUAL, {}),
    "-fixed-d": (B, {"embeddings": "never"}), "-no-noise": (B, {"noise": False}),
    "-all-d": (B, {"embeddings": "all"}), "-cosine": (B, {"cosine": True}),
    "-batch-only": ((1.0, 0.0, 0.0, None), {}), "-dict-only": ((0.0, 1.0, 0.0, None), {}),
    "-feat-only": ((0.0, 0.0, 1.0, "no_self"), READ_APART),
}  # fmt: skip
GRID = {"grid": 2, "embeddings": "all", "classifier": False}
EXPECTED = {
    **{f"cfl-{n}{name}": how for n in NETWORKS for name, how in OF_CFL.items()},
    **{f"cfl-fc-k{k}": (B, {"positions": k}) for k in (1, 4, 12)},
    **{f"bp-{n}-total": (B, {"supervision": "last layer"}) for n in NETWORKS},
    **{f"bp-{n}-every-layer": (D, {"supervision": "every layer"}) for n in NETWORKS},
    **{
        f"cfl-plus-{n}": ((0.0, 1.0, 0.0, None), GRID | {"closed_form": "all", "sim_weight": 10.0})
        for n in NETWORKS[1:]
    },
    **{f"cfl-{n}-usual-feat-grid": (USUAL, GRID | {"predict": "sum"}) for n in NETWORKS[1:]},
    "cfl-vit": (B, {}),
}
# The rows without the paper's losses: what their sources have, by kind of data where it differs.
OTHERS = {
    **{f"{system}-{n}": {} for system in ("bp", "fa") for n in NETWORKS},
    **{f"dfa-{n}": {"direct": True} for n in NETWORKS},
    "bp-vit": {}, "drtp-conv": {}, "ff": {}, "cafo": {}, "pff": {},
    "drtp-fc": {"architecture": "fc", "hidden": {"mnist": 1000, "cifar10": 1000, "cifar100": 3072}},
    "symba": {"widths": {"mnist": (500,) * 2, "cifar10": (2000,) * 3, "cifar100": (2000,) * 3}},
    "symba-large": {
        "widths": {"mnist": (2000,) * 3, "cifar10": (3072,) * 3, "cifar100": (3072,) * 3}
    },
}  # fmt: skip
# Learning rate, batch and augmentation where they are not Table 5's.
TRAINED = {
    "drtp-fc": (1e-3, 128, "flip"), "drtp-conv": (5e-4, 128, "flip"),
    "ff": (1e-3, 64, "crop-flip"), "cafo": (3e-4, 128, "none"), "pff": (2.5e-4, 128, "crop-flip"),
    "symba": (3e-4, 128, "crop-flip"), "symba-large": (3e-4, 128, "crop-flip"),
    "cfl-vit": (1e-3, 512, "crop-flip"), "bp-vit": (1e-3, 512, "crop-flip"),
}  # fmt: skip


def test_every_recipe_is_named_here():
    assert set(EXPECTED) | set(OTHERS) == set(RECIPES)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_of_cfl_has_the_losses_and_the_change_it_is_named_after(name):
    (batch_weight, dict_weight, feat_weight, form), changes = EXPECTED[name]
    options = RECIPES[name].rule_options("cifar10")
    loss = options.pop("loss")
    assert (loss.batch_weight, loss.dict_weight, loss.feat_weight) == (
        batch_weight,
        dict_weight,
        feat_weight,
    )
    assert form is None or loss.feat_form == form
    assert loss.temperature == 0.07
    in_loss = {key: changes.get(key, asdict(type(loss)())[key]) for key in ("cosine", "sim_weight")}
    assert {key: getattr(loss, key) for key in in_loss} == in_loss
    network = next(n for n in (*NETWORKS, "vit") if n in name)
    assert options.pop("network") == network
    assert options == {key: value for key, value in changes.items() if key not in in_loss}


@pytest.mark.parametrize("kind", ["mnist", "cifar10", "cifar100"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_row_of_another_system_has_its_sources_options(name, kind):
    options = RECIPES[name].rule_options(kind)
    network = options.pop("network", None)
    wanted = {
        key: value[kind] if isinstance(value, dict) else value
        for key, value in OTHERS[name].items()
    }
    assert options == wanted
    if name.endswith("-fc") and network:
        assert network == {"mnist": "fc-mnist", "cifar10": "fc", "cifar100": "fc-cifar100"}[kind]
    elif network:
        assert name.endswith(network)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_trained_as_table_5_or_its_source_says(name):
    recipe = RECIPES[name]
    wanted = TRAINED.get(name, (None, 512, "crop-flip"))
    assert (recipe.learning_rate, recipe.batch, recipe.augmentation) == wanted


def distinct_options():
    """Return a recipe for each rule, option and value that the recipes have."""
    found = {}
    by_size = sorted(RECIPES, key=lambda name: ("conv256" not in name, "fc" in name))
    for name, recipe in ((name, RECIPES[name]) for name in by_size):
        for key, value in recipe.options.items():
            if not isinstance(value, PerKind) or name == "drtp-fc":
                found.setdefault((recipe.rule, key, repr(value)), (name, key))
    return list(found.values())


@pytest.mark.parametrize(("name", "option"), distinct_options())
def test_an_option_changes_what_is_learned_or_what_is_predicted(name, option):
    """Without it, or with the rule's default, the same steps lead elsewhere."""
    recipe = RECIPES[name]
    module, _, rule_name = recipe.rule.partition(":")
    rule = getattr(importlib.import_module(f"cfl_edge.lab.rules.{module}"), rule_name)
    with_it = recipe.rule_options("cifar10")
    without = {key: value for key, value in with_it.items() if key != option}
    if getattr(rule.Options(), option) == with_it[option]:
        return  # named, and the default all the same
    found = []
    for options in (with_it, without):
        made = fresh(lambda shape, classes, o=options: rule(shape, classes, rule.Options(**o)))
        for seed in range(2):
            made.learn(*batch(seed=seed))
        gather(made, [batch(seed=3)])
        scores = made.scores(batch(seed=4)[0])
        found.append((everything(made), list(scores), next(reversed(scores.values()))))
    (one, names, last), (other, other_names, other_last) = found
    shapes_differ = [a.shape for a in one] != [b.shape for b in other]
    assert (
        shapes_differ
        or names != other_names
        or not torch.equal(last, other_last)
        or any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    )

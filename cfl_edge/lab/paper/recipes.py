"""Recipes: which rule learns on which network, and the paper's Tables 4 and 5 for it.

The layers of Table 4 are in `core/networks.py` (`PAPER_CONVS`, `PAPER_FCS`); here is what they are
trained with. Where the paper is silent, the published code of its successor (Dictionary Contrastive
Learning, ICLR 2024) decides: AdamW with a weight decay of 0.01, label embeddings from N(0, 1),
random crops and flips of colour images, each layer's step right after its forward pass.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cfl_edge.core.losses import LocalLoss
from cfl_edge.errors import UsageError
from cfl_edge.lab.paper.run import Augmentation
from cfl_edge.lab.rules.labelled_network import TOTAL_B, TOTAL_D
from cfl_edge.lab.rules.rule import Rule

DECAY = 0.5  # of the learning rate at each milestone (Table 5)
BATCH = 512  # Table 5
STEPS_PER_EPOCH = 97  # of batch 512 on 50,000 images


@dataclass(frozen=True)
class Schedule:
    """A row of Table 5.

    Args:
        epochs: Times through the training images.
        learning_rate: At the recipe's batch.
        milestones: Epochs at which the learning rate is halved.
    """

    epochs: int
    learning_rate: float
    milestones: tuple[int, ...]

    def factor(self, progress: float) -> float:
        """Return what the learning rate is multiplied with.

        Args:
            progress: Share of the run that is done, 0 to 1: a shorter run has the same shape.

        Example:
            >>> TABLE_5["conv", "cifar10"].factor(0.5)
            0.25
        """
        passed = sum(progress >= milestone / self.epochs for milestone in self.milestones)
        return DECAY**passed


TABLE_5 = {
    ("fc", "mnist"): Schedule(150, 5e-4, (50, 100, 125)),
    ("fc", "cifar10"): Schedule(400, 2e-4, (50, 150, 200, 350)),
    ("fc", "cifar100"): Schedule(200, 1e-4, (50, 100, 150)),
    ("conv", "mnist"): Schedule(150, 7.5e-3, (50, 75, 100, 125)),
    ("conv", "cifar10"): Schedule(500, 7.5e-3, (100, 200, 300, 400, 450)),
    ("conv256", "cifar100"): Schedule(400, 7.5e-3, (100, 200, 250, 300, 350)),
    ("conv512", "cifar100"): Schedule(200, 7.5e-3, (50, 75, 100, 125, 150)),
}


@dataclass(frozen=True)
class Recipe:
    """A system and how it is trained.

    Args:
        rule: Module and class within `cfl_edge.lab.rules`.
        network: As `build_network` has it, `fc` standing for the one of the data set; None for a
            rule that brings its own.
        options: Of the rule.
        learning_rate: At `batch`; None for Table 5's.
        batch: Samples in a step.
        augmentation: Of colour images in the method's own paper or code.
    """

    rule: str
    network: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    batch: int = BATCH
    augmentation: Augmentation = "crop-flip"

    def own(self, name: str) -> str | None:
        """Return what an option is here, None where it changes nothing.

        Args:
            name: Of the option, as in `RunConfig`; all but `augmentation`.

        Example:
            >>> [RECIPES[name].own("batch_norm") for name in ("bp-conv256", "bp-fc", "cafo")]
            ['running', None, None]
        """
        network = self.network or ""
        if name == "batch_norm":
            return "running" if network.startswith("conv") else None
        loss = self.options.get("loss")
        if not isinstance(loss, LocalLoss):
            return None
        if name == "batch_loss":
            form = "bounded" if loss.batch_bounded else "printed"
            return form if loss.batch_weight else None
        if name == "feature_loss":
            return loss.feat_form if loss.feat_weight else None
        if name == "fc_loss":
            return "layer-norm" if network == "fc" else None
        has_classifier = self.options.get("classifier", True)
        if not has_classifier or self.options.get("supervision") == "last layer":
            return None
        at_embeddings = self.options.get("classifier_starts_at_embeddings", True)
        return "embeddings" if at_embeddings else "drawn"

    def changed(self, changes: Mapping[str, str]) -> Recipe:
        """Return the recipe with other values of options that `own` knows.

        Args:
            changes: By name, as in `RunConfig`.
        """
        options, network = dict(self.options), self.network
        if "feature_loss" in changes:
            options["loss"] = replace(options["loss"], feat_form=changes["feature_loss"])
        if "batch_loss" in changes:
            bounded = changes["batch_loss"] == "bounded"
            options["loss"] = replace(options["loss"], batch_bounded=bounded)
        if "classifier_start" in changes:
            at_embeddings = changes["classifier_start"] == "embeddings"
            options["classifier_starts_at_embeddings"] = at_embeddings
        if changes.get("fc_loss") == "relu":
            network = "fc-in"
        return replace(self, options=options, network=network)

    def schedule(self, kind: str) -> Schedule:
        """Return the row of Table 5 for a kind of data, the row of `conv` for other networks.

        Args:
            kind: `mnist`, `cifar10` or `cifar100`.
        """
        network = self.network or ""
        for name in ("fc", "conv256", "conv512", "conv"):
            found = TABLE_5.get((name, kind))
            if found is not None and network.startswith(name):
                return found
        return TABLE_5.get(("conv", kind)) or TABLE_5["conv256", kind]

    def build(
        self, kind: str, input_shape: tuple[int, int, int], classes: int, *, learning_rate: float
    ) -> Rule[Any]:
        """Build the system with fresh weights, drawn from torch's global generator.

        Args:
            kind: `mnist`, `cifar10` or `cifar100`: decides which FC of Table 4 is meant.
            input_shape: (C, H, W).
            classes: Z.
            learning_rate: Of the batch that it will see.
        """
        module, _, name = self.rule.partition(":")
        rule: Any = getattr(importlib.import_module(f"cfl_edge.lab.rules.{module}"), name)
        options = rule.Options(learning_rate=learning_rate, **self.rule_options(kind))
        built: Rule[Any] = rule(input_shape, classes, options)
        return built

    def rule_options(self, kind: str) -> dict[str, Any]:
        """Return the options of the rule for a kind of data, the network among them."""
        options = {
            key: value[kind] if isinstance(value, PerKind) else value
            for key, value in self.options.items()
        }
        if self.network is not None:
            name, dash, place = self.network.partition("-")
            options["network"] = (FC_OF.get(kind, "fc") if name == "fc" else name) + dash + place
        return options

    def described(self, kind: str) -> dict[str, Any]:
        """Return the rule and its options as JSON can have them."""
        options = {
            key: asdict(value) if isinstance(value, LocalLoss) else value
            for key, value in self.rule_options(kind).items()
        }
        return {"rule": self.rule, **options}


class PerKind(dict[str, Any]):
    """An option that depends on the kind of data."""


FC_OF = {"mnist": "fc-mnist", "cifar10": "fc", "cifar100": "fc-cifar100"}


def kind_of(channels: int, classes: int) -> str:
    """Say which of the paper's data sets some data is most like: Tables 4 and 5 differ by them.

    Example:
        >>> kind_of(1, 10), kind_of(3, 10), kind_of(3, 100), kind_of(3, 20)
        ('mnist', 'cifar10', 'cifar100', 'cifar100')
    """
    if classes >= 20:
        return "cifar100"
    return "mnist" if channels == 1 else "cifar10"


def batch_for(recipe_batch: int, train_images: int) -> int:
    """Return the batch: the recipe's, or smaller where an epoch would have few steps.

    The paper's epochs have 97 steps; with fewer images the batch shrinks (to a power of two of 32
    at least) to keep about as many.

    Example:
        >>> batch_for(512, 50_000), batch_for(512, 10_000), batch_for(100, 10_000)
        (512, 128, 100)
    """
    fitting: int = 2 ** round(math.log2(max(train_images, 1) / STEPS_PER_EPOCH))
    return min(recipe_batch, max(32, fitting), max(train_images, 1))


def scaled_rate(learning_rate: float, recipe_batch: int, batch: int) -> float:
    """Scale a learning rate with the batch (Goyal et al. 2017; DECISIONS.md, "Small budgets").

    Example:
        >>> scaled_rate(0.01, 512, 128)
        0.0025
    """
    return learning_rate * batch / recipe_batch


CFL = "contrastive_forward:ContrastiveForward"
BP = "backpropagation:Backpropagation"
FA = "feedback_alignment:FeedbackAlignment"
NETWORKS = ("fc", "conv256", "conv512")

# L_feat alone never moves the features towards D (DECISIONS.md, "Initialisation of f^L"): its f^L
# starts elsewhere, and the closed form says what the features hold.
FEAT_ONLY: dict[str, Any] = {
    "loss": replace(TOTAL_B, batch_weight=0.0),
    "classifier_starts_at_embeddings": False,
    "closed_form": "last",
    "predict": "classifier",
}

# What the ablations of Tables 2 and 3 change, starting from L_total-B.
ABLATIONS: dict[str, dict[str, Any]] = {
    "fixed-d": {"embeddings": "never"},
    "no-noise": {"noise": False},
    "batch-only": {"loss": LocalLoss(batch_weight=1.0, dict_weight=0.0, feat_weight=0.0)},
    "dict-only": {"loss": LocalLoss(batch_weight=0.0, dict_weight=1.0, feat_weight=0.0)},
    "feat-only": FEAT_ONLY,
    "cosine": {"loss": replace(TOTAL_B, cosine=True)},
    "all-d": {"embeddings": "all"},
}

# The project's own: what helped in trials on validation images (DECISIONS.md, "CFL plus").
CFL_PLUS: dict[str, Any] = {
    "loss": LocalLoss(dict_weight=1.0, feat_weight=0.0, sim_weight=10.0),
    "grid": 2,
    "embeddings": "all",
    "classifier": False,
    "closed_form": "all",
}

# What conv512 lacks to keep up with BP by Eq. 1 alone; f^L would read the mean of the grid.
USUAL_FEAT_GRID: dict[str, Any] = {
    "loss": replace(TOTAL_D, feat_form="usual"),
    "grid": 2,
    "embeddings": "all",
    "classifier": False,
    "predict": "sum",
}

# Equal widths that come to the counts of Table 1 with the channel of the pattern.
SYMBA_WIDTHS: dict[str, dict[str, Sequence[int]]] = {
    "symba": {"mnist": (500,) * 2, "cifar10": (2000,) * 3, "cifar100": (2000,) * 3},
    "symba-large": {"mnist": (2000,) * 3, "cifar10": (3072,) * 3, "cifar100": (3072,) * 3},
}

# Architectures and learning rates of their sources, named where the rules are.
OTHERS = {
    "drtp-fc": Recipe(
        "drtp:DirectRandomTargetProjection",
        None,
        {"architecture": "fc", "hidden": PerKind(mnist=1000, cifar10=1000, cifar100=3072)},
        1e-3,
        128,
        "flip",
    ),
    "drtp-conv": Recipe("drtp:DirectRandomTargetProjection", None, {}, 5e-4, 128, "flip"),
    "ff": Recipe("forward_forward:ForwardForward", None, {}, 1e-3, 64),
    "cafo": Recipe("cafo:CascadedForward", None, {}, 3e-4, 128, "none"),
    "pff": Recipe("pff:PredictiveForwardForward", None, {}, 2.5e-4, 128),
    **{
        name: Recipe("symba:SymBa", None, {"widths": PerKind(widths)}, 3e-4, 128)
        for name, widths in SYMBA_WIDTHS.items()
    },
}


# What every network is trained with, its name in place of the braces.
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "cfl-{}": (CFL, {"loss": TOTAL_D}),
    "cfl-{}-usual-feat": (CFL, {"loss": replace(TOTAL_D, feat_form="usual")}),
    "cfl-{}-b": (CFL, {"loss": TOTAL_B}),
    **{f"cfl-{{}}-{name}": (CFL, {"loss": TOTAL_B} | own) for name, own in ABLATIONS.items()},
    "bp-{}": (BP, {}),
    "bp-{}-total": (BP, {"supervision": "last layer", "loss": TOTAL_B}),
    "bp-{}-every-layer": (BP, {"supervision": "every layer", "loss": TOTAL_D}),
    "fa-{}": (FA, {}),
    "dfa-{}": (FA, {"direct": True}),
}
RECIPES = {
    name.format(network): Recipe(rule, network, options)
    for network in NETWORKS
    for name, (rule, options) in SYSTEMS.items()
}
for positions in (1, 4, 12):
    options = {"loss": TOTAL_B, "positions": positions}
    RECIPES[f"cfl-fc-k{positions}"] = Recipe(CFL, "fc", options)
for network in ("conv256", "conv512"):
    RECIPES[f"cfl-plus-{network}"] = Recipe(CFL, network, CFL_PLUS)
    RECIPES[f"cfl-{network}-usual-feat-grid"] = Recipe(CFL, network, USUAL_FEAT_GRID)
RECIPES |= OTHERS | {
    "cfl-vit": Recipe(CFL, "vit", {"loss": TOTAL_B}, learning_rate=1e-3),
    "bp-vit": Recipe(BP, "vit", learning_rate=1e-3),
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.3) or sorted(RECIPES)[:3]
        raise UsageError(
            f"--recipe is {name!r}, expected one of {', '.join(RECIPES)}",
            hint=f"--recipe {near[0]}",
        )
    return RECIPES[name]

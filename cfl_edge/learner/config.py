"""What a learner is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import NO_LAYERS
from cfl_edge.defaults import (
    BACKBONE,
    BATCH,
    IMAGE_PX_WITH_BACKBONE,
    IMAGE_PX_WITHOUT_BACKBONE,
    JOURNAL_MIB,
    LAYERS_WITH_BACKBONE,
    LAYERS_WITHOUT_BACKBONE,
    LEARNER,
    LEAST_IMAGE_PX,
    MOST_BATCH,
    MOST_COUNT,
    MOST_IMAGE_PX,
    MOST_MIB,
    MOST_SEED,
    OPTIMIZER,
    REPLAY_MIB,
    STATISTICS_MIB,
)
from cfl_edge.errors import UsageError
from cfl_edge.frame.region import FIT, View
from cfl_edge.learners import declaration

LEARNING_RATES = {"adamw": 1e-3, "momentum": 1e-2, "sgd": 1e-1}  # DECISIONS.md, "Optimizers"


BOUNDS: dict[str, tuple[Any, float, float]] = {  # the kind of a number, the least and the most
    "image_px": (Integral, LEAST_IMAGE_PX, MOST_IMAGE_PX),
    "replay_mib": (Real, 0, MOST_MIB),
    "statistics_mib": (Real, 0, math.inf),
    "journal_mib": (Real, 0, MOST_MIB),
    "batch": (Integral, 1, MOST_BATCH),
    "new_per_step": (Integral, 1, MOST_BATCH),
    "learning_rate": (Real, 0, math.inf),
    "weight_decay": (Real, 0, math.inf),
    "chunk": (Integral, 1, math.inf),
    "refresh_frames": (Integral, 1, MOST_COUNT),
    "seed": (Integral, 0, MOST_SEED),
}


@dataclass(frozen=True)
class LearnerConfig:
    """What a learner is made of.

    Args:
        learner: What learns: `cfl`, or one of the methods that people use instead, see
            `cfl_edge.learners`.
        backbone: See `build_backbone`.
        layers: See `build_network`; None chooses the default for the backbone.
        image_px: Side of the image the backbone reads; None is 96 with a backbone and 32 without.
            More pixels show finer detail and cost time with their square.
        fit: How a frame that is not square becomes so: `pad`, `crop` or `stretch`.
        region: The part of the frame that is looked at, see `cfl_edge.frame.region.parse_region`;
            None is all of it.
        replay_mib: Bytes of the replay memory in MiB. More of it forgets less.
        statistics_mib: Bytes of the covariance of the joint features in MiB, which says how many
            numbers of the backbone are read (`cfl_edge.core.joint`): 2,048 with 8, 1,024 with 2.
        journal_mib: Bytes of the journal in MiB, that `cfl-edge undo` reads; 0
            stores none. More of it reaches back further.
        batch: Samples of a gradient step, new and replayed. More contrast, more time a step.
        new_per_step: New samples that are waited for before a gradient step is taken. Fewer of
            them means more steps a frame.
        optimizer: Of every layer: `adamw`, `momentum` or `sgd`, with 2, 1 or 0 numbers stored
            per weight.
        learning_rate: Of every layer; None chooses the default for the optimizer.
        weight_decay: Of every layer.
        chunk: Samples that pass a layer at a time; None chooses a fast number for each layer. The
            result does not depend on it beyond rounding, the memory does.
        recompute: Keep no features of the whole batch: least memory, half as much time again. For
            layers whose gradient has a closed form.
        loss: The local loss, Eq. 10. Without its feature term: that one overfits the few classes
            that a stream has shown so far (DECISIONS.md, "Loss on streams").
        refresh_frames: Learned frames after which the label embeddings are solved again; a new
            class does so at once.
        seed: Random seed.
    """

    learner: str = LEARNER
    backbone: str = BACKBONE
    layers: str | None = None
    image_px: int | None = None
    fit: str = FIT
    region: str | None = None
    replay_mib: float = REPLAY_MIB
    statistics_mib: float = STATISTICS_MIB
    journal_mib: float = JOURNAL_MIB
    batch: int = BATCH
    new_per_step: int = 4
    optimizer: str = OPTIMIZER
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    chunk: int | None = None
    recompute: bool = False
    loss: LocalLoss = field(default_factory=lambda: LocalLoss(feat_weight=0.0))
    refresh_frames: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without building anything."""
        for name, (kind, least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is None and getattr(LearnerConfig, name) is None:
                continue
            is_kind = isinstance(value, kind) and not isinstance(value, bool)
            if not is_kind or not least <= value <= most or value == math.inf:
                expected = "a whole number" if kind is Integral else "a number"
                bounds = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:,}"
                raise UsageError(
                    f"{name} is {value!r}, expected {expected}, {bounds}",
                    hint=f"LearnerConfig({name}={getattr(LearnerConfig, name)})",
                )
            # Python's own, which JSON knows: numpy's numbers could be learned with, but not saved.
            object.__setattr__(self, name, int(value) if kind is Integral else float(value))
        if not isinstance(self.recompute, bool):
            raise UsageError(
                f"recompute is {self.recompute!r}, expected True or False",
                hint="LearnerConfig(recompute=True)",
            )
        self.view()
        adapts_layers = declaration(self.learner).adapts_layers
        if self.layers == NO_LAYERS and (adapts_layers or self.backbone == "none"):
            reads = (
                "learns in its layers"
                if self.backbone != "none"
                else "reads them without a backbone"
            )
            raise UsageError(
                f"--layers is none, but --learner {self.learner} {reads}",
                hint="leave --layers away",
            )
        if self.optimizer not in LEARNING_RATES:
            raise UsageError(
                f"--optimizer is {self.optimizer!r}, expected {', '.join(LEARNING_RATES)}",
                hint="--optimizer adamw",
            )
        if not 1 <= self.new_per_step <= self.batch:
            raise UsageError(
                f"a step has {self.new_per_step} new of {self.batch} samples, expected 1 to all",
                hint="new_per_step=4, batch=32",
            )

    def view(self) -> View:
        """Return what of a frame the learner looks at."""
        return View.parse(self.fit, self.region)

    def looking(self, fit: str | None, region: str | None) -> LearnerConfig:
        """Return it with another view; None leaves that part of it as it is."""
        return replace(self, fit=fit or self.fit, region=region or self.region)

    def resolved_learning_rate(self) -> float:
        """Return `learning_rate`, or the default for the optimizer."""
        rate = self.learning_rate
        return LEARNING_RATES[self.optimizer] if rate is None else rate

    def resolved_layers(self) -> str:
        """Return `layers`, or the default for the backbone and the algorithm."""
        if self.backbone != "none" and not declaration(self.learner).adapts_layers:
            return NO_LAYERS
        default = LAYERS_WITHOUT_BACKBONE if self.backbone == "none" else LAYERS_WITH_BACKBONE
        return self.layers or default

    def resolved_image_px(self) -> int:
        """Return `image_px`, or the default for the backbone."""
        if self.backbone.startswith("onnx:") and self.image_px is None:
            from cfl_edge.onnx.network_file import side_px

            return side_px(self.backbone)
        without = self.backbone == "none"
        default = IMAGE_PX_WITHOUT_BACKBONE if without else IMAGE_PX_WITH_BACKBONE
        return self.image_px or default

"""The options of `cfl-edge bench streams`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, model_validator

from cfl_edge.config.network import Backbone, ImagePx, Layers, ReplayMib, StatisticsMib
from cfl_edge.config.settings import Device, Option, RealtimeHz, Settings
from cfl_edge.defaults import BACKBONE, REPLAY_MIB, STATISTICS_MIB
from cfl_edge.errors import UsageError
from cfl_edge.lab.bench.options import listed
from cfl_edge.lab.learners.offered import MEASURED, SLOW
from cfl_edge.lab.paper.options import COUNT, SHARE

DEFAULT_HZ = 30.0  # of label delay where no rate is given: what most cameras send

# The one protocol that an option works with.
NEEDS_PROTOCOL = {"epochs": "shuffled", "classes_per_task": "class-incremental"}


class StreamSettings(Settings):
    """Every option of `cfl-edge bench streams`."""

    data: Annotated[
        str, Option("FILE.npz, a folder of images, or mnist, cifar10, …", example="train/")
    ]
    protocol: Annotated[
        Literal["class-incremental", "shuffled", "blocks", "instances", "few"],
        Option("Order in which the images arrive; few: 1, 2, 5, 10, 20 of each class."),
    ] = "class-incremental"
    learners: Annotated[
        str | None,
        Option(
            f"Learners: {', '.join(MEASURED)}.",
            metavar="NAMES",
            default=f"all but {SLOW}, which takes up to a second a frame",
        ),
    ] = None
    train_images: Annotated[
        int | None, COUNT, Option("Images of the stream, balanced over the classes.", default="all")
    ] = None
    test_images: Annotated[
        int | None, COUNT, Option("Images to evaluate on, balanced.", default="all")
    ] = None
    validation: Annotated[
        float,
        SHARE,
        Option(
            "Evaluate on this fraction of the training images instead of the test split.",
            metavar="P",
        ),
    ] = 0.0
    seeds: Annotated[int, COUNT, Option("Runs of each learner.")] = 1
    image: ImagePx = None
    backbone: Backbone = BACKBONE
    layers: Layers = None
    replay_mib: ReplayMib = REPLAY_MIB
    statistics_mib: StatisticsMib = STATISTICS_MIB
    epochs: Annotated[int, COUNT, Option("Passes over a shuffled stream.")] = 1
    classes_per_task: Annotated[
        int, COUNT, Option("Classes that arrive together, class-incremental.")
    ] = 1
    realtime: RealtimeHz = None
    label_delay_s: Annotated[
        NonNegativeFloat,
        Option(
            f"Seconds until a label arrives, at {DEFAULT_HZ:g} or HZ frames per second.",
            metavar="S",
            flags=("--label-delay",),
        ),
    ] = 0.0
    label_noise: Annotated[
        float, SHARE, Option("Fraction of wrong training labels.", metavar="P")
    ] = 0.0
    unknown_classes: Annotated[
        NonNegativeInt,
        Option("Leave the last N classes out of the stream; measure whether they are recognised."),
    ] = 0
    plot: Annotated[
        Path | None, Option("Plot accuracy against frames to this PNG.", metavar="FILE.png")
    ] = None
    device: Device = "auto"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Refuse options that contradict each other, before anything is read."""
        for name, protocol in NEEDS_PROTOCOL.items():
            option, value = f"--{name.replace('_', '-')}", getattr(self, name)
            if value > 1 and self.protocol != protocol:
                raise UsageError(
                    f"{option} is {value} with --protocol {self.protocol}, expected "
                    f"--protocol {protocol}",
                    hint=f"--protocol {protocol}, or omit {option}",
                )
        if self.unknown_classes and self.protocol == "instances":
            raise UsageError(
                f"--unknown-classes is {self.unknown_classes} with --protocol instances, which "
                "holds out objects, not classes",
                hint="--protocol class-incremental, or omit --unknown-classes",
            )
        self.learner_names()
        return self

    def learner_names(self) -> list[str]:
        """Return the learners to run, in the order in which they were given.

        Example:
            >>> "bp-deep" in StreamSettings(data="cifar10").learner_names()
            False
        """
        if self.learners is None:
            return [name for name in MEASURED if name != SLOW]
        return listed("--learners", self.learners, tuple(MEASURED))

    def delay_frames(self) -> int:
        """Return after how many frames a label arrives.

        Example:
            >>> StreamSettings(data="cifar10", label_delay_s=2).delay_frames()
            60
        """
        return round(self.label_delay_s * (self.realtime or DEFAULT_HZ))

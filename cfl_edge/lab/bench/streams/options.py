"""What `cfl-edge bench streams` was asked for, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cfl_edge.errors import UsageError
from cfl_edge.lab.bench.streams.clock import DEFAULT_HZ
from cfl_edge.lab.bench.streams.protocols import PROTOCOLS


@dataclass(frozen=True)
class StreamOptions:
    """What `cfl-edge bench streams` was asked for.

    Args:
        data: A file .npz, a folder or torchvision's name, as `open_dataset` has it.
        protocol: One of PROTOCOLS.
        learners: Names of algorithms, `cfl,slda`; None for all that exist.
        train_images: Images of the stream, balanced over the classes; None for all.
        test_images: Images that learners are evaluated on, balanced; None for all.
        validation: Share of the training images that is evaluated on instead of the test split,
            to choose settings by; 0 for the test split.
        seeds: Runs of each learner, with seeds 0, 1, ...
        image_px: Side of the image the backbone reads; None for the backbone's default.
        backbone: See `build_backbone`; None for the default.
        layers: See `build_network`; None for the default.
        replay_mib: Memory for past samples; None for the default.
        epochs: Passes of a shuffled stream.
        classes_per_task: Of a class-incremental stream.
        realtime_hz: Frames a second of a stream that does not wait; None for one that does.
        label_delay_s: Seconds by which labels come after their frames.
        label_noise: Share of the training labels that is wrong.
        unknown_classes: The last so many classes of the data set are not learned: their test
            images are what learners should not know.
        device: `auto`, `cpu` or `cuda`.
    """

    data: str
    protocol: str = "class-incremental"
    learners: str | None = None
    train_images: int | None = None
    test_images: int | None = None
    validation: float = 0.0
    seeds: int = 1
    image_px: int | None = None
    backbone: str | None = None
    layers: str | None = None
    replay_mib: float | None = None
    epochs: int = 1
    classes_per_task: int = 1
    realtime_hz: float | None = None
    label_delay_s: float = 0.0
    label_noise: float = 0.0
    unknown_classes: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is read."""
        if self.protocol not in PROTOCOLS:
            raise UsageError(
                f"--protocol is {self.protocol!r}, expected {', '.join(PROTOCOLS)}",
                hint=f"--protocol {PROTOCOLS[0]}",
            )
        for option, number in (
            ("--seeds", self.seeds),
            ("--epochs", self.epochs),
            ("--classes-per-task", self.classes_per_task),
        ):
            if number < 1:
                raise UsageError(f"{option} is {number}, expected at least 1", hint=f"{option} 1")
        if self.epochs > 1 and self.protocol != "shuffled":
            raise UsageError(
                f"--epochs is {self.epochs} with --protocol {self.protocol}, which passes once",
                hint="--protocol shuffled, or leave --epochs away",
            )
        if self.classes_per_task > 1 and self.protocol != "class-incremental":
            raise UsageError(
                f"--classes-per-task is {self.classes_per_task} with --protocol {self.protocol}, "
                "which has no tasks",
                hint="--protocol class-incremental, or leave --classes-per-task away",
            )
        if not 0 <= self.validation < 1:
            raise UsageError(
                f"--validation is {self.validation}, expected 0 or more and below 1",
                hint="--validation 0.1",
            )
        if not 0 <= self.label_noise < 1:
            raise UsageError(
                f"--label-noise is {self.label_noise}, expected 0 or more and below 1",
                hint="--label-noise 0.1",
            )
        if self.unknown_classes < 0:
            raise UsageError(
                f"--unknown-classes is {self.unknown_classes}, expected 0 or more",
                hint="--unknown-classes 2",
            )
        if self.unknown_classes and self.protocol == "instances":
            raise UsageError(
                f"--unknown-classes is {self.unknown_classes} with --protocol instances, which "
                "holds objects back, not classes",
                hint="--protocol class-incremental, or leave --unknown-classes away",
            )
        if not 0 <= self.label_delay_s < math.inf:
            raise UsageError(
                f"--label-delay is {self.label_delay_s}, expected seconds, 0 or more",
                hint="--label-delay 2",
            )
        if self.realtime_hz is not None and not 0 < self.realtime_hz < math.inf:
            raise UsageError(
                f"--realtime is {self.realtime_hz}, expected frames a second, above 0",
                hint="--realtime 30",
            )

    def learner_names(self, known: tuple[str, ...]) -> list[str]:
        """Return the learners to run, in the order in which they were given.

        Args:
            known: Names of those that exist.

        Raises:
            UsageError: One does not exist.

        Example:
            >>> StreamOptions("cifar10", learners="slda, cfl").learner_names(("cfl", "slda"))
            ['slda', 'cfl']
        """
        if self.learners is None:
            return list(known)
        names = list(dict.fromkeys(part.strip() for part in self.learners.split(",")))
        for name in names:
            if name not in known:
                raise UsageError(
                    f"--learners has {name!r}, expected {', '.join(known)}",
                    hint=f"--learners {known[0]}",
                )
        return names

    def delay_frames(self) -> int:
        """Return after how many frames a label comes.

        Example:
            >>> StreamOptions("cifar10", label_delay_s=2).delay_frames()
            60
        """
        return round(self.label_delay_s * (self.realtime_hz or DEFAULT_HZ))

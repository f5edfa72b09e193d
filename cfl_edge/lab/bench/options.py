"""The options of `cfl-edge bench memory` and `bench speed`, and what is measured by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from cfl_edge.config.settings import Device, Option, Settings
from cfl_edge.defaults import BACKBONE, OPTIMIZER, OptimizerName
from cfl_edge.errors import UsageError
from cfl_edge.lab.bench.sweeps import CASES, STREAM, STREAM_IMAGE_PX, SWEEPS, Group, Setting, plan
from cfl_edge.lab.machine import cores

MAX_IMAGE_PX = 4096


class StepSettings(Settings):
    """Every option of `cfl-edge bench memory` and `cfl-edge bench speed`."""

    network: Annotated[
        str,
        Option(
            f"Network: 8x64, conv256, conv512, vgg8b, 256,256, stream, {BACKBONE}, …",
            metavar="NAME",
        ),
    ] = "8x64"
    image_px: Annotated[
        int,
        Field(ge=1, le=MAX_IMAGE_PX),
        Option("Side of the image in pixels.", metavar="PX", flags=("--image",)),
    ] = 96
    batch: Annotated[int, Field(ge=1), Option("Samples per step.")] = 16
    chunk: Annotated[
        Literal["auto", "all"] | PositiveInt,
        Option("Samples that pass a CFL layer at a time.", metavar="N|auto|all"),
    ] = "auto"
    threads: Annotated[
        str | None,
        Option("Threads of torch; several to measure with each: 1,2.", default="all cores"),
    ] = None
    cases: Annotated[
        str | None, Option(f"What to measure: {', '.join(CASES)}.", metavar="NAMES", default="all")
    ] = None
    recompute: Annotated[bool, Option("CFL stores no features between its layers.")] = False
    channels_last: Annotated[bool, Option("Memory format of images in all cases.")] = False
    sweep: Annotated[
        Literal["all", "none", "depth", "batch", "image", "network"],
        Option("What else to vary around the network of 8 layers of 64 channels."),
    ] = "all"
    repeats: Annotated[int, Field(ge=1), Option("Times to measure each case.")] = 3
    optimizer: Annotated[OptimizerName, Option("Optimizer of all cases that train.")] = OPTIMIZER
    device: Device = "auto"

    def plan(self) -> list[Group]:
        """Return what is measured.

        Raises:
            UsageError: A list of threads or cases has an entry that makes no sense.

        Example:
            >>> [group.cases for group in StepSettings(cases="bp,cfl", sweep="none").plan()]
            [['cfl', 'bp']]
        """
        threads = [cores()] if self.threads is None else numbers("--threads", self.threads, cores())
        cases = listed("--cases", self.cases, CASES)
        image_px = STREAM_IMAGE_PX if self.network == STREAM else self.image_px
        base = replace(
            Setting(self.network, image_px, self.batch, threads=1, chunk=self.chunk),
            recompute=self.recompute,
            channels_last=self.channels_last,
        )
        return plan(
            base,
            threads=threads,
            cases=[case for case in CASES if case in cases],
            sweeps={"all": SWEEPS, "none": ()}.get(self.sweep, (self.sweep,)),
        )


def numbers(option: str, text: str, example: int, most: int | None = None) -> list[int]:
    """Return the numbers that an option lists, each once.

    Args:
        option: For the error.
        text: Numbers from 1, separated by commas.
        example: What the hint proposes.
        most: The largest that is taken; None for no limit.

    Raises:
        UsageError: One is no number, 0, or too large.

    Example:
        >>> numbers("--threads", "2, 1,2", 2)
        [2, 1]
    """
    found = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= (most or int(part)) for part in found):
        upto = f"from 1{f' to {most}' if most else ''}, or several: 1,{example}"
        raise UsageError(
            f"{option} is {text!r}, expected a number {upto}", hint=f"{option} {example}"
        )
    return list(dict.fromkeys(map(int, found)))


def listed(option: str, names: str | None, known: Sequence[str]) -> list[str]:
    """Return the names that an option lists, each once.

    Args:
        option: For the error.
        names: Separated by commas; None for all that are known.
        known: Those that exist.

    Raises:
        UsageError: One does not exist.

    Example:
        >>> listed("--learners", "slda, cfl", ("cfl", "slda"))
        ['slda', 'cfl']
    """
    if names is None:
        return list(known)
    found = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in found:
        if name not in known:
            raise UsageError(
                f"{option} has {name!r}, expected {', '.join(known)}", hint=f"{option} {known[0]}"
            )
    return found

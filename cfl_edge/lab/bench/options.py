"""What `cfl-edge bench` was asked for, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cfl_edge.errors import UsageError
from cfl_edge.lab.bench.sweeps import CASES, STREAM, STREAM_IMAGE_PX, SWEEPS, Group, Setting, plan
from cfl_edge.lab.machine import cores

MAX_IMAGE_PX = 4096


@dataclass(frozen=True)
class BenchOptions:
    """What `cfl-edge bench` was asked for, as text where the command line has text.

    Args:
        network: What `build_network` knows, or `stream`.
        image_px: Side of the image, pixels.
        batch: N.
        chunk: Samples that pass a layer at a time in the case `cfl`: a number, `auto` or `all`.
        threads: One number or several, `1,2`; None for all cores.
        cases: Names of CASES, `cfl,bp`; None for all.
        recompute: See `Setting`.
        channels_last: See `Setting`.
        sweep: `all`, `none` or one of SWEEPS.
        repeats: Times that each case is measured.
        optimizer: `sgd`, `momentum` or `adamw`.
        device: `auto`, `cpu` or `cuda`.
    """

    network: str = "8x64"
    image_px: int = 96
    batch: int = 16
    chunk: str = "auto"
    threads: str | None = None
    cases: str | None = None
    recompute: bool = False
    channels_last: bool = False
    sweep: str = "all"
    repeats: int = 3
    optimizer: str = "adamw"
    device: str = "auto"


def checked_plan(options: BenchOptions) -> list[Group]:
    """Turn options into what is measured.

    Raises:
        UsageError: A wrong option.
    """
    _check_number("--image", options.image_px, MAX_IMAGE_PX)
    _check_number("--batch", options.batch)
    _check_number("--repeats", options.repeats)
    threads = [
        _number("--threads", text)
        for text in _listed(str(cores()) if options.threads is None else options.threads)
    ]
    chunk: int | str = options.chunk
    if chunk not in ("auto", "all"):
        chunk = _number("--chunk", options.chunk)
    cases = _listed(options.cases) if options.cases is not None else CASES
    for case in cases:
        _check_name("--cases", case, CASES)
    _check_name("--sweep", options.sweep, ("all", "none", *SWEEPS))
    image_px = STREAM_IMAGE_PX if options.network == STREAM else options.image_px
    base = Setting(
        options.network,
        image_px,
        options.batch,
        threads[0],
        chunk,
        recompute=options.recompute,
        channels_last=options.channels_last,
    )
    sweeps = {"all": SWEEPS, "none": ()}.get(options.sweep, (options.sweep,))
    in_order = [case for case in CASES if case in cases]
    return plan(base, threads=threads, cases=in_order, sweeps=sweeps)


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _number(option: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    _check_number(option, number, shown=text)
    return number


def _check_number(
    option: str, number: int, largest: int | None = None, *, shown: str | None = None
) -> None:
    if number < 1 or (largest is not None and number > largest):
        expected = "a whole number from 1" + (f" to {largest}" if largest else "")
        shown = repr(shown) if shown is not None else str(number)
        hint = {"--chunk": "--chunk auto", "--threads": f"--threads {cores()}"}
        raise UsageError(
            f"{option} is {shown}, expected {expected}",
            hint=hint.get(option, f"leave {option} away for its default"),
        )


def _check_name(option: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UsageError(
            f"{option} is {name!r}, expected {', '.join(names)}", hint=f"{option} {names[0]}"
        )

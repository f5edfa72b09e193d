"""What is measured: settings of network, image, batch and threads, and the cases of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cfl_edge.defaults import BACKBONE

CASES = (
    *("inference", "cfl", "cfl-autograd", "bp", "bp-recompute", "bp-checkpoint", "bp-accumulate"),
    "head-only",
)
SWEEP_CASES = ("inference", "cfl", "cfl-autograd", "bp", "bp-recompute")
SWEEPS = ("depth", "batch", "image", "network")
STREAM = "stream"  # the network of `cfl-edge learn`, on stored features of the default backbone
STREAM_IMAGE_PX = 96  # of the backbone; the layers read its features

DEPTHS = (2, 4, 8, 16, 32)
BATCHES = (1, 16, 128, 512)
IMAGES_PX = (32, 96, 224)
NETWORKS = ("conv256", "conv512", "conv256-in", "conv512-in", "vgg8b")  # 32 px
NETWORK_BATCHES = (16, 128)
EQUAL_WIDTH = "8x64"
SMALL_PX = 32
BATCH = 16  # of every sweep that does not vary it
LARGE_BATCH_CHUNK = 8  # larger batches pass in chunks of this size, with recomputed features


@dataclass(frozen=True)
class Quantity:
    """What a benchmark measures.

    Args:
        bench: Name of the command.
        key: Of the figure in JSON.
        ratio_key: Of the figure over that of inference in JSON.
        noun: What it is called.
        title: Of its column, the unit last.
        factor: From the figure to the unit of the column.
    """

    bench: str
    key: str
    ratio_key: str
    noun: str
    title: str
    factor: float

    def text(self, figure: float) -> str:
        """Return a figure without its unit.

        Example:
            >>> MEMORY.text(12_345_678), SPEED.text(1234.5)
            ('12.3', '1234')
        """
        value = self.factor * figure
        return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


MEMORY = Quantity("memory", "peak_bytes", "peak_over_inference", "peak", "peak MB", 1e-6)
SPEED = Quantity("speed", "step_ms", "step_over_inference", "step time", "step ms", 1.0)


@dataclass(frozen=True)
class Setting:
    """One configuration; the cases of a setting are compared with each other.

    Args:
        network: What `build_network` knows, `stream`, or the default backbone, all of whose blocks
            are trained.
        image_px: Side of the image, pixels.
        batch: N.
        threads: Of torch.
        chunk: Samples that pass a layer at a time in the case `cfl`: a number, `auto` or `all`.
        recompute: Whether `cfl` stores no features of the batch between the layers.
        channels_last: Memory layout of the images, for all cases. Inference and backpropagation
            are smaller and faster with it on x86, CFL is not.

    Example:
        >>> Setting("8x64", 96, 16, threads=2).text()
        '8x64, 96 px, batch 16, 2 threads'
    """

    network: str
    image_px: int
    batch: int
    threads: int
    chunk: int | str = "auto"
    recompute: bool = False
    channels_last: bool = False

    def text(self) -> str:
        """Describe it for a person."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        order = ", channels last" * self.channels_last
        return f"{self.network}, {self.image_px} px, batch {self.batch}, {threads}{order}"


@dataclass
class Group:
    """A setting, the tables that show it, and its cases.

    Args:
        setting: The configuration.
        sweeps: `base` or names of SWEEPS.
        cases: In the order of CASES.
        depth: Layers of the network, once it is known.
        chunk: Samples that pass a layer at a time in the case `cfl`, once it is known.
    """

    setting: Setting
    sweeps: list[str]
    cases: list[str]
    depth: int = 0
    chunk: int = 0


def plan(
    base: Setting, *, threads: Iterable[int], cases: Sequence[str], sweeps: Sequence[str]
) -> list[Group]:
    """List what is measured, nothing twice: a setting may belong to several sweeps.

    Args:
        base: The configuration of `--network`, `--image`, `--batch`, `--chunk`.
        threads: Each setting is measured with each of these.
        cases: Of the base; sweeps take those of SWEEP_CASES among them.
        sweeps: Of SWEEPS.

    Example:
        >>> base = Setting("8x64", 96, 16, threads=1)
        >>> groups = plan(base, threads=[1], cases=CASES, sweeps=["depth"])
        >>> [(group.setting.network, group.sweeps, len(group.cases)) for group in groups[:2]]
        [('8x64', ['base', 'depth'], 8), ('2x64', ['depth'], 5)]
    """
    groups: dict[Setting, Group] = {}
    few = [case for case in SWEEP_CASES if case in cases]
    for count in threads:
        of_threads = replace(base, threads=count)
        groups[of_threads] = Group(of_threads, ["base"], list(cases))
        for sweep in sweeps if few else ():
            for setting in _sweep_settings(sweep, of_threads):
                group = groups.setdefault(setting, Group(setting, [], few))
                group.sweeps.append(sweep)
    return list(groups.values())


def _sweep_settings(sweep: str, base: Setting) -> list[Setting]:
    """List the settings of one of SWEEPS; threads, chunk and image of `depth` are the base's."""
    equal = replace(base, network=EQUAL_WIDTH, batch=BATCH, recompute=False)
    if sweep == "depth":
        return [replace(equal, network=f"{depth}x64") for depth in DEPTHS]
    if sweep == "image":
        return [replace(equal, image_px=image_px) for image_px in IMAGES_PX]
    small = replace(equal, image_px=SMALL_PX)
    if sweep == "batch":
        return [
            replace(small, batch=batch)
            if batch <= BATCH
            else replace(small, batch=batch, chunk=LARGE_BATCH_CHUNK, recompute=True)
            for batch in BATCHES
        ]
    return [
        *(replace(small, network=name, batch=n) for name in NETWORKS for n in NETWORK_BATCHES),
        replace(equal, network=STREAM, image_px=STREAM_IMAGE_PX, batch=32),
        replace(equal, network=BACKBONE, image_px=96),
        replace(equal, network="16x64", image_px=96, batch=1),
    ]

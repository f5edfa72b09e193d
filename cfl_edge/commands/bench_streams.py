"""Learners side by side on streams of labelled pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cfl_edge.bench.streams import data as stream_data
from cfl_edge.bench.streams.options import StreamOptions
from cfl_edge.bench.streams.pictures import CACHE_BYTES, Pictures
from cfl_edge.bench.streams.protocols import noisy_labels
from cfl_edge.bench.streams.recall import TestPictures
from cfl_edge.bench.streams.run import StreamRun, Task, run_stream
from cfl_edge.bench.streams.table import markdown, summary_of
from cfl_edge.commands.bench import machine_facts
from cfl_edge.commands.learn import choose_device
from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.core.stems import DEFAULT_STEM, build_stem
from cfl_edge.errors import DataError, UsageError
from cfl_edge.online.heads.contrastive import ContrastiveHead
from cfl_edge.online.interrupts import Interrupts
from cfl_edge.online.learner import Learner
from cfl_edge.online.learner_config import HEADS, LearnerConfig
from cfl_edge.stream.source import Notice, log_notice

STEM_SAMPLES = 20  # pictures whose median is the stem's time


@dataclass
class StreamsReport:
    """What `bench streams` found.

    Args:
        options: What was asked for.
        machine: `cpu, cores, gpu, device, torch, python, system`.
        about: `data, classes, train_images, test_images, evaluated_on, stem, image_px`.
        runs: A learner and seed each; one that was broken off is left out.
        seconds: Of the whole.
        interrupted: Whether Ctrl-C or SIGTERM ended it.
    """

    options: StreamOptions
    machine: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    runs: list[StreamRun] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def summary(self, command: str) -> dict[str, Any]:
        """Return the fields of the last JSON line.

        Args:
            command: The command line.
        """
        options = self.options
        return {
            "bench": "streams",
            **self.machine,
            "protocol": options.protocol,
            **self.about,
            "realtime_hz": options.realtime_hz,
            "label_delay_s": options.label_delay_s,
            "label_noise": options.label_noise,
            "learners": summary_of(self.runs),
            "runs": len(self.runs),
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "command": command,
        }

    def title(self) -> str:
        """Say what was run: protocol, data, numbers of pictures, stem, image, seeds."""
        about, options = self.about, self.options
        parts = [
            f"{options.protocol} on {about['data']}: {about['train_images']:,} pictures of "
            f"{about['classes']} classes, evaluated on {about['test_images']:,} of the "
            f"{about['evaluated_on']}",
            f"stem {about['stem']}, {about['image_px']} px",
            f"{options.seeds} seed{'s' * (options.seeds > 1)}",
        ]
        if options.epochs > 1:
            parts.append(f"{options.epochs} passes")
        if options.classes_per_task > 1:
            parts.append(f"{options.classes_per_task} classes a task")
        if options.realtime_hz is not None:
            parts.append(f"{options.realtime_hz:g} frames a second, waiting for nobody")
        if options.label_delay_s:
            parts.append(f"labels {options.label_delay_s:g} s late")
        if options.label_noise:
            parts.append(f"{options.label_noise:.0%} of the labels wrong")
        return "; ".join(parts)

    def lines(self, command: str) -> list[str]:
        """Return the Markdown.

        Args:
            command: The command line.
        """
        machine = self.machine
        device = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores"
        versions = f"torch {machine['torch']}, Python {machine['python']}"
        head = f"{self.title()}; {device}; {versions}; `{command}`"
        return [head, "", *markdown(self.runs)]


def bench_streams(
    options: StreamOptions,
    *,
    plot: Path | None = None,
    on_run: Callable[[StreamRun], None] = lambda _: None,
    on_frame: Callable[[str, int, int, int], None] = lambda *_: None,
    on_notice: Notice = log_notice,
) -> StreamsReport:
    """Run each learner on the same streams: seed after seed, all learners in turn.

    The stem is frozen and the same for all, so its outputs are computed once and kept as long as
    1 GiB holds them; its time is measured by itself.

    Args:
        options: See `StreamOptions`.
        plot: File to draw accuracy against frames into, PNG.
        on_run: Called with each run once it is done.
        on_frame: Called with learner, seed, frames done and to do.
        on_notice: Told what the user should know.

    Raises:
        UsageError: A wrong option, or not as many pictures.
        DataError: The data cannot be used, or the plot not be written.
    """
    begin = time.monotonic()
    names = options.learner_names(HEADS)
    if plot is not None:
        _check_plot(plot)
    device = choose_device(options.device)
    keep_freed_memory()
    base = _config(options)
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    versions = {"device": device, "gpu": gpu, "torch": torch.__version__}
    report = StreamsReport(options, machine_facts() | versions)
    with Interrupts() as interrupts:
        with interrupts.waiting():
            learners = [_built(name, base, device) for name in names]  # wrong ones fail first
            del learners
            stage = _Stage(options, base, device, on_notice)
            report.about = stage.about
        try:
            for seed in range(options.seeds):
                with interrupts.waiting():
                    task = stage.task(seed)
                for name in names:

                    def tell(done: int, total: int, name: str = name, seed: int = seed) -> None:
                        if interrupts.requested:
                            raise KeyboardInterrupt
                        on_frame(name, seed, done, total)

                    learner = _built(name, replace(base, seed=seed), device)
                    run = run_stream(name, options.protocol, learner, task, on_frame=tell)
                    report.runs.append(run)
                    on_run(run)
        except KeyboardInterrupt:
            report.interrupted = True
    report.seconds = time.monotonic() - begin
    if plot is not None and report.runs:
        _write_plot(report, plot)
    return report


class _Stage:
    """The pictures of all runs, and what the stem makes of them."""

    def __init__(
        self, options: StreamOptions, base: LearnerConfig, device: str, on_notice: Notice
    ) -> None:
        self.options = options
        image_px = base.resolved_image_px()
        self.data = stream_data.read_data(options, image_px, on_notice)
        dataset = self.data.dataset
        stem = build_stem(base.stem).to(device)
        first = stream_data.choose(self.data, options, seed=0)
        train, test = len(first.train), len(first.test)
        kept = CACHE_BYTES * train // (train + test)
        self.train = Pictures(dataset.x_train, stem, image_px, device, cache_bytes=kept)
        self.test = Pictures(dataset.x_test, stem, image_px, device, cache_bytes=CACHE_BYTES - kept)
        self.stem_s = _stem_seconds(stem, self.train, first.train[:STEM_SAMPLES].tolist())
        self.about = {
            "data": stream_data.shown_name(options.data),
            "classes": dataset.classes,
            "train_images": train,
            "test_images": test,
            "evaluated_on": _part(options, first),
            "stem": base.stem,
            "layers": base.resolved_layers(),
            "image_px": image_px,
            "replay_mib": base.replay_mib,
        }

    def task(self, seed: int) -> Task:
        """Return the stream of one seed."""
        options, dataset = self.options, self.data.dataset
        chosen = stream_data.choose(self.data, options, seed)
        labels = dataset.y_train.numpy()[chosen.train]
        test = self.train if chosen.test_is_train else self.test
        y_test = dataset.y_train if chosen.test_is_train else dataset.y_test
        self.train.fill(chosen.train.tolist())
        test.fill(chosen.test.tolist())
        return Task(
            pictures=self.train,
            places=chosen.train,
            labels=labels,
            given=noisy_labels(labels, options.label_noise, classes=dataset.classes, seed=seed),
            order=chosen.order,
            test=TestPictures(test, chosen.test, y_test.numpy()[chosen.test], dataset.classes),
            stem_s=self.stem_s,
            realtime_hz=options.realtime_hz,
            delay_frames=options.delay_frames(),
        )


def _part(options: StreamOptions, chosen: stream_data.SeedData) -> str:
    if options.protocol == "instances":
        return "objects that are not in the stream"
    return "validation part of the training split" if chosen.test_is_train else "test split"


def _config(options: StreamOptions) -> LearnerConfig:
    given: dict[str, Any] = {"layers": options.layers, "image_px": options.image_px}
    if options.replay_mib is not None:
        given["replay_mib"] = options.replay_mib
    return LearnerConfig(stem=options.stem or DEFAULT_STEM, **given)


def _built(name: str, base: LearnerConfig, device: str) -> Learner:
    learner = Learner(replace(base, head=name), device)
    if name != "cfl" and isinstance(learner.head, ContrastiveHead):
        raise UsageError(
            f"--learners has {name!r}, which is not built in yet, expected cfl",
            hint="--learners cfl",
        )
    return learner


def _stem_seconds(stem: torch.nn.Module, pictures: Pictures, places: list[int]) -> float:
    """Return the usual time of the stem for one picture; the first one warms it up."""
    taken = []
    for place in [places[0], *places]:
        images = pictures.images([place])
        begin = time.perf_counter()
        with torch.inference_mode():
            h0, _ = stem(images)
            h0.flatten()[0].item()  # waits for the device
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])


def _check_plot(path: Path) -> None:
    """Refuse before hours of work what would fail after them."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DataError(
            "--plot needs matplotlib, which is not installed", hint="pip install 'cfl-edge[plots]'"
        ) from None
    if not path.resolve().parent.is_dir():
        raise DataError(
            f"{path} cannot be written: there is no folder {path.parent}",
            hint=f"mkdir -p {path.parent}",
        )


def _write_plot(report: StreamsReport, path: Path) -> None:
    from cfl_edge.bench.streams.plot import streams_png

    try:
        path.write_bytes(streams_png(report.runs, report.title()))
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}", hint="--plot FILE.png"
        ) from error

"""Learners side by side on streams of labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.core.device import choose_device
from cfl_edge.defaults import BACKBONE, LEARNERS
from cfl_edge.lab.bench.streams.figures import StreamRun
from cfl_edge.lab.bench.streams.options import StreamOptions
from cfl_edge.lab.bench.streams.run import run_stream
from cfl_edge.lab.bench.streams.stage import Stage
from cfl_edge.lab.bench.streams.table import markdown, summary_of
from cfl_edge.lab.machine import machine_text, system_facts, torch_facts
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.stream.source import Notice, log_notice


@dataclass
class StreamsReport:
    """What `bench streams` found.

    Args:
        options: What was asked for.
        machine: `cpu, cores, gpu, device, torch, python, system`.
        about: `data, classes, train_images, test_images, evaluated_on, backbone, image_px`.
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
        """Say what was run: protocol, data, numbers of images, backbone, image, seeds."""
        about, options = self.about, self.options
        if not about:  # broken off while the data was read
            return f"{options.protocol} on {options.data}"
        parts = [
            f"{options.protocol} on {about['data']}: {about['train_images']:,} images of "
            f"{about['classes']} classes, evaluated on {about['test_images']:,} of the "
            f"{about['evaluated_on']}",
            f"backbone {about['backbone']}, {about['image_px']} px",
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
        if options.unknown_classes:
            parts.append(f"{options.unknown_classes} more classes unknown")
        if options.label_noise:
            parts.append(f"{options.label_noise:.0%} of the labels wrong")
        return "; ".join(parts)

    def lines(self, command: str) -> list[str]:
        """Return the Markdown.

        Args:
            command: The command line.
        """
        head = f"{self.title()}; {machine_text(self.machine)}; `{command}`"
        return [head, "", *markdown(self.runs)]

    def png(self) -> bytes | None:
        """Return accuracy against frames as a PNG; None where no run was completed."""
        from cfl_edge.lab.bench.streams.plot import streams_png

        return streams_png(self.runs, self.title()) if self.runs else None


def bench_streams(
    options: StreamOptions,
    *,
    on_run: Callable[[StreamRun], None] = lambda _: None,
    on_frame: Callable[[str, int, int, int], None] = lambda *_: None,
    on_notice: Notice = log_notice,
) -> StreamsReport:
    """Run each learner on the same streams: seed after seed, all learners in turn.

    The backbone is frozen and the same for all, so its outputs are computed once and kept as long
    as 1 GiB holds them; its time is measured by itself.

    Args:
        options: See `StreamOptions`.
        on_run: Called with each run once it is done.
        on_frame: Called with learner, seed, frames done and to do.
        on_notice: Told what the user should know.

    Raises:
        UsageError: A wrong option, or not as many images.
        DataError: The data cannot be used.
        ModelNotFoundError: The backbone's weights are not installed.
    """
    begin = time.monotonic()
    names = options.learner_names(LEARNERS)
    device = choose_device(options.device)
    keep_freed_memory()
    base = _config(options)
    report = StreamsReport(options, system_facts() | torch_facts(device))
    with Interrupts() as interrupts:
        try:
            with interrupts.waiting():
                for name in names:  # what cannot be built fails before hours of work
                    _built(name, base, device)
                stage = Stage(options, base, device, on_notice)
            report.about = stage.about
            for seed in range(options.seeds):
                with interrupts.waiting():
                    task = stage.task(seed, partial(on_frame, "backbone", seed))
                for name in names:
                    with interrupts.waiting():
                        run = run_stream(
                            name,
                            options.protocol,
                            _built(name, replace(base, seed=seed), device),
                            task,
                            on_frame=partial(on_frame, name, seed),
                        )
                    report.runs.append(run)
                    on_run(run)
        except KeyboardInterrupt:
            report.interrupted = True
    report.seconds = time.monotonic() - begin
    return report


def _config(options: StreamOptions) -> LearnerConfig:
    given: dict[str, Any] = {"layers": options.layers, "image_px": options.image_px}
    if options.replay_mib is not None:
        given["replay_mib"] = options.replay_mib
    return LearnerConfig(backbone=options.backbone or BACKBONE, **given)


def _built(name: str, base: LearnerConfig, device: str) -> Learner:
    return Learner(replace(base, learner=name), device)

"""Learners side by side on streams of labelled images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.core.device import choose_device
from cfl_edge.defaults import BACKBONE, REPLAY_MIB, STATISTICS_MIB
from cfl_edge.lab.bench.report import Report
from cfl_edge.lab.bench.streams.figures import StreamRun
from cfl_edge.lab.bench.streams.options import StreamSettings
from cfl_edge.lab.bench.streams.run import run_stream
from cfl_edge.lab.bench.streams.stage import Stage
from cfl_edge.lab.bench.streams.table import by_learner, markdown, streams_png, summary_of
from cfl_edge.lab.learners.offered import rivals
from cfl_edge.lab.machine import machine_text, system_facts, torch_facts
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.learner import Learner
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter


@dataclass
class StreamsReport(Report):
    """What `bench streams` found.

    Args:
        settings: The options.
        about: `data, classes, train_images, test_images, evaluated_on, backbone, image_px`.
        runs: A learner and seed each; one that was interrupted is left out.
    """

    settings: StreamSettings
    about: dict[str, Any] = field(default_factory=dict)
    runs: list[StreamRun] = field(default_factory=list)

    def done(self) -> str:
        """Say how much was measured."""
        return counted(len(self.runs), "run")

    def found(self) -> dict[str, Any]:
        """Return protocol, data and options, and the figures of each learner over its seeds."""
        settings = self.settings
        return {
            "bench": "streams",
            "protocol": settings.protocol,
            **self.about,
            "realtime_hz": settings.realtime,
            "label_delay_s": settings.label_delay_s,
            "label_noise": settings.label_noise,
            "learners": summary_of(self.runs),
            "runs": len(self.runs),
        }

    def title(self) -> str:
        """Say what was run: protocol, data, numbers of images, backbone, image, seeds."""
        about, settings = self.about, self.settings
        if not about:  # interrupted while the data was read
            return f"{settings.protocol} on {settings.data}"
        seeds = max(len(runs) for runs in by_learner(self.runs).values()) if self.runs else 0
        parts = [
            f"{settings.protocol} on {about['data']}: {about['train_images']:,} images of "
            f"{about['classes']} classes, evaluated on {about['test_images']:,} of the "
            f"{about['evaluated_on']}",
            f"backbone {about['backbone']}, {about['image_px']} px",
            counted(seeds, "seed"),
        ]
        if settings.epochs > 1:
            parts.append(f"{settings.epochs} passes")
        if settings.classes_per_task > 1:
            parts.append(f"{settings.classes_per_task} classes per task")
        if settings.realtime is not None:
            parts.append(f"{settings.realtime:g} frames per second, not waiting for the learner")
        if settings.label_delay_s:
            parts.append(f"labels {settings.label_delay_s:g} s late")
        if settings.unknown_classes:
            parts.append(f"{settings.unknown_classes} more classes unknown")
        if settings.label_noise:
            parts.append(f"{settings.label_noise:.0%} of the labels wrong")
        return "; ".join(parts)

    def lines(self, command: str) -> list[str]:
        """Return the Markdown."""
        head = f"{self.title()}; {machine_text(self.machine)}; `{command}`"
        return [head, "", *markdown(self.runs)]

    def png(self) -> bytes | None:
        """Return accuracy against frames as a PNG; None where no run was completed."""
        return streams_png(self.runs, self.title()) if self.runs else None


def bench_streams(settings: StreamSettings, reporter: Reporter) -> StreamsReport:
    """Run each learner on the same streams: seed after seed, all learners in turn.

    The backbone is frozen and the same for all, so its outputs are computed once and stored if
    1 GiB holds them; its time is measured by itself.

    Args:
        settings: The options.
        reporter: Told of each run once it is done, of the frames in between, and of what is
            unusual about the data.

    Raises:
        UsageError: A wrong option, or fewer images than asked for.
        DataError: The data cannot be used.
        ModelNotFoundError: The backbone's weights are not installed.
    """
    names = settings.learner_names()
    device = choose_device(settings.device)
    keep_freed_memory()
    base = LearnerConfig(
        backbone=settings.backbone or BACKBONE,
        layers=settings.layers,
        image_px=settings.image,
        replay_mib=settings.replay_mib or REPLAY_MIB,
        statistics_mib=settings.statistics_mib or STATISTICS_MIB,
    )
    report = StreamsReport(settings, machine=system_facts() | torch_facts(device))
    with rivals(), report.measuring() as interrupts:
        with interrupts.waiting():
            for name in names:  # what cannot be built fails before hours of work
                _built(name, base, device)
            stage = Stage(settings, base, device, reporter.notice)
        report.about = stage.about
        for seed in range(settings.seeds):
            with interrupts.waiting():
                task = stage.task(seed, partial(reporter.bar, f"backbone  seed {seed}"))
            for name in names:
                with interrupts.waiting():
                    run = run_stream(
                        name,
                        settings.protocol,
                        _built(name, replace(base, seed=seed), device),
                        task,
                        on_frame=partial(reporter.bar, f"{name}  seed {seed}"),
                    )
                report.runs.append(run)
                if not reporter.json:
                    reporter.notice(run.text())
                reporter.event("run", vars(run))
    return report


def _built(name: str, base: LearnerConfig, device: str) -> Learner:
    return Learner(replace(base, learner=name), device)

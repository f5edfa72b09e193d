"""`learn --publish`: what it needs, and what it begins with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cfl_edge.config import LearnSettings
from cfl_edge.errors import ExportError, UsageError
from cfl_edge.onnx.metadata import MODEL_FILE
from cfl_edge.stream.source import Notice

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner
    from cfl_edge.loop.publish import Publisher

ONNX_FOLDER = "onnx"  # within the model folder, where an export may lie


def check_publish(path: Path, memory_mib: float | None) -> None:
    """Refuse what can be refused before anything is loaded.

    Args:
        path: Of `--publish`.
        memory_mib: Of `--memory-mib`.

    Raises:
        UsageError: The path is no file that ends in .onnx, or memory is limited.

    Example:
        >>> check_publish(Path("pets.txt"), None)
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --publish is pets.txt, expected a file that ends in .onnx
          try: --publish pets.onnx
    """
    if path.suffix != ".onnx" or path.is_dir():
        name = path / MODEL_FILE if path.is_dir() else path.with_suffix(".onnx")
        raise UsageError(
            f"--publish is {path}, expected a file that ends in .onnx", hint=f"--publish {name}"
        )
    if memory_mib is not None:
        raise UsageError(
            f"--publish and --memory-mib {memory_mib:g}: a publication holds the model twice, "
            "which the limit does not count",
            hint="leave --memory-mib away, or run cfl-edge export after learning",
        )


def open_publisher(
    learner: Learner, settings: LearnSettings, on_notice: Notice
) -> Publisher | None:
    """Return what publishes a learner; None without `--publish`.

    The network is traced once, unless an earlier file of the same network is there.

    Args:
        learner: What is published.
        settings: Of the command.
        on_notice: Told when it takes long.

    Raises:
        UsageError: The head has no label embeddings.
        ExportError: torch cannot trace the network, or its weights cannot be told apart in a graph.
    """
    path = settings.publish
    if path is None:
        return None
    if learner.algorithm.readout is None:
        raise UsageError(
            f"--publish with --learner {learner.config.learner}, which has no label embeddings to "
            "export",
            hint="learn with --learner cfl or --learner slda into another folder",
        )
    from cfl_edge.learner.export import known_distances
    from cfl_edge.loop.publish import Publisher
    from cfl_edge.loop.publish_base import reuse_base, trace_base

    base = reuse_base(learner, [path, settings.model / ONNX_FOLDER / MODEL_FILE])
    if base is None:
        on_notice("tracing the network for --publish, once; this may take a minute")
        try:
            base = trace_base(learner)
        except ExportError as error:
            raise ExportError(
                f"--publish cannot write --layers {learner.config.resolved_layers()}: "
                f"{error.problem}",
                hint=f"leave --publish away; cfl-edge export {settings.model} -o OUT afterwards",
            ) from error
    return Publisher(
        learner,
        base,
        path,
        on_notice,
        extra=lambda: known_distances(learner),
        every_s=settings.publish_seconds,
    )

"""Other classes for an exported file: the label embeddings and names change, the network stays.

Needs the `onnx` package, not torch, and takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ModelError, ModelNotFoundError, export_command
from cfl_edge.model.replacing import replace_files
from cfl_edge.names import require_names
from cfl_edge.notices import Notice, log_notice
from cfl_edge.onnx.distance import change_distance
from cfl_edge.onnx.errors import damaged
from cfl_edge.onnx.file_checks import require_plain_file
from cfl_edge.onnx.metadata import (
    CLASSIFIER_FILE,
    INT8_FILE,
    KNOWN_DISTANCES,
    LABEL_EMBEDDINGS,
    LABELS_FILE,
    MODEL_FILE,
    NETWORK_DIGEST,
    class_metadata,
    parse_metadata,
)

if TYPE_CHECKING:
    import onnx


def patch_classes(
    target: Path,
    embeddings: npt.NDArray[np.float32],
    classes: Sequence[str],
    *,
    network_digest: str | None = None,
    on_notice: Notice = log_notice,
) -> list[Path]:
    """Give exported files other classes.

    Args:
        target: The folder of an export (its model.onnx, classifier.onnx and labels.txt change), or
            one ONNX file alone.
        embeddings: float32, shape (F, Z); the F features stay those of the exported network.
        classes: Z names, in the order of the columns.
        network_digest: Of the weights that the embeddings belong to; None trusts the caller.
        on_notice: Told where the distance of unknown things had to be removed.

    Returns:
        The files that were replaced.

    Raises:
        ModelNotFoundError: No exported file is there.
        ModelDamagedError: A file was not exported by cfl-edge.
        ModelError: Its network has another number of features, or other weights: the model has
            learned on since the export.
        ModelWriteError: Disk full, no permission. The text says what was replaced, if anything.

    Example:
        ```python
        patch_classes(Path("out"), np.hstack([embeddings, new_row[:, None]]), [*classes, "fox"])
        ```
    """
    matrix = as_embeddings(embeddings, classes)
    folder = target if target.is_dir() else target.parent
    names = (
        [target.name]
        if target != folder
        else [name for name in (MODEL_FILE, INT8_FILE, CLASSIFIER_FILE) if (target / name).exists()]
    )
    if not names:
        raise ModelNotFoundError(
            f"{target} holds no {MODEL_FILE} and no {CLASSIFIER_FILE}", hint=export_command(target)
        )
    contents: dict[str, bytes] = {}
    for name in names:
        model = _load(folder / name)
        if network_digest is not None:
            _require_network(model, network_digest, folder / name)
        if not set_classes(model, matrix, classes, folder / name):
            on_notice(
                f"{folder / name} can no longer report unknown things (--reject): its distance "
                f"was computed for the old classes; {export_command(folder)} restores it"
            )
        contents[name] = model.SerializeToString()
    if target == folder:
        contents[LABELS_FILE] = labels_text(classes)
    return replace_files(folder, contents)


def _require_network(model: onnx.ModelProto, network_digest: str, path: Path) -> None:
    exported = {entry.key: entry.value for entry in model.metadata_props}.get(NETWORK_DIGEST)
    if exported is not None and exported != network_digest:
        raise ModelError(
            f"{path} was exported before the model learned on: the new class table does not fit "
            "its features",
            hint=f"change the classes without --onnx, then {export_command(path)}",
        )


def set_classes(
    model: onnx.ModelProto, embeddings: npt.NDArray[np.float32], classes: Sequence[str], path: Path
) -> bool:
    """Replace matrix, width of the scores and class names in an ONNX model, in place.

    Args:
        model: With an initializer `label_embeddings`, shape (F, Z_old).
        embeddings: float32, shape (F, Z).
        classes: Z names.
        path: Named in errors.

    Returns:
        False where the distance of unknown things had to be removed.

    Raises:
        ModelDamagedError: There is no such initializer.
        ModelError: It has another F.
    """
    from onnx import numpy_helper

    found = [tensor for tensor in model.graph.initializer if tensor.name == LABEL_EMBEDDINGS]
    if not found:
        raise damaged(path, f"has no initializer {LABEL_EMBEDDINGS!r}, expected a file of cfl-edge")
    features, width = embeddings.shape
    if found[0].dims[0] != features:
        raise ModelError(
            f"{path} was exported with {found[0].dims[0]} features, the model now has {features}: "
            "it is another network",
            hint=export_command(path),
        )
    before = numpy_helper.to_array(found[0])
    found[0].CopyFrom(numpy_helper.from_array(embeddings, LABEL_EMBEDDINGS))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = width
    del model.graph.value_info[:]  # an int8 file has the old shapes there; each follows from others
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    fits = change_distance(model, before, embeddings)
    if not fits:
        metadata.pop(KNOWN_DISTANCES, None)
    set_metadata(model, metadata | class_metadata(classes))
    return fits


def set_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Replace all metadata of an ONNX model, in place."""
    from onnx import helper

    del model.metadata_props[:]
    helper.set_model_props(model, metadata)


def as_embeddings(
    embeddings: npt.NDArray[np.float32], classes: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Return the label embeddings as float32 in row order, checked against the names.

    Raises:
        ModelError: There is no class.
        DataError: See `require_names`.
        ValueError: The matrix does not have one column a name, all finite.
    """
    if not classes:
        raise ModelError(
            "the model knows no class yet, expected at least one",
            hint="learn a labelled frame, or add a class",
        )
    require_names(classes)
    matrix = np.ascontiguousarray(embeddings, np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != len(classes) or not np.isfinite(matrix).all():
        raise ValueError(
            f"embeddings have shape {matrix.shape}, expected (F, {len(classes)}), all finite"
        )
    return matrix


def labels_text(classes: Sequence[str]) -> bytes:
    r"""Return labels.txt: one name a line, in the order of the scores.

    Example:
        >>> labels_text(["cat", "dog"])
        b'cat\ndog\n'
    """
    return "".join(f"{name}\n" for name in classes).encode()


def _load(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    require_plain_file(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise damaged(path, "is not an ONNX file", str(error)) from error
    parse_metadata({entry.key: entry.value for entry in model.metadata_props}, path)
    return model

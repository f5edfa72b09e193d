"""A small saved model, and what must be found in it."""

from pathlib import Path

import numpy as np

from cfl_edge.model.store import Store

WORDS = {"classes": ["cat", "Hündin"], "counters": {"frames": 7}}


def groups(value: float) -> dict[str, dict[str, np.ndarray]]:
    return {
        "state": {"rows": np.full((2, 5), value, np.float32), "count": np.array(value)},
        "replay": {"labels": np.arange(9, dtype=np.int64), "images": np.ones((2, 3), np.uint8)},
    }


def save(store: Store, value: float) -> Path:
    return store.save({**WORDS, "value": value}, groups(value))


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_holds(folder: Path, value: float, notices: list[str] | None = None) -> None:
    saved = Store(folder, on_notice=(notices if notices is not None else []).append).load()
    assert saved.manifest["value"] == value
    assert saved.tensors["state"]["rows"].tolist() == np.full((2, 5), value).tolist()
    assert saved.tensors["replay"]["labels"].dtype == np.int64

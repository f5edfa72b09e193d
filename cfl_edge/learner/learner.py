"""The learner of a stream, as a program uses it: one image at a time, saved, loaded and exported.

`predict_one` and `learn_one` take images of any size. What they do in steps and for batches is in
`batch_learner`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, final

from cfl_edge.core.features import Encoded, FrozenNetwork
from cfl_edge.errors import UsageError
from cfl_edge.frame.frame import Shown, cut_frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.learner.batch_learner import BatchLearner, Images
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.notices import log_notice

if TYPE_CHECKING:
    from cfl_edge.model.checkpoint import Saved
    from cfl_edge.onnx.export import Exported

__all__ = ["Encoded", "Images", "Learner", "LearnerConfig"]


@final
class Learner(BatchLearner):
    """Learn classes from labelled images, one after the other.

    Args:
        config: What it is made of; None for `LearnerConfig()`.
        device: Where every tensor lives: "cpu" or "cuda".

    Attributes:
        classes: Class names, in the order of the scores.
        frames_learned: How many images were learned.
        counters: JSON values that are saved with it, such as how many runs have learned.

    Raises:
        UsageError: A backbone or layers that do not exist.
        ModelNotFoundError: The backbone's weights are not installed.

    Example:
        >>> import numpy as np
        >>> learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
        >>> dark, light = np.zeros((20, 30, 3), np.uint8), np.full((20, 30, 3), 255, np.uint8)
        >>> dark[:5], light[:5] = 90, 10
        >>> for image, label in [(dark, "night"), (light, "day")]:
        ...     learner.learn_one(image, label)
        >>> learner.predict_one(light).label
        'day'
    """

    def predict_one(self, image: Shown, *, reject: float | None = None) -> Prediction:
        """Say what is in one image.

        Args:
            image: uint8 RGB, shape (H, W, 3), of any size, or a frame of a stream.
            reject: Answer `unknown` above this novelty, 0 to 1; None always answers with a class.

        Returns:
            The answer; its label is None before any class was learned.
        """
        return self.predict_batch([image], reject=reject)[0]

    def learn_one(self, image: Shown, label: str | None) -> None:
        """Learn one labelled image; a name that was never seen becomes a class.

        Args:
            image: uint8 RGB, shape (H, W, 3), of any size, or a frame of a stream.
            label: Name of its class. None learns nothing: not every frame of a stream has a label.

        Raises:
            DataError: A name that no class can have (`cfl_edge.names.check_name`).
        """
        if label is not None:
            square = cut_frame(image, self.image_px, self.view).square
            self.learn(self.encode(square[None]), [label])

    def save(self, folder: str | Path) -> None:
        """Write it into a model folder, as `cfl-edge learn` does at its end.

        The gradient step that waits for more images is taken first, and statistics follow the
        layers (`recalibrate`). The journal for `cfl-edge undo` is written where there is one; of
        what was loaded from another folder, undo can begin from no state that was saved there.

        Args:
            folder: New, empty or a model folder, whose newest checkpoint it becomes. A warning says
                where others have saved there since this learner was loaded.

        Raises:
            ModelLockedError: Another process uses the folder.
            ModelError: The folder holds something else.
            ModelWriteError: Disk full, no permission. What was saved before is intact.
        """
        from cfl_edge.learner.journalled import in_folder, save_learner
        from cfl_edge.model.lock import ModelLock
        from cfl_edge.model.store import Store
        from cfl_edge.notices import log_notice

        store = Store(Path(folder))
        store.require_usable()
        with ModelLock(store.folder), in_folder(self, store, log_notice):
            self.recalibrate()
            save_learner(store, self)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Learner:
        """Read the newest checkpoint of a model folder.

        Args:
            folder: Of `save` or `cfl-edge learn`.
            device: Where every tensor is to live.

        Raises:
            ModelNotFoundError: There is no model.
            ModelDamagedError: It cannot be read.
        """
        from cfl_edge.learner.journalled import open_journal
        from cfl_edge.model.store import Store

        store = Store(Path(folder))
        saved = store.load()
        learner = cls.from_saved(saved, device=device)
        learner.counters["runs"] += 1
        learner.journal = open_journal(saved, learner, log_notice)
        learner.checkpoint = store.folder.resolve() / f"checkpoint-{max(store.numbers()):06d}"
        return learner

    @classmethod
    def from_saved(
        cls,
        saved: Saved,
        *,
        device: str = "cpu",
        config: LearnerConfig | None = None,
        backbone: FrozenNetwork | None = None,
    ) -> Learner:
        """Build the learner of a checkpoint.

        Args:
            saved: From `Store.load`.
            device: Where every tensor is to live.
            config: `config_of(saved)` with another replay memory or chunk; None for the saved one.
            backbone: Of another learner of it, which is shared; None for its own.

        Raises:
            ModelError: The backbone's weights on this machine are not those it learned with.
            ModelDamagedError: The checkpoint describes no learner of this version.
        """
        from cfl_edge.learner.saved import config_of, restore, weights_of
        from cfl_edge.learner.saved_checks import damaged

        saved_config = config_of(saved)
        try:
            learner = cls(
                config or saved_config, device, weights=weights_of(saved), backbone=backbone
            )
        except UsageError as error:
            if config is not None and config.replay_mib != saved_config.replay_mib:
                raise  # the caller's own number
            raise damaged(error.problem) from error
        except (MemoryError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise damaged(str(error)) from error
        restore(learner, saved)
        return learner

    def export(self, folder: str | Path) -> Exported:
        """Write `model.onnx`, `classifier.onnx` and `labels.txt`, checked against this learner.

        Args:
            folder: Created if need be; files of these names are replaced.

        Raises:
            ExportError: Nothing was learned yet, the algorithm cannot be exported, or ONNX Runtime
                disagrees. No file changed.
        """
        from cfl_edge.learner.export import export_learner

        self.recalibrate()
        return export_learner(self, Path(folder))

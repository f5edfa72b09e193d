"""A video file as a stream of frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import final

from cfl_edge.errors import DataError, StreamFormatError
from cfl_edge.names import check_name
from cfl_edge.stream.files.clip import Clip
from cfl_edge.stream.recorded import Images, Recording, Shot
from cfl_edge.stream.source import Skipped


@final
class Video(Recording):
    """Every frame of a video file, in order.

    The label is the file's name without its ending: `clips/bottle.mp4` shows a bottle. A clip in a
    class's folder is labelled by `Folder` instead. `timestamp_s` is the position in the clip.

    Args:
        path: The file.
        labelled: Whether the name is the label.

    Raises:
        StreamNotFoundError: There is no such file.
        StreamPermissionError: The user may not read it.
        StreamFormatError: It is not a video.
        DataError: The name is the label, and no class can be called so.

    Example:
        >>> Video("lost.mp4")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost.mp4: no such file
          try: ls .
    """

    def __init__(self, path: str, *, labelled: bool = True) -> None:
        self.uri = path
        stem = os.path.splitext(os.path.basename(path))[0]
        clip = Clip(path)  # opened to look at it, and again for each epoch
        self.length, self._description = clip.frames, clip.description()
        clip.close()
        self.label = None
        if labelled:
            self.label = check_name(stem, source=f"{path}: the clip's name", kind=DataError)

    def description(self) -> str:
        """Return size, codec, rate and, where the file tells it, the number of frames."""
        frames = "" if self.length is None else f", {self.length} frames"
        return self._description + frames

    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        """Yield the frames.

        Raises:
            StreamFormatError: Not one can be decoded.
        """
        count = 0
        for image, position_s in Clip(self.uri).read(skip):
            yield Shot(image, position_s, self.label)
            count += 1
        if count == 0:
            raise StreamFormatError(
                f"{self.uri} has no frame that can be decoded",
                hint=f"look at it with: ffprobe {self.uri}",
            )

"""A video file: its frames, and the stream that it is alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from typing import final

import av

from cfl_edge.errors import DataError, StreamError, StreamFormatError, StreamPermissionError, quoted
from cfl_edge.frame.frame import Frame, Image
from cfl_edge.names import check_name
from cfl_edge.notices import counted
from cfl_edge.stream.decode import rgb
from cfl_edge.stream.files.content import other_kind, read_head
from cfl_edge.stream.files.walk import missing_error
from cfl_edge.stream.recorded import Images, Recording
from cfl_edge.stream.source import Skipped


@final
class Clip:
    """An opened video file.

    Args:
        path: The file.

    Raises:
        StreamNotFoundError: There is no such file.
        StreamPermissionError: The user may not read it.
        StreamFormatError: It is not a video, or has only sound.

    Example:
        >>> Clip("lost.mp4")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost.mp4: no such file
          try: ls .
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            _refuse_others(path)
            # "file:", because FFmpeg takes what comes before a colon for a protocol.
            self._container = av.open(f"file:{path}")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _opening_error(path, error) from error
        if not self._container.streams.video:
            self._container.close()
            raise StreamFormatError(
                f"{path} has no images, only sound or text, expected a video",
                hint=f"look at it with: ffprobe {quoted(path)}",
            )
        self._video = self._container.streams.video[0]
        self.frames: int | None = self._video.frames or None
        """How many frames its header promises; None where it does not say."""

    def description(self) -> str:
        """Return size, codec and rate."""
        context = self._video.codec_context
        rate = self._video.average_rate
        at = f" at {float(rate):g} fps" if rate else ""
        return f"{self._path}: {context.width}x{context.height} {context.name}{at}"

    def read(self, on_damage: Callable[[Skipped], None]) -> Iterator[tuple[Image, float]]:
        """Yield each image and its position in seconds, in order; then close the file.

        Args:
            on_damage: Called with each place that could not be decoded.
        """
        count = 0
        position_s = 0.0
        period_s = 1 / float(self._video.average_rate or 25)
        damaged = 0

        def damage(reason: str) -> None:
            nonlocal damaged
            damaged += 1
            on_damage(Skipped(f"{self._path} after {position_s:.2f} s", reason))

        try:
            for frame in self._frames(damage):
                position_s = count * period_s if frame.time is None else frame.time
                count += 1
                yield rgb(frame), position_s
            if self.frames is not None and count + damaged < self.frames:
                damage(f"ends early, with {count} of {counted(self.frames, 'frame')}")
        finally:
            self.close()

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        self._container.close()

    def _frames(self, damage: Callable[[str], None]) -> Iterator[av.VideoFrame]:
        """Yield every frame that decodes; a damaged packet costs only its own frames."""
        packets = self._container.demux(self._video)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                damage(f"cannot be read further: {error.strerror}")
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if packet.size:
                    damage(f"a damaged frame: {error.strerror}")
                continue
            for frame in frames:
                if frame.is_corrupt:
                    damage("a damaged frame: its data are inconsistent")
                else:
                    yield frame


@final
class Video(Recording):
    """Every frame of a video file, in order.

    The label is the file's name without its ending: `clips/bottle.mp4` shows a bottle. A clip in a
    class's folder is labelled by `Folder` instead. `timestamp_s` is the position in the clip.

    Args:
        path: The file.
        labelled: Whether the name is the label.
        is_new: See `cfl_edge.names.check_name`.

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

    def __init__(self, path: str, *, labelled: bool = True, is_new: bool = False) -> None:
        self.uri = path
        stem = os.path.splitext(os.path.basename(path))[0]
        clip = Clip(path)  # opened to look at it, and again for each epoch
        self.length, self._description = clip.frames, clip.description()
        clip.close()
        self.label = None
        if labelled:
            source = f"{path}: the clip's name"
            self.label = check_name(stem, source=source, kind=DataError, is_new=is_new)

    def description(self) -> str:
        """Return size, codec, rate and, where the file tells it, the number of frames."""
        frames = "" if self.length is None else f", {counted(self.length, 'frame')}"
        return self._description + frames

    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        """Yield the frames.

        Raises:
            StreamFormatError: Not one can be decoded.
        """
        count = 0
        for image, position_s in Clip(self.uri).read(skip):
            yield Frame(image, position_s, label=self.label)
            count += 1
        if count == 0:
            raise StreamFormatError(
                f"{self.uri} has no frame that can be decoded",
                hint=f"look at it with: ffprobe {quoted(self.uri)}",
            )


def _refuse_others(path: str) -> None:
    """Refuse what FFmpeg does not know, or reads a part of: an archive, a HEIC image."""
    if not os.path.isfile(path) or (other := other_kind(read_head(path))) is None:
        return
    if path.lower().endswith(".npz"):  # an archive; a data set of `train` and `bench streams`
        raise StreamFormatError(
            f"{path} holds arrays, expected a video, or a folder with one subfolder per class",
            hint=f"cfl-edge bench streams --data {quoted(path)}, which reads it",
        )
    stem = os.path.splitext(path)[0]
    raise StreamFormatError(
        f"{path} is {other.what}",
        hint=other.hint.format(path=shlex.quote(path), stem=shlex.quote(stem)),
    )


def _opening_error(path: str, error: Exception) -> StreamError:
    if isinstance(error, FileNotFoundError):
        return missing_error(path)
    if isinstance(error, PermissionError):
        return StreamPermissionError(
            f"{path} may not be read by this user", hint=f"chmod a+r {quoted(path)}"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return StreamFormatError(
        f"{path} cannot be read as a video or an image: {reason}",
        hint=f"look at it with: ffprobe {quoted(path)} (a recording cut off may have lost its "
        "index)",
    )

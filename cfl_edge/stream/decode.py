"""From the bytes of images, and FFmpeg's frames, to RGB images that share no buffer."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import BinaryIO, cast, final

import av
import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from cfl_edge.frame.frame import Image, Picture
from cfl_edge.frame.region import Reduce, keep_whole
from cfl_edge.stream.finder import ImageFinder

LARGEST_PX = 64_000_000
"""Largest picture that is decoded, as the largest sensors of boards and most phones have. It takes
192 MB as RGB, and two to three times that while it is decoded."""

STRICT = {"err_detect": "crccheck+explode", "max_pixels": str(LARGEST_PX)}
"""Refuses damaged images rather than filling them up with grey or with the image before."""

SPARE_BYTES = 16
"""More than webcams put behind the last block of a JPEG (up to 11 bytes), zeros and ones apart."""

# What cameras, telephones and scanners write, by its content. The usual formats come first: Pillow
# loads its other decoders only where these do not fit.
FORMATS = (
    *("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000", "DIB", "ICO"),
    *("ICNS", "PCX", "PSD", "QOI", "SGI", "SUN"),
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),  # since Pillow 11.3
)

# What Pillow hands to another program or only recognises: PostScript, and clips for FFmpeg.
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

READING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, MemoryError)
"""What Pillow raises for damaged files: its decoders differ."""

START_OF_SCAN, END_OF_JPEG, HUFFMAN_TABLES = b"\xff\xda", b"\xff\xd9", b"\xff\xc4"
NO_CODE = 8 * b"\xff\x00"  # ones, of which no Huffman code consists (ITU-T T.81, C.2)

ORIENTATION = 0x0112  # of EXIF
SHOWN_AS = {  # matrices of `show_as`, by the orientation
    2: (-1, 0, 0, 0, 1),
    3: (-1, 0, 0, 0, -1),
    4: (1, 0, 0, 0, -1),
    5: (0, 1, 0, 1, 0),
    6: (0, 1, 0, -1, 0),
    7: (0, -1, 0, -1, 0),
    8: (0, -1, 0, 1, 0),
}

PACKED_BITS = {"yuyv422": 16, "uyvy422": 16, "rgb24": 24, "bgr24": 24, "gray": 8, "nv12": 8}
"""Bits per pixel in a row, for raw formats whose rows all have the same length."""


def rgb(frame: av.VideoFrame) -> Image:
    """Return a decoded frame as uint8 RGB, shape (H, W, 3), contiguous and writable.

    It is turned and mirrored as its display matrix says: phones write one.

    Example:
        >>> rgb(av.VideoFrame(6, 4, "yuv420p")).shape
        (4, 6, 3)
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return _rgb(frame, struct.unpack("=9i", cast("bytes", matrix)) if matrix else None)


def _rgb(frame: av.VideoFrame, matrix: Sequence[int] | None, *, cut_out: bool = False) -> Image:
    image = cast("Image", frame.to_ndarray(format="rgb24"))
    if cut_out:  # white shows through, as where a file is read
        rgba = frame.to_ndarray(format="rgba").astype(np.uint16)
        alpha = rgba[..., 3:]
        image = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if matrix is not None:
        image = show_as(image, matrix)
    if frame.format.name == "rgb24":
        return np.array(image, np.uint8, order="C")  # the decoder may reuse its buffer
    return np.require(image, np.uint8, ["C", "W"])


def show_as(image: Image, matrix: Sequence[int]) -> Image:
    """Return an image turned by quarters and mirrored as a display matrix says.

    Args:
        image: Shape (H, W, 3).
        matrix: The first five or more of the nine numbers of a track header (ISO 14496-12, 6.2.2),
            by rows: a pixel at (x, y) is shown at (a x + c y, b x + d y), where the rows begin with
            a, b and c, d.

    Example:
        >>> row = np.array([[[1] * 3, [2] * 3]], np.uint8)
        >>> show_as(row, [-1, 0, 0, 0, 1, 0, 0, 0, 1])[0, :, 0].tolist()
        [2, 1]
    """
    a, b, _, c, d = matrix[:5]
    if abs(b) > abs(a):  # rows become columns
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


class ImageError(Exception):
    """An image cannot be read; the text is the reason, without the image's name."""


class NotAnImageError(ImageError):
    """It is no image, whatever its name says."""


@contextmanager
def open_image(source: str | os.PathLike[str] | BinaryIO) -> Iterator[Pillow.Image]:
    """Open an image of any kind that Pillow reads; its pixels are decoded when they are used.

    Args:
        source: A path, or an opened file.

    Raises:
        NotAnImageError: It is no image.
        ImageError: It is gone, damaged, or larger than `LARGEST_PX` by its header; also for what
            fails in the block.

    Example:
        >>> with open_image("lost.png"):
        ...     pass
        Traceback (most recent call last):
        ...
        cfl_edge.stream.decode.ImageError: No such file or directory
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata harm no pixels
            with Pillow.open(source, formats=_formats(source)) as image:
                if image.width * image.height > LARGEST_PX:
                    raise ImageError(
                        f"{image.width} x {image.height} pixels, expected at most "
                        f"{LARGEST_PX // 10**6} million"
                    )
                yield image
    except Pillow.DecompressionBombError as error:
        raise ImageError(
            f"too large, expected at most {LARGEST_PX // 10**6} million pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise NotAnImageError("not an image that Pillow can read") from error
    except READING_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(reason or str(error) or type(error).__name__) from error


def _formats(source: str | os.PathLike[str] | BinaryIO) -> tuple[str, ...]:
    """Return the formats to try: of a path, the one that its ending names, too.

    It may have no mark of its own (TGA): other files would be taken for it.
    """
    if not isinstance(source, str | os.PathLike):
        return FORMATS
    ending = os.path.splitext(source)[1].lower()
    named = Pillow.EXTENSION.get(ending) or Pillow.registered_extensions().get(ending)
    if named in FORMATS or named in NOT_DECODED or named not in Pillow.OPEN:
        return FORMATS
    return (*FORMATS, named)


def orientation(image: Pillow.Image) -> int:
    """Return how an image is to be turned by its EXIF, 1 to 8; 1 where it does not say."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (*READING_ERRORS, TypeError):  # odd metadata harm no pixels
        return 1


def decode_image(data: bytes) -> Image:
    """Return a JPEG or PNG as uint8 RGB, shape (H, W, 3), if nothing of it is missing.

    Its decoder has to find every block, and a JPEG's end must follow the last of them: of two
    images that a camera or a line ran together, data remain, or are missing.

    Args:
        data: The image; what follows its end is ignored.

    Raises:
        ImageError: It has no end, is damaged, or is larger than `LARGEST_PX`.
    """
    return decode_picture(data, keep_whole).image


def decode_picture(data: bytes, reduce: Reduce) -> Picture:
    """Decode as `decode_image` does; a JPEG is shrunk as far as `reduce` says.

    Not one of several scans, which FFmpeg does not shrink.
    """
    whole = next((image for image in ImageFinder().feed(data) if image), None)
    if whole is None:
        raise ImageError("cut off, or neither JPEG nor PNG")
    with open_image(io.BytesIO(whole)) as header:
        is_jpeg, one_scan = header.format != "PNG", "progressive" not in header.info
        is_plain = is_jpeg and one_scan and header.mode in ("RGB", "L")
        cut_out = header.has_transparency_data
        matrix = SHOWN_AS.get(orientation(header))
        full_px, by = header.size if matrix is None or matrix[0] else header.size[::-1], 1
        if is_jpeg and one_scan:
            by = reduce(full_px)
    codec = "mjpeg" if is_jpeg else "png"
    lowres = {"lowres": str(by.bit_length() - 1)} if by > 1 else {}
    frame = _decode_strictly(codec, whole, **lowres)
    if frame is None or (is_jpeg and START_OF_SCAN not in whole):  # FFmpeg takes a mere header
        raise ImageError("damaged")
    if is_jpeg and one_scan and _has_spare_data(whole):
        raise ImageError("damaged: data remain behind its last block")
    # PyAV does not know all that FFmpeg says of an image with EXIF, and then tells nothing of it.
    shown_alike = whole if is_plain and matrix is None else None
    image = _rgb(frame, matrix, cut_out=cut_out)
    return Picture(image, full_px if by > 1 else None, shown_alike and with_tables(shown_alike))


def with_tables(jpeg: bytes) -> bytes:
    """Return a JPEG of one scan with Huffman tables, which many cameras leave out of motion JPEG.

    FFmpeg takes the usual ones then (ITU-T T.81, K.3), not every browser does.
    """
    scan = jpeg.rindex(START_OF_SCAN)
    if HUFFMAN_TABLES in jpeg[:scan]:
        return jpeg
    usual = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(usual, "JPEG")
    header = usual.getvalue()
    tables = header[header.index(HUFFMAN_TABLES) : header.rindex(START_OF_SCAN)]
    return jpeg[:scan] + tables + jpeg[scan:]


def _has_spare_data(jpeg: bytes) -> bool:
    """Whether a JPEG of one scan is decoded without the last of its data as well."""
    data = jpeg.removesuffix(END_OF_JPEG).rstrip(NO_CODE)[:-SPARE_BYTES]  # without the padding
    if len(data) - jpeg.rindex(START_OF_SCAN) < SPARE_BYTES:  # its header is as long
        return False
    return _decode_strictly("mjpeg", data, lowres="3") is not None


def _decode_strictly(codec: str, data: bytes, **options: str) -> av.VideoFrame | None:
    if codec == "mjpeg":  # FFmpeg would take zeros for bits that are missing, and find flat blocks
        data = data.removesuffix(END_OF_JPEG) + NO_CODE + END_OF_JPEG
    return _decode_one(_decoder(codec, **STRICT, **options), data)


def _decoder(codec: str, **options: str) -> av.VideoCodecContext:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.options, context.thread_count = options, 1  # frame threads would hold images back
    return context


def _decode_one(context: av.VideoCodecContext, data: bytes) -> av.VideoFrame | None:
    """Return the one image of a packet, or None if it is damaged."""
    try:
        frames = context.decode(av.Packet(data))
    except av.FFmpegError:  # not an image: a line fault, a truncated JPEG
        return None
    return frames[0] if len(frames) == 1 and not frames[0].is_corrupt else None


@final
class RawDecoder:
    r"""Decodes the raw images of a camera or a board, at any time and in any thread.

    It shares nothing with the device: a camera can be closed, and its buffers unmapped, while a
    copy of its last packet is still waiting to be decoded in another thread.

    Args:
        size_px: Width and height.
        pixel_format: FFmpeg's name of the pixel format.

    Example:
        >>> RawDecoder((2, 1), "gray")(b"\x00\x80").tolist()
        [[[0, 0, 0], [128, 128, 128]]]
    """

    def __init__(self, size_px: tuple[int, int], pixel_format: str) -> None:
        context = _decoder("rawvideo")
        context.width, context.height = size_px
        context.pix_fmt = pixel_format
        self._context = context
        bits = PACKED_BITS.get(pixel_format)
        self.row_bytes = None if bits is None else size_px[0] * bits // 8
        """Bytes per row, where all rows have the same length."""

    def __call__(self, data: bytes) -> Image:
        """Return the image.

        Raises:
            ImageError: It has fewer bytes than its size takes.
        """
        frame = _decode_one(self._context, data)
        if frame is None:
            raise ImageError(f"{len(data)} bytes are not an image of its size")
        return rgb(frame)

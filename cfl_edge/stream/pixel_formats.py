"""Pixel formats of cameras: what V4L2 and FFmpeg call them."""

from __future__ import annotations

FORMATS = {
    "YUYV": "yuyv422",
    "MJPG": "mjpeg",
    "JPEG": "mjpeg",
    "UYVY": "uyvy422",
    "NV12": "nv12",
    "YU12": "yuv420p",
    "RGB3": "rgb24",
    "BGR3": "bgr24",
    "GREY": "gray",
}
"""V4L2's formats that a stream can read, by preference, and FFmpeg's name for each.

Only formats in which every image stands alone: the reader drops frames undecoded.
"""

PIXEL_FORMATS = {name: name for name in FORMATS.values()} | {
    name.lower(): ffmpeg for name, ffmpeg in FORMATS.items()
}
"""What `format=` takes, FFmpeg's name or V4L2's, and FFmpeg's name for it."""

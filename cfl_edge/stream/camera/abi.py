"""The part of the kernel's video interface that cameras need (linux/videodev2.h).

Layouts follow from the C declarations, for 64-bit and 32-bit machines; the tests hold their sizes
against the kernel's.
"""

from __future__ import annotations

import ctypes
from ctypes import c_long, c_uint8, c_uint32, c_ulong, c_void_p

VIDEO_CAPTURE = 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE."""

MEMORY_MMAP = 1

CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_STREAMING = 0x0400_0000
CAP_TIMEPERFRAME = 0x1000
"""Flag of `StreamParm`: the frame rate can be set."""

FIELD_ANY = 0

BUF_FLAG_ERROR = 0x0040
BUF_FLAG_TIMESTAMP_MASK = 0xE000
BUF_FLAG_TIMESTAMP_MONOTONIC = 0x2000


class Capability(ctypes.Structure):
    """struct v4l2_capability."""

    _fields_ = (
        ("driver", c_uint8 * 16),
        ("card", c_uint8 * 32),
        ("bus_info", c_uint8 * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """struct v4l2_fmtdesc."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_uint8 * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class PixFormat(ctypes.Structure):
    """struct v4l2_pix_format."""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    )


class _FormatUnion(ctypes.Union):
    _fields_ = (("pix", PixFormat), ("raw", c_uint8 * 200), ("pointer", c_void_p))


class Format(ctypes.Structure):
    """struct v4l2_format; other members of its union hold pointers, hence its alignment."""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class Fraction(ctypes.Structure):
    """struct v4l2_fract."""

    _fields_ = (("numerator", c_uint32), ("denominator", c_uint32))


class CaptureParm(ctypes.Structure):
    """struct v4l2_captureparm."""

    _fields_ = (
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    )


class _ParmUnion(ctypes.Union):
    _fields_ = (("capture", CaptureParm), ("raw", c_uint8 * 200))


class StreamParm(ctypes.Structure):
    """struct v4l2_streamparm."""

    _fields_ = (("type", c_uint32), ("parm", _ParmUnion))


class RequestBuffers(ctypes.Structure):
    """struct v4l2_requestbuffers."""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )


class _BufferUnion(ctypes.Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong), ("planes", c_void_p))


class Buffer(ctypes.Structure):
    """struct v4l2_buffer."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("seconds", c_long),
        ("microseconds", c_long),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferUnion),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_uint32),
    )


_WRITE, _READ = 1, 2


def _ioc(direction: int, number: int, size: int) -> int:
    """_IOC of asm-generic/ioctl.h, type 'V'."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


QUERYCAP = _ioc(_READ, 0, ctypes.sizeof(Capability))
ENUM_FMT = _ioc(_READ | _WRITE, 2, ctypes.sizeof(FormatDescription))
G_FMT = _ioc(_READ | _WRITE, 4, ctypes.sizeof(Format))
S_FMT = _ioc(_READ | _WRITE, 5, ctypes.sizeof(Format))
REQBUFS = _ioc(_READ | _WRITE, 8, ctypes.sizeof(RequestBuffers))
QUERYBUF = _ioc(_READ | _WRITE, 9, ctypes.sizeof(Buffer))
QBUF = _ioc(_READ | _WRITE, 15, ctypes.sizeof(Buffer))
DQBUF = _ioc(_READ | _WRITE, 17, ctypes.sizeof(Buffer))
STREAMON = _ioc(_WRITE, 18, ctypes.sizeof(ctypes.c_int))
G_PARM = _ioc(_READ | _WRITE, 21, ctypes.sizeof(StreamParm))
S_PARM = _ioc(_READ | _WRITE, 22, ctypes.sizeof(StreamParm))


def fourcc(name: str) -> int:
    """Return a pixel format's number.

    Example:
        >>> hex(fourcc("YUYV")), fourcc_name(fourcc("YUYV"))
        ('0x56595559', 'YUYV')
    """
    return int.from_bytes(name.encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """Return a pixel format's four letters; the top bit marks big-endian."""
    letters = (number & 0x7FFF_FFFF).to_bytes(4, "little").decode("ascii", "replace").strip()
    return letters + "-BE" if number >> 31 else letters

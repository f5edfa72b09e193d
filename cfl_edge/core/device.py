"""Where tensors live: `--device auto|cpu|cuda`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cfl_edge.errors import UsageError

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> str:
    """Return "cpu" or "cuda" for `--device auto|cpu|cuda`.

    Raises:
        UsageError: CUDA was asked for, and torch has none.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError(
            f"--device is cuda, but torch {torch.__version__} finds no CUDA device",
            hint="--device cpu, or nvidia-smi to see whether the driver runs",
        )
    if device == "auto":
        return "cuda" if available else "cpu"
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether products in bfloat16 are native, and so twice as fast as in float32.

    A CPU with AVX-512 BF16, as every one with AMX is. Elsewhere torch emulates them, slowly; an
    older torch does not tell.
    """
    import torch

    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16"))

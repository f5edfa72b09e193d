"""Random shifts and mirror images of whole batches, and the scaling of bytes to numbers.

All of it works on uint8 batches, so that a data set stays in memory as it is and only the batch at
hand becomes floating point.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING_PX = 4  # He et al. (2016), section 4.2; the usual choice for CIFAR

CHUNK = 1024  # images that are counted together; a copy of them is made


class Offsets(NamedTuple):
    """Where each image of a batch is cut out, and whether it is mirrored.

    Args:
        top: Row of the padded image that becomes row 0, int64 (N,), 0 to 2 * padding.
        left: Column of the padded image that becomes column 0, int64 (N,), 0 to 2 * padding.
        mirrored: Whether left and right change places, bool (N,).
    """

    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw_offsets(
    samples: int, padding: int = PADDING_PX, *, device: torch.device | str = "cpu"
) -> Offsets:
    """Draw the shift of each image of a batch, and which are mirrored.

    Args:
        samples: N.
        padding: The largest shift in pixels, either way.
        device: Of the offsets, and of torch's global generator that draws them.

    Example:
        >>> draw_offsets(3, padding=0)
        Offsets(top=tensor([0, 0, 0]), left=tensor([0, 0, 0]), mirrored=tensor([..., ..., ...]))
    """
    shape = (2, samples)
    top, left = torch.randint(2 * padding + 1, shape, device=device)
    coin = torch.randint(2, (samples,), device=device)
    return Offsets(top, left, coin.bool())


def crop_flip(x: Tensor, offsets: Offsets, padding: int = PADDING_PX) -> Tensor:
    """Cut each image out of its padded self, and mirror some: He et al. (2016), section 4.2.

    Args:
        x: Images, (N, C, H, W); a data set stays in memory as uint8.
        offsets: Of `draw_offsets` with the same padding.
        padding: Black pixels on each side before a crop of the original size.

    Returns:
        Images of the same shape and type, a new tensor.

    Example:
        >>> x = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
        >>> down, mirrored = torch.tensor([0]), torch.tensor([True])
        >>> crop_flip(x, Offsets(down, torch.tensor([1]), mirrored), padding=1).tolist()
        [[[[0, 0], [2, 1]]]]
    """
    n, c, h, w = x.shape
    padded = F.pad(x, (padding, padding, padding, padding))
    rows = torch.arange(h, device=x.device) + offsets.top[:, None]  # (N, H)
    columns = torch.arange(w, device=x.device)
    columns = torch.where(offsets.mirrored[:, None], columns.flip(0), columns)  # (N, W)
    columns = columns + offsets.left[:, None]
    # One gather over flat images: seven times as fast as indexing by four tensors.
    place = rows[:, :, None] * (w + 2 * padding) + columns[:, None, :]  # (N, H, W)
    place = place.view(n, 1, h * w).expand(n, c, h * w)
    return padded.flatten(2).gather(2, place).view(n, c, h, w)


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, of values from 0 to 1.

    They follow from how often each of the 256 levels occurs, counted `CHUNK` images at a time.

    Args:
        x: Images, uint8 (N, C, H, W), at least one.

    Returns:
        Mean and standard deviation (over all pixels, not n - 1), float32 (C,). A channel of one
        value has a standard deviation of 1, so that normalised it is 0.

    Example:
        >>> x = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        >>> channel_statistics(x)
        (tensor([0.5000]), tensor([0.5000]))
    """
    counts = torch.zeros(x.shape[1], 256, dtype=torch.int64, device=x.device)
    for chunk in torch.split(x, CHUNK):
        counts += torch.stack(
            [channel.flatten().bincount(minlength=256) for channel in chunk.unbind(1)]
        )
    # float64 holds them without rounding; on the CPU, for not every device has it.
    share = counts.cpu().double() / (x.numel() // x.shape[1])  # (C, 256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ levels  # (C,)
    std = (share * (levels - mean[:, None]).square()).sum(dim=1).sqrt()
    std = torch.where((counts > 0).sum(dim=1).cpu() > 1, std, torch.ones_like(std))
    return mean.float().to(x.device), std.float().to(x.device)


def normalise(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (x / 255 - mean) / std.

    Args:
        x: Images, uint8 (N, C, H, W).
        mean: Of each channel, of values from 0 to 1, (C,).
        std: Standard deviation of each channel, likewise.

    Returns:
        float32 (N, C, H, W).

    Example:
        >>> x = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        >>> normalise(x, *channel_statistics(x)).flatten()
        tensor([-1.,  1.])
    """
    scale = (1 / (255 * std)).view(-1, 1, 1)
    shift = (-mean / std).view(-1, 1, 1)
    return torch.mul(x, scale).add_(shift)  # converted on the way: no float copy of x before it

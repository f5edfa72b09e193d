"""Both ways to a convolution's weight gradient equal autograd."""

import pytest
import torch
from torch import nn

from cfl_edge.core.conv_gradient import has_many_channels, library_gradients, products_of_shifts


@pytest.mark.parametrize("way", [library_gradients, products_of_shifts])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (3, {"padding": 1}),
        (3, {"stride": 2, "padding": 1}),
        (3, {}),
        ((3, 2), {"stride": (1, 2), "padding": (2, 0)}),
        (3, {"dilation": (2, 1), "padding": (2, 3)}),
        (1, {"bias": False}),
        (5, {"stride": 3}),
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_equal_autograd(way, kernel, options, memory_format):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, kernel, **options).double()
    x_hat = torch.randn(3, 5, 11, 9).double().to(memory_format=memory_format)
    h = conv(x_hat)
    delta = torch.randn_like(h)
    h.backward(delta)
    weight, bias = way(conv, x_hat, delta)
    assert weight.shape == conv.weight.shape
    assert torch.allclose(weight, conv.weight.grad, atol=1e-12)
    if conv.bias is None:
        assert bias is None
    else:
        assert torch.allclose(bias, conv.bias.grad, atol=1e-12)


@pytest.mark.parametrize(
    ("conv", "many"),
    [
        (nn.Conv2d(64, 128, 3), True),
        (nn.Conv2d(3, 128, 3), False),
        (nn.Conv2d(64, 64, 3), False),
        (nn.Conv2d(128, 128, 3, groups=128), False),
    ],
    ids=str,
)
def test_narrow_and_grouped_convolutions_are_the_library_s(conv, many):
    assert has_many_channels(conv) is many

"""Both ways to a convolution's weight gradient equal autograd."""

import pytest
import torch
from torch import nn

from cfl_edge.core import conv_gradient
from cfl_edge.core.conv_gradient import (
    convolved,
    is_faster_by_patches,
    library_gradients,
    products_of_patches,
)


@pytest.mark.parametrize("way", [library_gradients, products_of_patches])
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


@pytest.mark.parametrize(("height", "width"), [(3, 5), (1, 1), (4, 4), (40, 9)])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": (2, 1), "padding": (1, 2)},
        {"dilation": (1, 2), "padding": (1, 2), "bias": False},
        {"padding": 1, "groups": 2},
    ],
    ids=str,
)
def test_few_positions_are_convolved_as_many_are(height, width, options):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, **options).double()
    for samples in (1, 2):
        x = torch.randn(samples, 4, height, width).double()
        with torch.no_grad():
            h = convolved(conv, x)
            torch.testing.assert_close(h, conv(x))
        assert h.is_contiguous()


@pytest.mark.parametrize("at_once", [1, 2, 5, 99])
def test_patches_copied_for_a_few_samples_at_a_time_give_the_same(at_once, monkeypatch):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1).double()
    x_hat = torch.randn(5, 4, 8, 8).double()  # 16 positions, patches of 36 numbers of 8 bytes
    monkeypatch.setattr(conv_gradient, "PATCH_BYTES", at_once * 16 * 36 * 8)
    delta = torch.randn(5, 6, 4, 4).double()
    for ours, theirs in zip(
        products_of_patches(conv, x_hat, delta),
        library_gradients(conv, x_hat, delta),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("conv", "by_patches"),
    [
        (nn.Conv2d(256, 256, 3, stride=2), True),
        (nn.Conv2d(256, 256, 3), False),
        (nn.Conv2d(64, 256, 3, stride=2), False),
        (nn.Conv2d(256, 64, 3, stride=2), False),
        (nn.Conv2d(256, 256, 3, stride=2, groups=256), False),
    ],
    ids=str,
)
def test_narrow_grouped_and_unstrided_convolutions_are_the_library_s(conv, by_patches):
    assert is_faster_by_patches(conv) is by_patches

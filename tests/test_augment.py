"""Random crops and mirror images against a loop over the images, and the scaling of bytes."""

import numpy as np
import pytest
import torch

from cfl_edge.lab.data.augment import (
    CHUNK,
    Offsets,
    channel_statistics,
    crop_flip,
    draw_offsets,
    normalise,
)


def random_crop_flip(x, padding=4):
    return crop_flip(x, draw_offsets(len(x), padding, device=x.device), padding)


def images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def slow_crop_flip(x, offsets, padding):
    """Image by image, each on a black page of its own."""
    result = []
    for image, top, left, mirrored in zip(x.numpy(), *offsets, strict=True):
        c, h, w = image.shape
        page = np.zeros((c, h + 2 * padding, w + 2 * padding), image.dtype)
        page[:, padding : padding + h, padding : padding + w] = image
        cut = page[:, top : top + h, left : left + w]
        result.append(cut[:, :, ::-1] if mirrored else cut)
    return torch.from_numpy(np.stack(result))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 16, 24), (2, 1, 5)])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_crops_are_those_of_a_loop(shape, padding, layout):
    x = images(60, *shape).contiguous(memory_format=layout)
    before = x.clone()
    offsets = draw_offsets(60, padding)
    cropped = crop_flip(x, offsets, padding)
    assert torch.equal(cropped, slow_crop_flip(x, offsets, padding))
    assert cropped.dtype == torch.uint8
    assert cropped.is_contiguous()
    assert torch.equal(x, before)


def test_all_offsets_occur_alike_and_independently():
    offsets = draw_offsets(81 * 2 * 200, 4)
    both = (offsets.top * 9 + offsets.left) * 2 + offsets.mirrored
    seen = both.bincount(minlength=162)  # 200 of each are expected, standard deviation 14
    assert len(seen) == 162
    assert seen.min() > 200 - 6 * 14
    assert seen.max() < 200 + 6 * 14


def test_without_padding_nothing_moves():
    x = images(50, 3, 8, 8)
    mirrored = random_crop_flip(x, padding=0)
    is_same = (mirrored == x).flatten(1).all(1)
    is_mirror = (mirrored == x.flip(3)).flatten(1).all(1)
    assert (is_same ^ is_mirror).all()
    assert 10 < is_mirror.sum() < 40


def test_randomness_is_the_global_generator():
    x = images(64, 3, 8, 8)
    torch.manual_seed(5)
    first, second = random_crop_flip(x), random_crop_flip(x)
    torch.manual_seed(5)
    assert torch.equal(random_crop_flip(x), first)
    assert not torch.equal(first, second)


def test_an_empty_batch_stays_empty():
    assert random_crop_flip(images(0, 3, 8, 8)).shape == (0, 3, 8, 8)


def test_offsets_are_on_the_device_of_the_images():
    x = torch.empty(4, 3, 8, 8, dtype=torch.uint8, device="meta")
    assert random_crop_flip(x).device.type == "meta"
    offsets = draw_offsets(4, 4, device="meta")
    assert {part.device.type for part in offsets} == {"meta"}


def test_every_shift_of_one_image_shows_what_it_should():
    x = torch.tensor([[[[7]]]], dtype=torch.uint8)
    for top in range(3):
        for left in range(3):
            offsets = Offsets(torch.tensor([top]), torch.tensor([left]), torch.tensor([True]))
            assert crop_flip(x, offsets, 1).item() == (7 if top == left == 1 else 0)


@pytest.mark.parametrize("samples", [1, 3, CHUNK, 2 * CHUNK + 1])
def test_statistics_are_numpys(samples):
    x = images(samples, 3, 4, 5)
    x[:, 1] //= 7
    mean, std = channel_statistics(x)
    values = x.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean.numpy(), values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), values.std((0, 2, 3)), rtol=1e-6)
    assert mean.dtype == std.dtype == torch.float32


def test_statistics_of_many_white_pixels_do_not_overflow():
    x = torch.full((40_000, 1, 32, 32), 255, dtype=torch.uint8)
    x[:20_000] = 0
    mean, std = channel_statistics(x)
    assert mean.tolist() == std.tolist() == [0.5]


@pytest.mark.parametrize("level", [0, 37, 255])
def test_a_channel_of_one_value_becomes_zero(level):
    x = torch.full((70, 2, 9, 9), level, dtype=torch.uint8)
    x[0, 1] = 128
    mean, std = channel_statistics(x)
    assert std[0] == 1
    assert 0 < std[1] < 1
    assert normalise(x, mean, std)[:, 0].abs().max() < 1e-6


def test_normalised_images_have_mean_zero_and_deviation_one():
    x = images(50, 3, 6, 7)
    mean, std = channel_statistics(x)
    result = normalise(x, mean, std)
    expected = (x.double() / 255 - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    assert result.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3))

"""Batch transforms against slow references, and their draws."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.data_tools import random_state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drolt_pl.data.augment.transforms import BatchTransform, Chain, CropFlip, Cutout, crop_and_mirror


def images_of(count: int, channels: int = 3, height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def slow_crop(image: np.ndarray, top: int, left: int, mirrored: bool, padding: int) -> np.ndarray:
    """One image, pixel by pixel."""
    out = np.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            source_y, source_x = y + top - padding, x + left - padding
            if 0 <= source_y < height and 0 <= source_x < width:
                out[:, y, width - 1 - x if mirrored else x] = image[:, source_y, source_x]
    return out


@settings(max_examples=30)
@given(
    padding=st.integers(0, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    draws=st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999), st.booleans()), min_size=1, max_size=4),
)
def test_crops_equal_the_slow_reference(padding: int, channels: int, height: int, width: int, draws: list) -> None:
    images = images_of(len(draws), channels, height, width)
    shifts = torch.tensor([[int(draw[axis] * (2 * padding + 1)) for draw in draws] for axis in (0, 1)])
    mirrored = torch.tensor([draw[2] for draw in draws])
    cropped = crop_and_mirror(images, shifts, mirrored, padding=padding)
    for index in range(len(draws)):
        top, left = shifts[:, index].tolist()
        wanted = slow_crop(images[index].numpy(), top, left, bool(mirrored[index]), padding)
        assert (cropped[index].numpy() == wanted).all()


def test_every_sample_has_its_own_draw() -> None:
    same = images_of(1).expand(2000, -1, -1, -1)
    out = CropFlip(padding=1)(same, torch.Generator().manual_seed(0))
    distinct, counts = out.flatten(1).unique(dim=0, return_counts=True)
    assert len(distinct) == 9 * 2  # places of the window, mirrored or not
    assert ((counts - 2000 / 18).abs() < 5 * (2000 / 18) ** 0.5).all()


def test_without_flip_and_padding_nothing_changes() -> None:
    images = images_of(20)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(CropFlip(padding=0, flip=False)(images, generator), images)
    flipped = CropFlip(padding=0)(images, generator)
    mirrored = (flipped != images).flatten(1).any(1)
    assert 0 < mirrored.sum() < 20
    assert torch.equal(flipped[mirrored], images[mirrored].flip(-1))


def test_draws_come_from_the_generator() -> None:
    before = random_state()
    images = images_of(50)
    first = CropFlip(padding=2)(images, torch.Generator().manual_seed(1))
    assert torch.equal(CropFlip(padding=2)(images, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(CropFlip(padding=2)(images, torch.Generator().manual_seed(2)), first)
    assert random_state() == before


def test_normalisation() -> None:
    images = images_of(4)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 1.0, 0.3])
    out = BatchTransform(mean.tolist(), std.tolist())(images, torch.Generator())
    assert out.dtype == torch.float32
    wanted = (images / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)


def test_augmentation_comes_before_normalisation() -> None:
    def black(images: Tensor, generator: torch.Generator) -> Tensor:
        assert images.dtype == torch.uint8
        return torch.zeros_like(images)

    out = BatchTransform([0.5], [0.25], black)(images_of(2, channels=1), torch.Generator())
    assert (out == -2).all()


def test_cutout_blackens_a_square_around_any_pixel() -> None:
    images = torch.full((5000, 3, 8, 10), 200, dtype=torch.uint8)
    black = Cutout(share=0.5)(images, torch.Generator().manual_seed(0)) == 0
    assert (images == 200).all()
    assert (black == black[:, :1]).all()
    rows, columns = black[:, 0].any(2), black[:, 0].any(1)
    assert torch.equal(black[:, 0], rows[:, :, None] & columns[:, None, :])
    # A centre covers itself, two pixels before it and one after it; each of the 8 rows and 10 columns may be one.
    wanted = torch.outer(torch.tensor([3, 4, 4, 4, 4, 4, 3, 2]) / 8, torch.tensor([3, *[4] * 7, 3, 2]) / 10)
    assert ((black[:, 0].float().mean(0) - wanted).abs() < 5 * (wanted * (1 - wanted) / 5000).sqrt()).all()


def test_a_chain_applies_its_steps_in_order() -> None:
    images = images_of(40, height=8, width=8)
    steps = [CropFlip(padding=1), Cutout()]
    generator = torch.Generator().manual_seed(5)
    wanted = steps[1](steps[0](images, generator), generator)
    assert torch.equal(Chain(steps)(images, torch.Generator().manual_seed(5)), wanted)
    assert torch.equal(Chain([])(images, generator), images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CropFlip(padding=-1), "padding must be a whole number >= 0, got -1"),
        (lambda: Cutout(share=0), r"share must be in \(0, 1\], got 0"),
        (lambda: Chain(["flip"]), "steps must take a batch of images and a generator each, got 'flip'"),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.gpu
def test_a_gpu_sees_the_images_that_a_cpu_sees() -> None:
    images = images_of(64)
    transform = BatchTransform([0.5] * 3, [0.25] * 3, CropFlip(padding=2))
    on_cpu = transform(images, torch.Generator().manual_seed(3))
    on_gpu = transform(images.cuda(), torch.Generator().manual_seed(3))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu)

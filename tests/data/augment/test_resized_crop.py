"""Random resized crops: pixels as torchvision's, rectangles with its law, one a sample."""

import pytest
import torch
from helpers.data_tools import random_state
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms import functional as torchvision_functional

from drolt_pl.data.augment.resized_crop import RandomResizedCrop, crop_and_resize, draw_boxes


def noise(count: int, height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def boxes(count: int, height: int, width: int, scale: tuple[float, float] = (0.08, 1.0), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return draw_boxes(count, height, width, scale=scale, ratio=(3 / 4, 4 / 3), generator=generator)


@pytest.mark.parametrize("size", [(32, 32), (20, 31)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_torchvision(size: tuple[int, int], channels: int) -> None:
    images, rectangles = noise(100, *size, channels), boxes(100, *size)
    ours = crop_and_resize(images, rectangles)
    for image, box, found in zip(images, rectangles.T.tolist(), ours, strict=True):
        wanted = torchvision_functional.resized_crop(image, *box, list(size), antialias=True)
        assert (found.int() - wanted.int()).abs().max() <= 1  # a half may be rounded either way
        assert (found != wanted).float().mean() < 0.01
    assert ours.dtype == torch.uint8


def test_the_whole_image_stays_as_it_is() -> None:
    images = noise(4, 9, 7)
    whole = torch.tensor([[0], [0], [9], [7]]).expand(-1, 4)
    assert torch.equal(crop_and_resize(images, whole), images)
    assert torch.equal(RandomResizedCrop(scale=(1, 1), ratio=(1, 1))(noise(4, 8, 8), torch.Generator()), noise(4, 8, 8))


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0)])
@pytest.mark.parametrize("size", [(32, 32), (24, 60)])
def test_rectangles_have_the_law_of_torchvision(size: tuple[int, int], scale: tuple[float, float]) -> None:
    count = 4000
    ours = boxes(count, *size, scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        draw = TorchvisionCrop.get_params
        theirs = torch.tensor([draw(torch.empty(1, *size), list(scale), [3 / 4, 4 / 3]) for _ in range(count)]).T
    for mine, reference in zip(ours, theirs, strict=True):
        assert ks_2samp(mine.numpy(), reference.numpy()).pvalue > 1e-3
    assert bool((ours[0] + ours[2] <= size[0]).all())
    assert bool((ours[1] + ours[3] <= size[1]).all())


def test_where_no_try_fits_the_largest_central_rectangle_is_taken() -> None:
    tall = boxes(5, 100, 4, (1.0, 1.0))  # torchvision's: width 4, height round(4 / 0.75)
    assert tall.T.tolist() == [[47, 0, 5, 4]] * 5
    wide = boxes(5, 4, 100, (1.0, 1.0))
    assert wide.T.tolist() == [[0, 47, 4, 5]] * 5


def test_draws_come_from_the_generator_one_a_sample() -> None:
    before, crop = random_state(), RandomResizedCrop()
    images = noise(1, 16, 16).expand(50, -1, -1, -1)
    first = crop(images, torch.Generator().manual_seed(1))
    assert torch.equal(crop(images, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(crop(images, torch.Generator().manual_seed(2)), first)
    assert len(first.unique(dim=0)) > 45
    assert random_state() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"scale must be two numbers in \(0, 1\], the smaller first, got \[0.0, 1.0\]"),
        ({"scale": (0.5, 0.2)}, r"scale must be two numbers .* got \[0.5, 0.2\]"),
        ({"ratio": (0, 1)}, r"ratio must be two numbers > 0, the smaller first, got \[0, 1\]"),
    ],
)
def test_wrong_ranges_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        RandomResizedCrop(**settings)


@pytest.mark.gpu
def test_a_gpu_sees_the_images_that_a_cpu_sees() -> None:
    images = noise(200, 32, 32)
    on_cpu = RandomResizedCrop()(images, torch.Generator().manual_seed(3))
    on_gpu = RandomResizedCrop()(images.cuda(), torch.Generator().manual_seed(3))
    assert ((on_gpu.cpu().int() - on_cpu.int()).abs() > 1).float().mean() == 0

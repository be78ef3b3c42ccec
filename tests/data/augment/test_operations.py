"""Batched operations against torchvision's, image by image."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op
from torchvision.transforms.functional import adjust_hue

from drolt_pl.data.augment.operations import OPERATIONS, apply_operations

MAGNITUDES = {
    "ShearX": (0.3, -0.1),
    "ShearY": (0.3, -0.1),
    "TranslateX": (4.9, -2.2),
    "TranslateY": (4.9, -2.2),
    "Rotate": (30.0, -7.0),
    "Posterize": (4.0, 8.0),
    "Solarize": (255.0, 99.6, 0.0),
    "Brightness": (0.9, -0.9, 0.0),
    "Contrast": (0.9, -0.9, 0.0),
    "Color": (0.9, -0.9, 0.0),
    "Sharpness": (0.9, -0.9, 0.0),
    "Hue": (0.1, -0.3, 0.5, 0.0),
}


def pictures(channels: int, height: int = 20, width: int = 24) -> Tensor:
    """Noise, smooth pictures of little contrast, one colour, two colours."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(4, channels, height, width, generator=generator)
    smooth = torch.nn.functional.interpolate(torch.rand(4, channels, 3, 3, generator=generator), (height, width))
    plain = torch.full((1, channels, height, width), 0.3)
    two = (noise[:1] > 0.4).float()
    return (torch.cat([noise, 0.2 + smooth / 2, plain, two]) * 255).to(torch.uint8)


def reference(image: Tensor, name: str, magnitude: float, fill: list[float] | None = None) -> Tensor:
    if name == "Hue":
        return adjust_hue(image, magnitude)
    return _apply_op(image, name, magnitude, InterpolationMode.NEAREST, fill)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_equals_torchvision(name: str, channels: int) -> None:
    images = pictures(channels)
    codes = torch.full((len(images),), OPERATIONS.index(name))
    for magnitude in MAGNITUDES.get(name, (0.0,)):
        magnitudes = torch.full((len(images),), magnitude, dtype=torch.float64)
        ours = apply_operations(images, codes, magnitudes)
        theirs = torch.stack([reference(image, name, magnitude) for image in images])
        # A source pixel half-way between two may be rounded to the other one, and a colour by its last digit.
        assert (ours != theirs).float().mean() <= (0.002 if name in ("ShearX", "ShearY", "Rotate", "Hue") else 0)
        if name == "Hue":
            assert (ours.int() - theirs.int()).abs().max() <= 1
        assert ours.dtype == torch.uint8


def test_every_sample_has_its_own_operation_and_magnitude() -> None:
    generator = torch.Generator().manual_seed(1)
    images = pictures(3)[torch.randint(10, (300,), generator=generator)]
    before = images.clone()
    codes = torch.randint(len(OPERATIONS), (300,), generator=generator)
    choices = [MAGNITUDES.get(OPERATIONS[code], (0.0,)) for code in codes]
    magnitudes = [choice[int(torch.randint(len(choice), (), generator=generator))] for choice in choices]
    ours = apply_operations(images, codes, torch.tensor(magnitudes, dtype=torch.float64))
    assert torch.equal(images, before)
    for image, code, magnitude, result in zip(images, codes, magnitudes, ours, strict=True):
        differing = (result != reference(image, OPERATIONS[code], magnitude)).float().mean()
        assert differing <= 0.01


def test_fill_is_what_comes_from_outside() -> None:
    images = pictures(3)
    codes = torch.full((len(images),), OPERATIONS.index("TranslateX"))
    ours = apply_operations(images, codes, torch.full((len(images),), 5.0, dtype=torch.float64), fill=128)
    theirs = torch.stack([reference(image, "TranslateX", 5.0, [128.0] * 3) for image in images])
    assert torch.equal(ours, theirs)
    assert (ours[..., :5] == 128).all()


def test_small_images_are_not_sharpened() -> None:
    images = pictures(3, 2, 5)
    codes = torch.full((len(images),), OPERATIONS.index("Sharpness"))
    assert torch.equal(apply_operations(images, codes, torch.full((len(images),), 0.9, dtype=torch.float64)), images)

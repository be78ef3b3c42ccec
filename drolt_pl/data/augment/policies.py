"""Learned and random augmentation policies on batches, each sample with its own draws."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torchvision import transforms

from drolt_pl.checked import checked
from drolt_pl.data.augment.operations import OPERATIONS, apply_operations
from drolt_pl.errors import require
from drolt_pl.ranges import Fraction, Level

SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
IDENTITY = OPERATIONS.index("Identity")

Strength = Annotated[float, Ge(0), Le(100)]
Turn = Annotated[float, Ge(0), Le(0.5)]  # half the circle
Bins = Annotated[int, Ge(2), Le(1000)]


def magnitude_table(num_bins: int, height: int, width: int) -> Tensor:
    """Magnitude of each operation at each level, (operations, num_bins), float64; 0 for operations without one.

    The levels are torchvision's, for AutoAugment with 10 bins and for RandAugment with 31.
    """
    levels = {
        "ShearX": torch.linspace(0.0, 0.3, num_bins),
        "ShearY": torch.linspace(0.0, 0.3, num_bins),
        "TranslateX": torch.linspace(0.0, 150.0 / 331.0 * width, num_bins),
        "TranslateY": torch.linspace(0.0, 150.0 / 331.0 * height, num_bins),
        "Rotate": torch.linspace(0.0, 30.0, num_bins),
        "Brightness": torch.linspace(0.0, 0.9, num_bins),
        "Color": torch.linspace(0.0, 0.9, num_bins),
        "Contrast": torch.linspace(0.0, 0.9, num_bins),
        "Sharpness": torch.linspace(0.0, 0.9, num_bins),
        "Posterize": 8 - (torch.arange(num_bins) / ((num_bins - 1) / 4)).round(),
        "Solarize": torch.linspace(255.0, 0.0, num_bins),
    }
    return torch.stack([levels.get(name, torch.zeros(num_bins)) for name in OPERATIONS]).double()


@checked
class AutoAugment:
    """Applies one of 25 learned pairs of operations to each image, each with its own chance (Cubuk et al. 2019).

    Policies, chances and levels are torchvision's. Each sample has its own draw, where torchvision's transform draws
    once for the whole batch.

    Args:
        policy: The data set that the policy was learned on: `cifar10`, `imagenet` or `svhn`.
        fill: Value of pixels that come from outside the image.
    """

    def __init__(self, *, policy: Literal["cifar10", "imagenet", "svhn"] = "cifar10", fill: Level = 0) -> None:
        self.fill = fill
        pairs = transforms.AutoAugment(transforms.AutoAugmentPolicy(policy)).policies
        self.operations = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in pairs])
        self.chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])
        self.levels = torch.tensor([[level or 0 for _, _, level in pair] for pair in pairs])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        num_images, _, height, width = images.shape
        chosen = torch.randint(len(self.operations), (num_images,), generator=generator)
        applied = torch.rand(num_images, 2, generator=generator) <= self.chances[chosen]
        operations = torch.where(applied, self.operations[chosen], IDENTITY)
        magnitudes = magnitude_table(10, height, width)[operations, self.levels[chosen]]
        magnitudes = _signed(magnitudes, operations, generator)
        for step in range(2):
            images = apply_operations(images, operations[:, step], magnitudes[:, step], fill=self.fill)
        return images


@checked
class RandAugment:
    """Draws operations uniformly, all at one level (Cubuk et al. 2020); operations and levels are torchvision's.

    Args:
        num_ops: Operations applied to an image, one after the other.
        magnitude: Level, in [0, num_magnitude_bins).
        num_magnitude_bins: Number of levels.
        fill: Value of pixels that come from outside the image.
    """

    def __init__(
        self,
        *,
        num_ops: Annotated[int, Ge(0), Le(64)] = 2,
        magnitude: Annotated[int, Ge(0), Le(1000)] = 9,
        num_magnitude_bins: Bins = 31,
        fill: Level = 0,
    ) -> None:
        require("magnitude", magnitude, magnitude < num_magnitude_bins, f"must be in [0, {num_magnitude_bins})")
        self.num_ops, self.magnitude, self.num_magnitude_bins, self.fill = num_ops, magnitude, num_magnitude_bins, fill
        self.operations = torch.tensor([code for code, name in enumerate(OPERATIONS) if name not in ("Invert", "Hue")])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        num_images, _, height, width = images.shape
        drawn = torch.randint(len(self.operations), (num_images, self.num_ops), generator=generator)
        operations = self.operations[drawn]
        magnitudes = magnitude_table(self.num_magnitude_bins, height, width)[operations, self.magnitude]
        magnitudes = _signed(magnitudes, operations, generator)
        for step in range(self.num_ops):
            images = apply_operations(images, operations[:, step], magnitudes[:, step], fill=self.fill)
        return images


@checked
class ColorJitter:
    """Multiplies brightness, contrast and saturation of each image by random factors and turns its hue.

    The law and the random order of the steps are those of torchvision's ColorJitter.

    Args:
        brightness, contrast, saturation: x >= 0: factors come uniformly from [max(0, 1 - x), 1 + x]; 0 leaves it out.
        hue: In [0, 0.5]: the turn comes uniformly from [-hue, hue], in shares of the circle.
        chance: Chance of an image to be changed at all.
    """

    def __init__(
        self,
        *,
        brightness: Strength = 0.4,
        contrast: Strength = 0.4,
        saturation: Strength = 0.4,
        hue: Turn = 0.0,
        chance: Fraction = 1.0,
    ) -> None:
        strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        names = ("Brightness", "Contrast", "Color", "Hue")
        used = [(name, strength) for name, strength in zip(names, strengths.values(), strict=True) if strength > 0]
        self.operations = torch.tensor([OPERATIONS.index(name) for name, _ in used], dtype=torch.int64)
        self.strengths = torch.tensor([strength for _, strength in used], dtype=torch.float64)
        self.chance = chance

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        shape = len(images), len(self.operations)
        order = torch.rand(shape, generator=generator).argsort(1)
        low, high = (-self.strengths).clamp(min=-1), self.strengths
        magnitudes = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        changed = torch.rand(shape[0], generator=generator) < self.chance if self.chance < 1 else torch.tensor(True)
        for step in range(shape[1]):
            turn = order[:, step]
            strengths = magnitudes.gather(1, turn[:, None])[:, 0]
            images = apply_operations(images, torch.where(changed, self.operations[turn], IDENTITY), strengths)
        return images


@checked
class RandomGrey:
    """Takes some images' colours away, as torchvision's RandomGrayscale, but with a draw for each image.

    Args:
        chance: Chance of an image, in [0, 1].
    """

    def __init__(self, *, chance: Fraction = 0.2) -> None:
        self.chance = chance

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.rand(len(images), generator=generator) < self.chance
        operations = torch.where(chosen, OPERATIONS.index("Color"), IDENTITY)
        return apply_operations(images, operations, torch.full((len(images),), -1.0, dtype=torch.float64))


def _signed(magnitudes: Tensor, operations: Tensor, generator: torch.Generator) -> Tensor:
    """Give magnitudes a random sign where the operation has two directions."""
    signed = torch.tensor([name in SIGNED for name in OPERATIONS])[operations]
    negative = torch.randint(2, operations.shape, generator=generator) == 0
    return torch.where(signed & negative, -magnitudes, magnitudes)

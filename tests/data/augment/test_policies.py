"""AutoAugment, RandAugment and ColorJitter: their distribution is that of torchvision's, drawn image by image."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.data_tools import random_state
from scipy.stats import chi2_contingency
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.autoaugment import RandAugment as TorchvisionRandAugment

from drolt_pl.data.augment.operations import OPERATIONS
from drolt_pl.data.augment.policies import SIGNED, AutoAugment, ColorJitter, RandAugment, RandomGrey, magnitude_table

DRAWS = 2000


def picture() -> Tensor:
    """A picture that every operation changes in a way of its own."""
    x, y = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy")
    channels = [20 + 17 * x + 3 * y, 200 - 11 * x - 5 * y + (x * y) % 7, 90 + 8 * y - x * x]
    return torch.stack(channels).clamp(0, 255).to(torch.uint8)


def same_distribution(ours: Tensor, theirs: Tensor, level: float = 1e-4) -> bool:
    """Whether two samples of images, (n, C, H, W) each, pass a chi-square test on how often each image comes."""
    counts = [Counter(image.numpy().tobytes() for image in sample) for sample in (ours, theirs)]
    cells = sorted(set(counts[0]) | set(counts[1]))
    common = [cell for cell in cells if counts[0][cell] + counts[1][cell] >= 12]
    table = [[count[cell] for cell in common] for count in counts]
    for row, count in zip(table, counts, strict=True):
        row.append(sum(count.values()) - sum(row) + 1)  # the rare ones together
    return bool(chi2_contingency(table).pvalue > level)


def per_image(transform: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.stack([transform(picture()) for _ in range(DRAWS)])


def batched(augment: Callable[..., Tensor]) -> Tensor:
    return augment(picture().expand(DRAWS, -1, -1, -1), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "svhn"])
def test_autoaugment_has_the_distribution_of_torchvision(policy: str) -> None:
    theirs = per_image(transforms.AutoAugment(transforms.AutoAugmentPolicy(policy)))
    ours = batched(AutoAugment(policy=policy))
    assert same_distribution(ours, theirs)
    assert not same_distribution(ours, batched(AutoAugment(policy="svhn" if policy == "cifar10" else "cifar10")))


def test_randaugment_has_the_distribution_of_torchvision() -> None:
    ours = batched(RandAugment(num_ops=1, magnitude=20))
    assert same_distribution(ours, per_image(TorchvisionRandAugment(num_ops=1, magnitude=20)))
    assert not same_distribution(ours, batched(RandAugment(num_ops=1, magnitude=12)))


def test_randaugment_applies_its_operations_in_turn() -> None:
    ours = batched(RandAugment(num_ops=2))
    assert same_distribution(ours, per_image(TorchvisionRandAugment(num_ops=2)))


@pytest.mark.parametrize("num_bins", [10, 31])
def test_levels_are_those_of_torchvision(num_bins: int) -> None:
    reference = transforms.AutoAugment()._augmentation_space(num_bins, (24, 40))
    table = magnitude_table(num_bins, 24, 40)
    for name, (levels, signed) in reference.items():
        ours = table[OPERATIONS.index(name)].float()
        assert torch.equal(ours, levels.float().expand(num_bins))
        assert (name in SIGNED) == signed


def test_colour_jitter_has_the_distribution_of_torchvision() -> None:
    settings = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.5}
    theirs = per_image(transforms.ColorJitter(**settings)).float()
    ours = batched(ColorJitter(**settings)).float()
    for statistic in (lambda x: x.mean((2, 3)), lambda x: x.std((2, 3))):
        a, b = statistic(ours), statistic(theirs)
        error = (a.var(0) / DRAWS + b.var(0) / DRAWS).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * error).all()
        assert torch.allclose(
            a.quantile(torch.tensor([0.1, 0.5, 0.9]), 0), b.quantile(torch.tensor([0.1, 0.5, 0.9]), 0), atol=5
        )
    only = batched(ColorJitter(brightness=0, contrast=0, saturation=0))
    assert torch.equal(only, picture().expand(DRAWS, -1, -1, -1))
    assert len(batched(ColorJitter()).unique(dim=0)) > DRAWS / 2


def test_hue_has_the_distribution_of_torchvision() -> None:
    theirs = per_image(transforms.ColorJitter(hue=0.3)).float()
    ours = batched(ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.3)).float()
    a, b = ours.mean((2, 3)), theirs.mean((2, 3))
    assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * (a.var(0) / DRAWS + b.var(0) / DRAWS).sqrt()).all()
    assert torch.allclose(
        a.quantile(torch.tensor([0.1, 0.5, 0.9]), 0), b.quantile(torch.tensor([0.1, 0.5, 0.9]), 0), atol=5
    )


@pytest.mark.parametrize("augment", [ColorJitter(chance=0.8), RandomGrey(chance=0.8)])
def test_a_chance_is_each_images_own(augment: Any) -> None:
    changed = (batched(augment) != picture()).flatten(1).any(1).double().mean().item()
    assert changed == pytest.approx(0.8, abs=4 * (0.16 / DRAWS) ** 0.5)
    never = type(augment)(chance=0.0)
    assert torch.equal(batched(never), picture().expand(DRAWS, -1, -1, -1))


def test_grey_images_have_torchvisions_grey() -> None:
    wanted = transforms.functional.rgb_to_grayscale(picture(), num_output_channels=3)
    assert torch.equal(batched(RandomGrey(chance=1.0)), wanted.expand(DRAWS, -1, -1, -1))


def test_grey_draws_come_from_the_generator_and_one_channel_is_grey_already() -> None:
    images = picture().expand(50, -1, -1, -1)
    first = RandomGrey()(images, torch.Generator().manual_seed(1))
    assert torch.equal(RandomGrey()(images, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(RandomGrey()(images, torch.Generator().manual_seed(2)), first)
    assert torch.equal(RandomGrey(chance=1.0)(images[:, :1], torch.Generator()), images[:, :1])


def test_jitter_without_hue_and_chance_draws_as_before() -> None:
    """Kept runs of augment=color_jitter can be repeated."""
    generator = torch.Generator().manual_seed(0)
    ColorJitter()(picture().expand(10, -1, -1, -1), generator)
    expected = torch.Generator().manual_seed(0)
    torch.rand(10, 3, generator=expected)
    torch.rand(10, 3, generator=expected, dtype=torch.float64)
    assert torch.equal(generator.get_state(), expected.get_state())


@pytest.mark.parametrize("augment", [AutoAugment(), RandAugment(), ColorJitter(hue=0.1, chance=0.8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_come_from_the_generator(augment: Any, channels: int) -> None:
    before = random_state()
    images = picture()[:channels].expand(50, -1, -1, -1)
    first = augment(images, torch.Generator().manual_seed(1))
    assert first.shape == images.shape
    assert torch.equal(augment(images, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(augment(images, torch.Generator().manual_seed(2)), first)
    assert random_state() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoAugment(policy="cifar100"), r"policy must be one of .*'cifar10'.*, got 'cifar100'"),
        (lambda: RandAugment(num_ops=-1), "num_ops must be a whole number >= 0, got -1"),
        (lambda: RandAugment(magnitude=31), r"magnitude must be in \[0, 31\), got 31"),
        (lambda: ColorJitter(contrast=-0.1), "contrast must be >= 0, got -0.1"),
        (lambda: ColorJitter(hue=0.6), "hue must be in \\[0, 0.5\\], got 0.6"),
        (lambda: ColorJitter(chance=1.1), r"chance must be in \[0, 1\], got 1.1"),
        (lambda: RandomGrey(chance=-1), r"chance must be in \[0, 1\], got -1"),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.gpu
@pytest.mark.parametrize("augment", [AutoAugment(), RandAugment(), ColorJitter(hue=0.1), RandomGrey()])
def test_a_gpu_sees_the_images_that_a_cpu_sees(augment: Any) -> None:
    images = picture().expand(200, -1, -1, -1)
    on_cpu = augment(images, torch.Generator().manual_seed(3))
    on_gpu = augment(images.cuda(), torch.Generator().manual_seed(3))
    assert ((on_gpu.cpu().int() - on_cpu.int()).abs() > 1).float().mean() < 0.01

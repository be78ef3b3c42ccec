"""Mixup and CutMix: each sample its own partner and share, and targets that say what is in the picture."""

import pytest
import torch
from helpers.data_tools import random_state
from scipy.stats import beta, kstest
from torch import Tensor

from drolt_pl.data.augment.mixing import CutMix, Mixing, Mixup

KINDS = pytest.mark.parametrize("kind", [Mixup, CutMix])


def one_colour_each(count: int, size: tuple[int, int] = (12, 16)) -> Tensor:
    """Image i has the value i everywhere."""
    return torch.arange(float(count))[:, None, None, None].expand(-1, 3, *size).clone()


@KINDS
def test_targets_say_what_is_in_the_picture(kind: type[Mixing]) -> None:
    images, targets = one_colour_each(40), torch.arange(40)
    mixed, own, other, shares = kind()(images, targets, torch.Generator().manual_seed(0))
    assert mixed.shape == images.shape
    assert torch.equal(own, targets)
    assert torch.equal(other.sort().values, targets)  # each image is mixed in once
    assert bool(((shares >= 0) & (shares <= 1)).all())
    # The mean value of a mixed image is the mean of two numbers with the weights of its targets.
    expected = shares * own + (1 - shares) * other
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_mixup_shares_follow_the_beta_distribution() -> None:
    images, targets = one_colour_each(3000, (1, 1)), torch.arange(3000)
    *_, shares = Mixup(alpha=0.4)(images, targets, torch.Generator().manual_seed(1))
    assert kstest(shares.numpy(), beta(0.4, 0.4).cdf).pvalue > 1e-3


@KINDS
def test_one_share_a_batch(kind: type[Mixing]) -> None:
    """Mixup's authors and MiSLAS: all images of a batch keep as much of themselves, drawn anew for the next."""
    images, targets = one_colour_each(40), torch.arange(40)
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(300):
        mixed, own, other, shares = kind(share_per="batch")(images, targets, generator)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), shares * own + (1 - shares) * other, rtol=1e-4, atol=1e-4)
        if kind is Mixup:
            assert len(shares.unique()) == 1
        drawn.append(shares.max().item())
    if kind is Mixup:
        assert kstest(drawn, beta(1, 1).cdf).pvalue > 1e-3


def test_cutmix_replaces_one_rectangle_of_the_drawn_size() -> None:
    images = one_colour_each(2000, (20, 30))
    mixed, _, other, shares = CutMix()(images, torch.arange(2000), torch.Generator().manual_seed(2))
    replaced = mixed[:, 0] != images[:, 0]
    rows, columns = replaced.any(2), replaced.any(1)
    assert torch.equal(replaced, rows[:, :, None] & columns[:, None, :])
    for axis in (rows, columns):  # in one piece: it begins once
        begins = axis[:, :1].int().sum(1) + (axis[:, 1:] & ~axis[:, :-1]).sum(1)
        assert begins.max() == 1
    partner_differs = other != torch.arange(2000)
    torch.testing.assert_close(shares[partner_differs], 1 - replaced.float().mean((1, 2))[partner_differs])
    inside = (~rows[:, 0] & ~rows[:, -1] & ~columns[:, 0] & ~columns[:, -1] & partner_differs).nonzero()[:, 0]
    heights, widths = rows.sum(1)[inside], columns.sum(1)[inside]
    assert (heights / 20 - widths / 30).abs().max() <= 0.11  # the image's proportions, to a pixel or two
    # Every pixel may be the centre, so the middle is covered more often than the corner.
    assert replaced[:, 10, 15].float().mean() > replaced[:, 0, 0].float().mean() > 0.1


@KINDS
def test_draws_come_from_the_generator(kind: type[Mixing]) -> None:
    before = random_state()
    images, targets = one_colour_each(30), torch.arange(30) % 5
    mix = kind(alpha=0.8)
    first = mix(images, targets, torch.Generator().manual_seed(1))
    again = mix(images, targets, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(mix(images, targets, torch.Generator().manual_seed(2))[0], first[0])
    assert random_state() == before


@KINDS
def test_a_wrong_alpha_is_refused(kind: type[Mixing]) -> None:
    with pytest.raises(ValueError, match=r"^alpha must be > 0, got 0"):
        kind(alpha=0)
    with pytest.raises(ValueError, match=r"^share_per must be one of .'sample', 'batch'., got 'epoch'"):
        kind(share_per="epoch")

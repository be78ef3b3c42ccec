"""Random resized crops of a batch, each image with its own rectangle."""

import math

import torch
from torch import Tensor

from drolt_pl.checked import checked
from drolt_pl.ranges import Proportions, Shares

TRIES = 10  # torchvision's


@checked
class RandomResizedCrop:
    """Resizes a random rectangle of each image to the whole image's size (Szegedy et al. 2015).

    Areas, proportions, tries and bilinear interpolation are those of torchvision's transform, which draws once for a
    whole batch. A rectangle is never larger than the image, so that nothing is shrunk.

    Args:
        scale: Least and largest share of the image's area, in (0, 1].
        ratio: Least and largest width over height, > 0.

    Raises:
        SettingError: a range that is empty or out of these bounds.
    """

    def __init__(self, *, scale: Shares = (0.08, 1.0), ratio: Proportions = (3 / 4, 4 / 3)) -> None:
        (least, most), (narrowest, widest) = scale, ratio
        self.scale, self.ratio = (least, most), (narrowest, widest)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        num_images, _, height, width = images.shape
        boxes = draw_boxes(num_images, height, width, scale=self.scale, ratio=self.ratio, generator=generator)
        return crop_and_resize(images, boxes.to(images.device))


def draw_boxes(
    num_images: int,
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw top, left, height and width of a rectangle for each image, (4, B) int64 on the CPU.

    The first of ten tries that lies within the image counts. If none does, it is the largest central rectangle of
    allowed proportions.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * _uniform(num_images, TRIES, generator))
    ratios = (low + (high - low) * _uniform(num_images, TRIES, generator)).exp()
    widths, heights = (areas * ratios).sqrt().round().long(), (areas / ratios).sqrt().round().long()
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = fits.byte().argmax(1, keepdim=True)
    found = fits.any(1)
    # The image itself, or as much of it as the proportions allow.
    central_width = min(width, max(1, round(height * ratio[1])))
    central_height = min(height, max(1, round(width / ratio[0])))
    box_width = torch.where(found, widths.gather(1, first)[:, 0], central_width)
    box_height = torch.where(found, heights.gather(1, first)[:, 0], central_height)
    places = _uniform(2, num_images, generator)
    top = torch.where(found, (places[0] * (height - box_height + 1)).long(), (height - central_height) // 2)
    left = torch.where(found, (places[1] * (width - box_width + 1)).long(), (width - central_width) // 2)
    return torch.stack([top, left, box_height, box_width])


def crop_and_resize(images: Tensor, boxes: Tensor) -> Tensor:
    """Resize the rectangle of each image to the image's size, by bilinear interpolation within the rectangle.

    Args:
        images: uint8, (B, C, H, W).
        boxes: See `draw_boxes`; on the images' device.

    Returns:
        uint8, (B, C, H, W).
    """
    num_images, channels, height, width = images.shape
    top, left, box_height, box_width = boxes
    low, high, share = _sources(top, box_height, height)
    shape = (num_images, channels, height, width)
    rows = (index[:, None, :, None].expand(shape) for index in (low, high))
    above, below = (images.gather(2, index).float() for index in rows)
    values = torch.lerp(above, below, share[:, None, :, None])
    low, high, share = _sources(left, box_width, width)
    columns = (index[:, None, None, :].expand(shape) for index in (low, high))
    before, after = (values.gather(3, index) for index in columns)
    return torch.lerp(before, after, share[:, None, None, :]).round_().to(torch.uint8)


def _sources(start: Tensor, size: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `length` pixels along an axis, its two source pixels and the second one's share, (B, length) each."""
    centres = torch.arange(length, device=start.device) + 0.5
    places = (centres * (size[:, None] / length) - 0.5).clamp_(min=0)
    last = size[:, None] - 1
    low = places.long().minimum(last)
    high = (low + 1).minimum(last)
    return start[:, None] + low, start[:, None] + high, places - low


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, columns, generator=generator, dtype=torch.float64)

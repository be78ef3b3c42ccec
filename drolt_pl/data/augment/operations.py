"""Image operations on a batch in which every sample has its own operation and magnitude.

The operations and their arithmetic are those of torchvision's AutoAugment, RandAugment and ColorJitter on tensors.
torchvision applies one operation to a whole batch; here samples are grouped by operation. One gather of source pixels
does all geometric operations, and one look-up in a table of each sample does the seven that map values to values.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale


def apply_operations(images: Tensor, operations: Tensor, magnitudes: Tensor, *, fill: int = 0) -> Tensor:
    """Apply to each image its own operation.

    Args:
        images: uint8, (B, C, H, W), C 1 or 3.
        operations: Index into `OPERATIONS` of each, (B,), on the CPU, where grouping them keeps no device waiting.
        magnitudes: Strength of each, (B,), float64, on the CPU: sine for shears, pixels for translations, degrees for
            rotation, factor - 1 for colours, share of the circle for Hue, bits for Posterize, threshold for Solarize;
            other operations have none.
        fill: Value of pixels that come from outside the image.

    Returns:
        uint8, (B, C, H, W).
    """
    out = images.clone()
    for group, function in _GROUPS:
        chosen = torch.isin(operations, torch.tensor([OPERATIONS.index(name) for name in group])).nonzero()[:, 0]
        if len(chosen):
            rows = chosen.to(images.device)
            out[rows] = function(images[rows], operations[chosen], magnitudes[chosen], fill)
    return out


def _geometric(images: Tensor, operations: Tensor, magnitudes: Tensor, fill: int) -> Tensor:
    """Take every pixel from its source under an affine map about the image's centre, rounded to the nearest."""
    num_images, channels, height, width = images.shape
    matrices = _matrices(operations, magnitudes, height, width).to(images.device)
    x = torch.arange(width, device=images.device) + (0.5 - width / 2)
    y = torch.arange(height, device=images.device)[:, None] + (0.5 - height / 2)
    a, b, c = (matrices[:, :, term, None, None] for term in range(3))  # (g, 2, 1, 1): of x, of y, constant
    source = a * x + b * y + c  # (g, 2, H, W)
    columns = (source[:, 0] + (width / 2 - 0.5)).round_().long()
    rows = (source[:, 1] + (height / 2 - 0.5)).round_().long()
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels = (rows.clamp_(0, height - 1) * width).add_(columns.clamp_(0, width - 1)).view(num_images, 1, -1)
    moved = images.view(num_images, channels, -1).gather(2, pixels.expand(-1, channels, -1))
    return torch.where(inside[:, None], moved.view_as(images), fill)


def _matrices(operations: Tensor, magnitudes: Tensor, height: int, width: int) -> Tensor:
    """Inverse affine maps, (g, 2, 3), float32, of coordinates in pixels from the image's centre."""
    matrices = torch.eye(2, 3, dtype=torch.float64).repeat(len(operations), 1, 1)
    kind = [operations == OPERATIONS.index(name) for name in GEOMETRIC]
    shear_x, shear_y, translate_x, translate_y, rotate = (magnitudes * mask for mask in kind)
    # Shears keep the upper and the left edge where they are, as in the authors' code.
    matrices[:, 0, 1] += shear_x
    matrices[:, 0, 2] += shear_x * (height / 2) - translate_x.trunc()
    matrices[:, 1, 0] += shear_y
    matrices[:, 1, 2] += shear_y * (width / 2) - translate_y.trunc()
    angle = rotate.deg2rad()
    matrices[:, 0, 0] += angle.cos() - 1
    matrices[:, 0, 1] -= angle.sin()
    matrices[:, 1, 0] += angle.sin()
    matrices[:, 1, 1] += angle.cos() - 1
    return matrices.float()


def _by_table(images: Tensor, operations: Tensor, magnitudes: Tensor, fill: int) -> Tensor:
    """Look every value up in the table of its sample and channel."""
    num_images, channels = images.shape[:2]
    tables = torch.empty(num_images, channels, 256, dtype=torch.uint8, device=images.device)
    for name, make in TABLES.items():
        chosen = (operations == OPERATIONS.index(name)).nonzero()[:, 0]
        if len(chosen):
            rows = chosen.to(images.device)
            tables[rows] = make(images[rows], magnitudes[chosen].to(images.device)[:, None, None])
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def _values(images: Tensor) -> Tensor:
    return torch.arange(256, device=images.device).expand(1, images.shape[1], 256)


def _brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    return _blend(_values(images), torch.zeros((), device=images.device), 1 + magnitudes)


def _contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    mean = _grey(images).float().mean((1, 2, 3))[:, None, None]
    return _blend(_values(images), mean, 1 + magnitudes)


def _posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    return (_values(images) & -(2 ** (8 - magnitudes.long()))).to(torch.uint8)


def _solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    values = _values(images)
    return torch.where(values >= magnitudes, 255 - values, values).to(torch.uint8)


def _invert(images: Tensor, magnitudes: Tensor) -> Tensor:
    return (255 - _values(images)).to(torch.uint8)


def _auto_contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Stretch each channel's darkest and lightest value to 0 and 255."""
    flat = images.flatten(2)
    low, high = flat.amin(2, keepdim=True).float(), flat.amax(2, keepdim=True).float()
    stretched = ((_values(images) - low) * (255 / (high - low))).clamp_(0, 255)
    return torch.where(high > low, stretched, _values(images)).to(torch.uint8)


def _equalize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Map each channel's values by its cumulative histogram."""
    num_images, channels = images.shape[:2]
    flat = images.flatten(2).long()
    offsets = torch.arange(num_images * channels, device=images.device).view(num_images, channels, 1) * 256
    counts = (flat + offsets).flatten().bincount(minlength=num_images * channels * 256).view(num_images, channels, 256)
    highest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - highest) // 255
    tables = (counts.cumsum(2) + step // 2) // step.clamp(min=1)
    tables = F.pad(tables[:, :, :-1], (1, 0)).clamp_(0, 255)
    return torch.where(step > 0, tables, _values(images)).to(torch.uint8)


def _color(images: Tensor, operations: Tensor, magnitudes: Tensor, fill: int) -> Tensor:
    if images.shape[1] == 1:
        return images
    return _blend(images, _grey(images), 1 + magnitudes.to(images.device)[:, None, None, None])


def _hue(images: Tensor, operations: Tensor, magnitudes: Tensor, fill: int) -> Tensor:
    """Hue turned by a share of the circle, in HSV."""
    if images.shape[1] == 1:
        return images
    rgb = images.float() / 255
    highest, brightest = rgb.max(1)
    span = highest - rgb.amin(1)
    red, green, blue = rgb.unbind(1)
    # In sixths of the circle, from the channel that is highest.
    sixths = torch.stack([green - blue, blue - red, red - green], 1) / span.clamp(min=1e-12)[:, None]
    sixths = (
        sixths.gather(1, brightest[:, None])[:, 0]
        + 2 * brightest
        + 6 * magnitudes.to(images.device).float()[:, None, None]
    )
    turned = []
    for place in (5, 3, 1):
        distance = (place + sixths).remainder(6)
        turned.append(highest - span * torch.minimum(distance, 4 - distance).clamp(0, 1))
    return (torch.stack(turned, 1) * 255.999).to(torch.uint8)  # as torchvision rounds


def _sharpness(images: Tensor, operations: Tensor, magnitudes: Tensor, fill: int) -> Tensor:
    if min(images.shape[2:]) <= 2:
        return images
    # A 3x3 mean whose middle counts five times; the outermost pixels stay.
    values = images.float()
    rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * values[:, :, 1:-1, 1:-1]
    blurred = values.clone()
    blurred[:, :, 1:-1, 1:-1] = (sums / 13).round_()
    return _blend(images, blurred, 1 + magnitudes.to(images.device)[:, None, None, None])


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue).to(torch.uint8)[:, None]


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Compute factor * image + (1 - factor) * other, cut off at 0 and 255; factors are float64."""
    return (factors.float() * images + (1 - factors).float() * others).clamp_(0, 255).to(torch.uint8)


TABLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": _brightness,
    "Contrast": _contrast,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "Invert": _invert,
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
}
OPERATIONS = ("Identity", *GEOMETRIC, *TABLES, "Color", "Sharpness", "Hue")
_GROUPS: tuple[tuple[tuple[str, ...], Callable[[Tensor, Tensor, Tensor, int], Tensor]], ...] = (
    (GEOMETRIC, _geometric),
    (tuple(TABLES), _by_table),
    (("Color",), _color),
    (("Sharpness",), _sharpness),
    (("Hue",), _hue),
)

"""Reading files of images that anybody may have made: regular files, of known formats, of bounded size."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from drolt_pl.errors import SettingError, reason
from drolt_pl.regular import read_regular

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # of PIL; others start programs, as EPS does
MAX_PIXELS = 64_000_000  # that an image may declare
JPEG_START = b"\xff\xd8"
TURNED = (b"Exif\0\0", b"tiff:Orientation")  # what only the head of an image has that may lie on its side
BYTES_PER_PIXEL = 8  # of the widest mode: a file above this many for each pixel allowed is not read
# PIL's lines name no file. Sizes above our own bound are refused below, and damage is an error or does no harm.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


class ImageError(SettingError):
    """An image that cannot be read or does not fit the others."""


class UnreadableError(ImageError):
    """An image file that is missing, damaged, too large, or no regular file."""


def read_image(path: str | Path, max_pixels: int) -> bytes:
    """The content of an image's file, as `read_regular`."""
    return read_regular(path, max_pixels * BYTES_PER_PIXEL)


@contextmanager
def opened_image(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """A file's content as an image that has not been decoded yet.

    Raises:
        UnidentifiedImageError: it is none, or of another format than `FORMATS`.
        OSError: it declares more pixels.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # PIL has a bound of its own
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        require_size(image.width, image.height, max_pixels)
        yield image


def orientation_of(image: Image.Image) -> int:
    """An image's orientation by EXIF or XMP, 1 to 8, with 1 for upright; above 4, width and height change places."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF raises of all kinds; the pixels are whole
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image that has not been decoded yet, once it is upright."""
    width, height = image.size  # of TIFF files, PIL has them upright
    return (height, width) if orientation_of(image) > 4 and image.format != "TIFF" else (width, height)


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Refuses a declared size.

    Raises:
        OSError: it has more pixels.
    """
    if width * height > max_pixels:
        raise OSError(f"it declares {width}x{height} pixels, and max_pixels={max_pixels:,} are allowed")


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, as a clause on one line."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image of the kinds {', '.join(FORMATS)}"
    return reason(error)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn any failure to read a file into an `UnreadableError` that names the file."""
    try:
        yield
    except FileNotFoundError:
        demand = f"must hold every image: {path!r} does not exist"
        raise UnreadableError("root", demand, remedy="correct the root or the list") from None
    except Exception as error:  # decoders raise far more than OSError on damaged bytes
        demand = f"must hold readable images: {path!r} cannot be read ({reason_of(error)})"
        raise UnreadableError("root", demand, remedy="repair or remove it") from None


class JpegHead(NamedTuple):
    """What a JPEG file declares before its pixels.

    Attributes:
        width, height: Found as libjpeg finds them; 0 where it would find none.
        channels: 1 for grey, 3 for colours, 4 for those of print.
        may_be_turned: Whether there are EXIF or XMP data, which may say that it lies on its side.
    """

    width: int
    height: int
    channels: int
    may_be_turned: bool


def jpeg_head(data: bytes) -> JpegHead:
    """Reads the head of a JPEG file's content."""
    width = height = channels = 0
    place = 2
    while True:
        place = data.find(b"\xff", place)
        if place < 0:
            break
        while data[place : place + 1] == b"\xff":
            place += 1
        marker = data[place] if place < len(data) else 0xD9
        place += 1
        if marker == 0 or marker == 1 or 0xD0 <= marker <= 0xD7:
            continue  # a byte of data, or a marker without a length
        if marker in (0xD8, 0xD9, 0xDA):
            break  # a second start, the end, or the scan
        if not channels and 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(data[place + 3 : place + 5]), int.from_bytes(data[place + 5 : place + 7])
            channels = int.from_bytes(data[place + 7 : place + 8])
        place += max(2, int.from_bytes(data[place : place + 2]))
    return JpegHead(width, height, channels, any(data.find(mark, 0, place) >= 0 for mark in TURNED))

"""Which files are images, by their names; files without a suffix by their first bytes."""

import os
from collections import Counter
from contextlib import suppress

from drolt_pl.regular import read_start

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# The first bytes of the formats above.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
LONGEST = 12
SHOWN = 5  # suffixes of other files


def is_image(folder: str | os.PathLike[str], name: str) -> bool:
    """Whether a file is called like an image; the content decides where its name has no suffix.

    Args:
        folder: The folder that the file is in.
        name: Its name there.
    """
    if name.lower().endswith(IMAGE_SUFFIXES):
        return True
    if "." in name:
        return False
    with suppress(OSError):
        start = read_start(os.path.join(folder, name), LONGEST)
        return start.startswith(SIGNATURES) or (start[:4], start[8:]) == (b"RIFF", b"WEBP")
    return False


def suffix_of(name: str) -> str:
    """A file's suffix, by which files that are no images are counted."""
    return os.path.splitext(name)[1].lower() or "without suffix"


def passed_over(others: Counter[str]) -> str:
    """A line on files that are not called like an image, by their suffixes."""
    kinds = ", ".join(f"{suffix} ({number:,})" for suffix, number in others.most_common(SHOWN))
    more = f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
    files = "1 file" if others.total() == 1 else f"{others.total():,} files"
    return f"passed over: {files} not called like an image: {kinds}{more}"

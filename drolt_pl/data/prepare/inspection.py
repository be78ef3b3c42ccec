"""Looking into image files: whether they can be decoded, their sizes and modes, and which are the same."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drolt_pl.data.images.decoding import to_rgb
from drolt_pl.data.images.files import MAX_PIXELS, opened_image, read_image, reason_of, upright_size
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.sources import Source

CHUNK = 64  # files a thread takes at a time
PIECE = 4096  # samples without files that are looked at together


@dataclass
class Inspection:
    """Facts of N files; entries of files that are missing or unreadable stay 0.

    Attributes:
        sizes: Width and height in pixels, (N, 2).
        modes: PIL mode, (N,), text.
        digests: SHA-256 of each file, (N,), 32 bytes each.
        missing: Places of files that do not exist, in order.
        unreadable: Reasons why files cannot be decoded, by place, in order.
    """

    sizes: IntArray
    modes: NDArray[np.str_]
    digests: NDArray[np.void]
    missing: list[int] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)

    def numbers(self) -> NDArray[np.uint64]:
        """The first 64 bits of the digests, (N,), which tell the files of one data set apart."""
        return np.frombuffer(self.digests.tobytes(), np.uint64)[::4].copy()


def inspect_files(
    root: Path,
    names: NDArray[np.bytes_],
    *,
    threads: int,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int], None] = lambda done: None,
) -> Inspection:
    """Read and decode every file.

    Args:
        root: Folder that the names are relative to.
        names: Paths, (N,).
        threads: Threads that decode; PIL releases the interpreter lock while it does.
        max_pixels: That an image may declare.
        progress: Called with how many more files are done.
    """
    found = Inspection(
        sizes=np.zeros((len(names), 2), np.int64),
        modes=np.zeros(len(names), "U8"),
        digests=np.zeros(len(names), "V32"),
    )
    missing: set[int] = set()
    unreadable: dict[int, str] = {}

    def inspect(places: range) -> int:
        for place in places:
            try:
                data = read_image(os.path.join(root, os.fsdecode(names[place])), max_pixels)
            except FileNotFoundError:
                missing.add(place)
                continue
            except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
                unreadable[place] = reason_of(error)
                continue
            found.digests[place] = np.void(hashlib.sha256(data).digest())
            try:
                with opened_image(data, max_pixels) as image:
                    found.sizes[place] = upright_size(image)
                    found.modes[place] = image.mode
                    # Decoding to an eighth of the size is faster, and still reads every byte of the file.
                    image.draft(None, (-(-image.width // 8), -(-image.height // 8)))
                    to_rgb(image)
            except Exception as error:  # decoders raise far more than OSError on damaged bytes
                unreadable[place] = reason_of(error) if data else "empty file"
        return len(places)

    chunks = [range(start, min(start + CHUNK, len(names))) for start in range(0, len(names), CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(inspect, chunks):
            progress(done)
    found.missing = sorted(missing)
    found.unreadable = {place: unreadable[place] for place in sorted(unreadable)}
    return found


def inspect_samples(source: Source, number: int, progress: Callable[[int], None] = lambda done: None) -> Inspection:
    """Look into samples that have no files: images in memory, or stored features.

    Sizes are (W, H) of images and (D, 1) of features, modes the number type; unreadable is what is not finite.

    Args:
        source: Of the samples.
        number: How many there are.
        progress: Called with how many more samples are done.
    """
    width, height = source.shape[2:0:-1] if len(source.shape) == 3 else (source.shape[0], 1)
    digests, unreadable = np.zeros(number, "V32"), {}
    for start in range(0, number, PIECE):
        samples = source.fetch(np.arange(start, min(start + PIECE, number)))
        for place, sample in enumerate(samples, start):
            digests[place] = np.void(hashlib.sha256(sample.numpy().tobytes()).digest())
            if not sample.isfinite().all():
                unreadable[place] = "has values that are not finite"
        progress(len(samples))
    modes = np.full(number, str(source.dtype).removeprefix("torch."))
    return Inspection(np.tile([width, height], (number, 1)), modes, digests, unreadable=unreadable)

"""Images decoded ahead of the network, in the order in which they were named, in memory that does not grow."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from drolt_pl.data.images.files import UnreadableError
from drolt_pl.data.images.preprocessing import ImageLike, Preprocessing
from drolt_pl.errors import SettingError, require_int

T = TypeVar("T")
AHEAD = 2  # batches that are decoded ahead, by each worker process or by the threads
MAX_THREADS = 8


@dataclass(frozen=True)
class Decoded:
    """A batch of images as the network's evaluation view has them.

    Attributes:
        images: What was named, (B).
        pixels: uint8, (n, C, H, W), of the n images that could be read.
        errors: Why an image could not be read, None where it could, (B).
    """

    images: Sequence[ImageLike]
    pixels: Tensor
    errors: Sequence[UnreadableError | None]


def batched(images: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter."""
    source = iter(images)
    while batch := list(islice(source, size)):
        yield batch


def decoded(
    batches: Iterable[Sequence[ImageLike]], preprocessing: Preprocessing, *, workers: int = 0
) -> Iterator[Decoded]:
    """Decodes batch by batch, a few ahead of whoever takes them.

    Args:
        batches: What to decode; it is read as it is needed.
        preprocessing: Makes the evaluation view.
        workers: Processes that decode; 0 decodes in threads of this one.

    Raises:
        SettingError: something that is no image at all, such as a tensor of floats.
    """
    found = _by_processes(batches, preprocessing, workers) if workers else _by_threads(batches, preprocessing)
    for batch in found:
        if isinstance(batch, SettingError):
            raise batch
        yield batch


def read(images: Iterable[ImageLike], preprocessing: Preprocessing, batch_size: int, workers: int) -> Iterator[Decoded]:
    """Decodes any number of images; arguments as in `decoded`.

    Raises:
        SettingError: as `decoded`, or a number out of range.
    """
    require_int("batch_size", batch_size, at_least=1)
    require_int("workers", workers, at_least=0)
    return decoded(batched(images, batch_size), preprocessing, workers=workers)


def views(images: Iterable[ImageLike], preprocessing: Preprocessing, batch_size: int, workers: int) -> Iterator[Tensor]:
    """The evaluation views of a list of images, batch by batch; arguments as in `read`.

    Raises:
        SettingError: as `read`, or no images, or one that cannot be read.
    """
    if isinstance(images, str) or not isinstance(images, Sized) or not len(images):
        raise SettingError("images", "must be a list of at least one image", images)
    for batch in read(images, preprocessing, batch_size, workers):
        for error in batch.errors:
            if error is not None:
                raise error
        yield batch.pixels


def decode(images: Sequence[ImageLike], preprocessing: Preprocessing) -> Decoded | SettingError:
    """Decodes one batch. Errors are values: raised in a worker, one would arrive inside a traceback."""
    try:
        return _collected(images, [_view(image, preprocessing) for image in images], preprocessing)
    except SettingError as error:
        return error


def _view(image: ImageLike, preprocessing: Preprocessing) -> Tensor | UnreadableError:
    try:
        return preprocessing.pixels(image)
    except UnreadableError as error:
        return error


def _collected(
    images: Sequence[ImageLike], views: Sequence[Tensor | UnreadableError], preprocessing: Preprocessing
) -> Decoded:
    readable = [view for view in views if isinstance(view, Tensor)]
    size = preprocessing.image_size
    pixels = torch.stack(readable) if readable else torch.empty(0, preprocessing.channels, size, size).byte()
    return Decoded(images, pixels, [view if isinstance(view, UnreadableError) else None for view in views])


def _by_threads(
    batches: Iterable[Sequence[ImageLike]], preprocessing: Preprocessing
) -> Iterator[Decoded | SettingError]:
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    waiting: deque[tuple[Sequence[ImageLike], list[Future[list[Tensor | UnreadableError]]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:  # decoders release the interpreter lock

        def take() -> Decoded:
            images, parts = waiting.popleft()
            return _collected(images, [view for part in parts for view in part.result()], preprocessing)

        def views(part: Sequence[ImageLike]) -> list[Tensor | UnreadableError]:
            return [_view(image, preprocessing) for image in part]

        try:
            for images in batches:
                chunk = -(-len(images) // threads)
                parts = [pool.submit(views, images[start : start + chunk]) for start in range(0, len(images), chunk)]
                waiting.append((images, parts))
                if len(waiting) > AHEAD:
                    yield take()
            while waiting:
                yield take()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Decoder(Dataset[Decoded | SettingError]):
    """A data set whose keys are batches of images."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __getitem__(self, images: Sequence[ImageLike]) -> Decoded | SettingError:
        return decode(images, self.preprocessing)


def _by_processes(
    batches: Iterable[Sequence[ImageLike]], preprocessing: Preprocessing, workers: int
) -> Iterator[Decoded | SettingError]:
    return iter(
        DataLoader(
            _Decoder(preprocessing),
            # The loader asks it for the next key when a worker is free, so it may be a stream.
            sampler=cast(Sampler[Sequence[ImageLike]], batches),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=AHEAD,
            # Nothing is drawn from it; without it the loader would take its workers' seed from the global state.
            generator=torch.Generator().manual_seed(0),
        )
    )

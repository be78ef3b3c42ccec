"""Decoding: modes, sizes, random crops, damaged files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drolt_pl.data.images.decoding import read_rgb
from drolt_pl.data.images.files import ImageError
from drolt_pl.data.images.sources import FileSource
from drolt_pl.data.images.view import random_resized_box
from drolt_pl.data.seeding import numpy_generator


def source_of(root: Path, *names: str, image_size: int | None = None, train_crop: str = "center") -> FileSource:
    return FileSource(root, np.array(names, dtype=np.bytes_), image_size=image_size, train_crop=train_crop)


def gradient(width: int = 16, height: int = 16) -> np.ndarray:
    return np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = gradient()
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        Image.fromarray(grey).convert(mode).save(tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}")
    (name,) = (path.name for path in tmp_path.iterdir())
    source = source_of(tmp_path, name)
    assert source.shape == (3, 16, 16)
    pixels = source.fetch(np.array([0]))
    assert pixels.shape == (1, 3, 16, 16)
    allowed = {"1": 255, "P": 4}.get(mode, 1)
    assert np.abs(pixels[0].numpy().astype(int) - grey).max() <= allowed


def test_cmyk_jpeg(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).convert("CMYK").save(tmp_path / "a.jpg")
    pixels = source_of(tmp_path, "a.jpg").fetch(np.array([0]))[0].float().mean((1, 2))
    assert pixels[0] > 200
    assert pixels[1] < 60


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 2}, {"subsampling": 0}, {"quality": 30}]
)
def test_jpeg_gives_the_pixels_of_pil(tmp_path: Path, mode: str, options: dict[str, int]) -> None:
    noise = np.random.default_rng(0).integers(256, size=(33, 47, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).convert(mode).save(path, "JPEG", **options)
    with Image.open(path) as image:
        assert np.array_equal(read_rgb(str(path)), np.asarray(image.convert("RGB")))


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(gradient()).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert source_of(tmp_path, "a.png").fetch(np.array([0])).shape == (1, 3, 16, 16)


def test_shrinking_by_two_averages_four_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = source_of(tmp_path, "a.png", image_size=8).fetch(np.array([0]))[0].permute(1, 2, 0).numpy()
    wanted = pixels.reshape(8, 2, 8, 2, 3).astype(float).mean((1, 3))
    assert np.abs(small - wanted).max() <= 1  # PIL rounds after each axis


def test_an_oblong_image_is_cut_to_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for size, edge in ((4, 200), (8, 200), (16, 150)):  # an enlarged image is blended with what lies beside the cut
        view = source_of(tmp_path, "a.png", image_size=size).fetch(np.array([0]))
        assert (view[..., 1:-1] == 200).all()
        assert (view >= edge).all()


def test_threads_change_nothing(tmp_path: Path) -> None:
    names = []
    for index in range(150):
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
        names.append(f"{index}.png")
    source = source_of(tmp_path, *names)
    order = np.random.default_rng(0).permutation(150)
    pixels = source.fetch(order, threads=4)
    assert pixels[:, 0, 0, 0].tolist() == order.tolist()
    assert (pixels == source.fetch(order)).all()
    assert source.fetch(order[:0], threads=4).shape == (0, 3, 4, 4)


def test_random_crops_follow_their_key(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([gradient(40, 30)] * 3)).save(tmp_path / "a.png")
    source = source_of(tmp_path, "a.png", image_size=8, train_crop="random_resized")
    twice = np.array([0, 0])
    first, second = source.fetch(twice, [(0, 1, 5), (0, 1, 6)])
    assert (first != second).any()
    assert (source.fetch(twice, [(0, 1, 6), (0, 1, 5)])[1] == first).all()
    plain = source.fetch(twice)
    assert (plain[0] == plain[1]).all()


def test_the_evaluation_view_is_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[4:60, 20:76] = 120  # 56 of 64: the share of 224 in 256
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = source_of(tmp_path, "a.png", image_size=28, train_crop="random_resized")
    view = source.fetch(np.array([0]))
    assert (view[..., 1:-1, 1:-1] == 120).all()
    assert (view > 80).all()  # the outermost pixels are blended with what lies beside the cut


def test_boxes_have_allowed_areas_and_aspects() -> None:
    generator = numpy_generator("test", 0)
    boxes = np.array([random_resized_box(100, 80, generator) for _ in range(500)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 100
    assert boxes[:, 3].max() <= 80
    area = widths * heights / 8000
    assert area.min() > 0.07
    assert area.max() <= 1
    assert 0.4 < area.mean() < 0.6
    assert (widths / heights).min() > 0.7
    assert (widths / heights).max() < 1.4


def test_a_very_long_image_falls_back_to_its_centre() -> None:
    assert random_resized_box(1000, 10, numpy_generator("test", 0)) == (493.5, 0.0, 506.5, 10.0)
    assert random_resized_box(10, 1000, numpy_generator("test", 0)) == (0.0, 493.5, 10.0, 506.5)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    for index, name in enumerate(["truncated.jpg", "empty.jpg", "text.jpg"]):
        source = source_of(tmp_path, "truncated.jpg", "empty.jpg", "text.jpg", image_size=8)
        with pytest.raises(
            ImageError,
            match=rf"^root must hold readable images: '.*{name}' cannot be read \(.*\); repair or remove it$",
        ):
            source.fetch(np.array([index]), threads=2)
    with pytest.raises(
        ImageError, match=r"^root must hold every image: '.*none.jpg' does not exist; correct the root or the list$"
    ):
        source_of(tmp_path, "none.jpg", image_size=8).fetch(np.array([0]))


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    for index, size in enumerate((8, 10)):
        Image.fromarray(gradient(size, size)).save(tmp_path / f"{index}.png")
    with pytest.raises(
        ImageError, match=r"^image_size must be given .*'.*1.png' has 10x10 pixels, the first image 8x8$"
    ):
        source_of(tmp_path, "0.png", "1.png").fetch(np.array([0, 1]))

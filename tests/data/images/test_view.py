"""Views of image files: fewer pixels are decoded where a view needs fewer, and they stay what they were."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from drolt_pl.data.images import decoding
from drolt_pl.data.images.decoding import read_rgb, read_view, to_rgb
from drolt_pl.data.images.files import UnreadableError
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.images.view import View, random_resized_box
from drolt_pl.data.seeding import numpy_generator


def photo(width: int = 500, height: int = 375) -> Image.Image:
    """Smooth noise with edges."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(256, size=(12, 16, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.array(smooth)
    pixels[height // 3 : height // 2, width // 4 : width // 3] = (250, 10, 10)
    return Image.fromarray(pixels)


def plain(image: Image.Image, view: View) -> np.ndarray:
    """Cut from all pixels, and resized by PIL."""
    cut = view.cut(image.width, image.height)
    box = cut.box
    if cut.whole:
        left, top, right, bottom = (int(value) for value in box)
        image, box = image.crop((left, top, right, bottom)), (0, 0, right - left, bottom - top)
    return np.asarray(image.resize((view.size, view.size), cut.filter, box=box)).astype(int)


def drawn(size: int, crop: str) -> View:
    return View(size, "random_resized", numpy_generator("test", 3)) if crop == "drawn" else View(size, crop)


@pytest.mark.parametrize("options", [{"quality": 75}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("crop", ["drawn", "random_resized", "center"])
def test_a_view_of_a_file_is_that_of_its_pixels(tmp_path: Path, crop: str, options: dict[str, int]) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path, **options)
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    for size, allowed in ((224, 0.1), (96, 1.5), (24, 2.5)):
        seen = read_view(str(path), drawn(size, crop)).astype(int)
        assert seen.shape == (size, size, 3)
        assert np.abs(seen - plain(pixels, drawn(size, crop))).mean() < allowed


def test_a_reduced_image_keeps_half_again_the_pixels_of_its_view() -> None:
    reductions = {size: View(size, "random_resized").cut(500, 375).reduction() for size in (224, 128, 64, 32, 8)}
    assert reductions == {224: 1, 128: 2, 64: 4, 32: 8, 8: 8}
    reductions = {size: View(size).cut(500, 375).reduction() for size in (64, 32, 16)}
    assert reductions == {64: 1, 32: 2, 16: 4}  # PIL's BOX needs more


@pytest.mark.parametrize("crop", ["random_resized", "center"])
@pytest.mark.parametrize("size", [8, 24, 32, 64, 96, 224])
def test_no_header_is_looked_at_in_vain(crop: str, size: int) -> None:
    for shorter in range(16, 700, 4):
        view = View(size, crop)
        if view.cut(shorter + 40, shorter).reduction() > 1:
            assert view.may_reduce(shorter + 40, shorter)
        elif crop == "center":
            assert not view.may_reduce(shorter + 40, shorter)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [24, 224])
def test_a_turned_file_is_seen_upright(tmp_path: Path, orientation: int, size: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    photo().save(path, exif=exif, quality=95)
    upright = Image.fromarray(read_rgb(str(path)))
    assert upright.size == ((500, 375) if orientation < 5 else (375, 500))
    for crop in ("drawn", "center"):
        seen = read_view(str(path), drawn(size, crop)).astype(int)
        assert np.abs(seen - plain(upright, drawn(size, crop))).mean() < 4  # BOX's whole pixels are others


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_turned_file_is_reduced_in_place(tmp_path: Path, orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    photo(293, 201).convert(mode).save(path, exif=exif, quality=95)  # an eighth has parts of pixels on two sides
    upright = Image.fromarray(read_rgb(str(path)))
    seen = read_view(str(path), View(16, "random_resized")).astype(int)
    assert np.abs(seen - plain(upright, View(16, "random_resized"))).mean() < 4


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_is_none_is_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo().save(tmp_path / "a.jpg")
    photo().save(tmp_path / "b.jpg", exif=exif)
    for view in (View(24), View(24, "random_resized"), View(224)):
        assert np.array_equal(*(read_view(str(tmp_path / name), view) for name in ("a.jpg", "b.jpg")))


@pytest.mark.parametrize("form", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_an_orientation_in_xmp_has_pils_pixels(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path, xmp=form.encode())
    with Image.open(path) as image:
        assert image.size == (500, 375)
        wanted = np.asarray(ImageOps.exif_transpose(image))
    assert wanted.shape == (500, 375, 3)
    assert np.array_equal(read_rgb(str(path)), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_has_pils_pixels(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    photo().save(path, exif=exif)
    with Image.open(path) as image:
        assert np.array_equal(read_rgb(str(path)), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("reduced", [1, 2, 4, 8])
def test_a_reduced_file_has_pils_pixels(tmp_path: Path, reduced: int, options: dict[str, int]) -> None:
    path = tmp_path / "a.jpg"
    for size in ((500, 375), (501, 333), (64, 257)):
        photo().resize(size).save(path, **options)
        with Image.open(path) as image:
            image.draft(None, (size[0] // reduced, size[1] // reduced))
            assert np.array_equal(decoding._Jpeg(path.read_bytes(), 10**6).pixels(reduced), np.asarray(image))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 3_000))
def test_a_damaged_file_has_pils_pixels_or_none(tmp_path: Path, changes: list[tuple[int, int]], missing: int) -> None:
    file = io.BytesIO()
    photo().resize((60, 45)).save(file, "JPEG", quality=90)
    data = bytearray(file.getvalue())
    for place, value in changes:
        data[place % len(data)] = value
    if missing % 4 == 0:
        data = data[: len(data) - missing % len(data)]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    try:
        with Image.open(path) as image:
            wanted = np.asarray(to_rgb(image))
    except Exception:
        return  # PIL reads heads with more care than libjpeg
    assert np.array_equal(read_rgb(str(path)), wanted)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_are_reduced_too(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    photo().convert(mode).save(path, quality=95)
    with Image.open(path) as image:
        wanted = plain(image.convert("RGB"), View(24))
    assert np.abs(read_view(str(path), View(24)).astype(int) - wanted).mean() < 2.5


@pytest.mark.parametrize("size", [24, 224])
def test_damage_and_size_are_refused_at_every_scale(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path)
    assert read_view(str(path), View(size), 500 * 375).shape == (size, size, 3)
    with pytest.raises(UnreadableError, match="it declares 500x375 pixels, and max_pixels=187,499 are allowed"):
        read_view(str(path), View(size), 500 * 375 - 1)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_view(str(path), View(size))


def test_the_box_is_drawn_once() -> None:
    view = View(32, "random_resized", numpy_generator("test", 1))
    assert view.cut(500, 375).box == random_resized_box(500, 375, numpy_generator("test", 1))


def test_predictions_see_what_training_saw(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path)
    for crop in ("center", "random_resized"):
        preprocessing = Preprocessing(image_size=24, channels=3, crop=crop, mean=(0, 0, 0), std=(1, 1, 1))
        seen = preprocessing.pixels(path).permute(1, 2, 0).numpy()
        assert np.array_equal(seen, read_view(str(path), View(24, crop)))
        assert preprocessing.pixels(photo()).shape == (3, 24, 24)

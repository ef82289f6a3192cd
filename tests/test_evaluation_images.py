"""Reading of single images: formats, rotation, resizing and errors."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pymobilenet.errors import DataError
from pymobilenet.evaluation import read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def saved(path, pixels=PIXELS, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_an_image_of_the_right_size_is_unchanged(tmp_path):
    pixels = PIXELS[:32, :32]
    assert (read_image(saved(tmp_path / "a.png", pixels), 32) == pixels).all()


def test_a_file_is_detected_by_its_content_and_not_by_its_suffix(tmp_path):
    path = saved(tmp_path / "a.png").rename(tmp_path / "a.txt")
    assert read_image(path, 32).shape == (32, 32, 3)


def test_a_larger_image_is_averaged_and_not_sampled(tmp_path):
    """Columns of black and white: a filter that skips pixels would leave some of either."""
    stripes = np.zeros((64, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = read_image(saved(tmp_path / "a.png", stripes), 32)
    assert small.min() > 100
    assert small.max() < 155


def test_the_centred_square_is_cropped(tmp_path):
    wide = np.random.default_rng(1).integers(0, 256, (32, 97, 3), np.uint8)
    assert (read_image(saved(tmp_path / "a.png", wide), 32) == wide[:, 32:64]).all()
    tall = wide.transpose(1, 0, 2)
    assert (read_image(saved(tmp_path / "b.png", tall), 32) == tall[32:64]).all()


def test_a_smaller_image_is_interpolated(tmp_path):
    edge = np.zeros((2, 2, 3), np.uint8)
    edge[:, 1] = 255
    row = read_image(saved(tmp_path / "a.png", edge), 32)[0, :, 0]
    assert (np.diff(row.astype(int)) >= 0).all()
    assert len(np.unique(row)) > 10


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (8, np.rot90),
    ],
)
def test_an_image_is_rotated_by_its_exif_orientation(tmp_path, orientation, turn):
    """Orientation 6: the first row of the file is the right side of the scene (EXIF 2.3, 4.6.4)."""
    pixels, exif = PIXELS[:32, :32], Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", pixels, exif=exif)
    assert (read_image(path, 32) == turn(pixels)).all()


GRAY = PIXELS[:32, :32, 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GRAY), GRAY),
        (Image.fromarray(GRAY.astype(np.uint16) * 257), GRAY),
        (Image.fromarray(GRAY > 99), (GRAY > 99) * 255),
        (Image.merge("LA", [Image.fromarray(GRAY)] * 2), GRAY),
        (Image.fromarray(np.dstack([GRAY] * 4)), GRAY),
    ],
    ids=["8 bits", "16 bits", "1 bit", "gray with alpha", "alpha"],
)
def test_every_mode_becomes_8_bits_of_rgb(tmp_path, image, expected):
    image.save(tmp_path / "a.png")
    result = read_image(tmp_path / "a.png", 32)
    assert (result == np.asarray(expected)[:, :, None]).all()


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "tga", "ico"]
)
def test_formats(tmp_path, suffix):
    smooth = np.full((40, 48, 3), (200, 100, 50), np.uint8)
    result = read_image(saved(tmp_path / f"a.{suffix}", smooth), 32)
    assert np.abs(result.astype(int) - (200, 100, 50)).max() < 8


def test_a_palette_with_transparency_keeps_its_colours(tmp_path):
    image = Image.fromarray(np.full((32, 32, 3), (200, 100, 50), np.uint8)).quantize(2)
    image.save(tmp_path / "a.png", transparency=bytes([128, 0]))
    assert (read_image(tmp_path / "a.png", 32) == (200, 100, 50)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "no image that Pillow reads"),
        (b"hello", "no image that Pillow reads"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no image"),
    ],
    ids=["absent", "empty", "text", "a program for Ghostscript"],
)
def test_a_file_that_is_not_an_image_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "odd.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"odd\.png: {message}"):
        read_image(path, 32)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path.name}: a folder; name the image files"):
        read_image(tmp_path, 32)


@pytest.mark.parametrize("size", [(9500, 9500), (20000, 20000)])
def test_decompression_bombs_are_refused(tmp_path, size):
    """Some hundred bytes that claim 90 or 400 million pixels; Pillow itself warns of the first."""
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, "BMP")
    claim = bytearray(header.getvalue())
    claim[18:26] = b"".join(number.to_bytes(4, "little") for number in size)
    (tmp_path / "bomb.bmp").write_bytes(claim)
    with pytest.raises(DataError, match=r"bomb\.bmp: an image must have at most 89478485 pixels"):
        read_image(tmp_path / "bomb.bmp", 32)


def test_values_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="Received: Pillow's mode F"):
        read_image(tmp_path / "a.tiff", 32)


FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS"]


@given(st.sampled_from(FORMATS), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_damaged_images_are_read_or_refused_by_name(tmp_path, kind, data):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        offset = data.draw(st.integers(0, min(len(content) - 1, 200)))
        content[offset] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path / "odd"
    path.write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    try:
        assert read_image(path, 32).shape == (32, 32, 3)
    except DataError as error:
        assert "odd: " in str(error)  # noqa: PT017  # either is right

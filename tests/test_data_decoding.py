"""Decoding of PNG and JPEG files to RGB bytes of one size, and errors for damaged files."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_files import encoded, pixels_of, png
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from pymobilenet.data import synthetic
from pymobilenet.data.decoding import decode, resized, unwarned
from pymobilenet.errors import DataError

PNG = png(pixels_of(0, 8, 8))
JPEG = encoded(Image.fromarray(pixels_of(0, 8, 8)), "JPEG")


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_that_claims(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_a_png_is_decoded_exactly():
    pixels = pixels_of(1, 4, 7)
    assert (decode(png(pixels), None) == pixels.transpose(2, 0, 1)).all()
    assert decode(png(pixels), None).flags.c_contiguous


def test_grey_palette_and_transparent_images_become_rgb():
    grey = Image.fromarray(pixels_of(2)[:, :, 0])
    expected = np.stack([np.asarray(grey)] * 3)
    for image in (grey, grey.convert("LA"), grey.convert("RGBA"), grey.convert("P")):
        assert (decode(encoded(image, "PNG"), None) == expected).all(), image.mode
    clear = encoded(grey.convert("P"), "PNG", transparency=bytes(range(256)))
    assert (decode(clear, None) == expected).all()
    white = np.full((3, 6, 6), 255)
    for mode in ("1", "CMYK"):
        image = Image.fromarray(np.full((6, 6, 3), 255, np.uint8)).convert(mode)
        assert (decode(encoded(image, "PNG" if mode == "1" else "JPEG"), None) == white).all(), mode


@pytest.mark.parametrize(("height", "width"), [(6, 9), (9, 6), (7, 7)])
def test_the_centred_square_is_resized_by_pillows_antialiased_filter(height, width):
    pixels = pixels_of(3, height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    expected = np.asarray(square.resize((4, 4), Image.Resampling.BILINEAR))
    assert (decode(png(pixels), 4) == expected.transpose(2, 0, 1)).all()
    assert (
        decode(png(np.full((height, width, 3), 77, np.uint8)), 4).tolist() == [[[77] * 4] * 4] * 3
    )


def test_a_resolution_that_is_the_size_already_changes_nothing():
    assert (decode(PNG, 8) == decode(PNG, None)).all()


def with_orientation(image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "PNG", exif=exif)


@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_pillow_turns_it(orientation):
    content = with_orientation(Image.fromarray(pixels_of(4, 6, 9)), orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert (decode(content, None) == expected.transpose(2, 0, 1)).all()


def test_an_orientation_that_cannot_be_read_turns_nothing():
    """Its pixels are whole, and nothing but the orientation is wanted of the rest."""
    plain = Image.fromarray(pixels_of(4, 6, 9))
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n  9\nno digits")
    for odd in (
        encoded(plain, "PNG", pnginfo=text),
        encoded(plain, "PNG", exif=b"Exif\0\0no TIFF at all"),
    ):
        assert (decode(odd, None) == decode(encoded(plain, "PNG"), None)).all()


def test_warnings_about_image_metadata_are_suppressed():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x63\0\x12\x01"  # 99 tags, of which none is whole
    content = encoded(Image.fromarray(pixels_of(4)), "JPEG", exif=exif)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        decode(content, None)
        assert warned
        warned.clear()
        with unwarned():
            decode(content, None)
        assert not warned


def test_16_bit_images_are_scaled_to_8_bits_and_other_formats_read_on_request():
    grey = pixels_of(5)[:, :, 0]
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    for form, any_format in (("PNG", False), ("TIFF", True)):
        assert (decode(encoded(wide, form), None, any_format) == grey).all()
    floats = encoded(Image.fromarray(grey.astype(np.float32)), "TIFF")
    with pytest.raises(DataError, match=r"1, 8 or 16 bits per channel. Received: Pillow's mode F"):
        decode(floats, None, any_format=True)
    with pytest.raises(DataError, match=r"^no image that Pillow reads$"):
        decode(b"hello", None, any_format=True)


def test_a_data_set_is_resized_image_by_image():
    data = synthetic(3)
    small = resized(data, 8)
    assert small.images.shape == (3, 3, 8, 8)
    assert (small.images[1] == decode(png(data.images[1].transpose(1, 2, 0)), 8)).all()
    assert small.labels.tolist() == data.labels.tolist()
    assert small.source == f"{data.source}, resized to 8"
    assert resized(data, None) is resized(data, 32) is data


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "^no PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM file$"),
        (b"<html>404</html>", "^no PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM file$"),
        (
            encoded(Image.fromarray(pixels_of(0)), "TGA"),
            "^no PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM file$",
        ),
        (
            encoded(Image.fromarray(pixels_of(0)), "PCX"),
            "^no PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM file$",
        ),
        (PNG[: len(PNG) // 2], "truncated"),
        (JPEG[: len(JPEG) // 2], "Truncated"),
        (png_that_claims(10_000, 9_000), "at most 89478485 pixels. Received: "),
        (png_that_claims(2**31 - 1, 2**31 - 1), "Decompression|pixels|Unidentified"),
        (png_that_claims(4000, 4000), "truncated|incomplete|broken"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else f"{len(value)} bytes",
)
def test_what_cannot_be_decoded_is_refused(content, rule):
    with pytest.raises(DataError, match=rule):
        decode(content, 4)


@settings(deadline=None, database=None, max_examples=300)
@given(
    start=st.sampled_from([PNG, JPEG]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5),
    end=st.integers(0, 400),
)
@example(start=PNG, changes=[], end=400)
def test_a_file_with_changed_bytes_gives_pixels_or_a_data_error(start, changes, end):
    content = bytearray(start)
    for offset, value in changes:
        content[offset % len(content)] = value
    try:
        pixels = decode(bytes(content[: max(end, 1)]), 4)
    except DataError:
        return
    assert (pixels.shape, pixels.dtype) == ((3, 4, 4), np.uint8)

"""Uploaded pictures: the rules with exact pixels, the refusals, and a malformed set made here.

Decoded in this process, where the rules are the same; `test_decoder.py` is about the process that the app starts.
"""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, WebPImagePlugin

from explorer.core import BadImage, InvalidValue
from explorer.data import Upload, decoder, read_upload, upload
from explorer.data.decoder import MAX_SCANS, PREVIEW_SIDE
from explorer.data.upload import MAX_BYTES

RGB, GREY = (3, 32, 32), (1, 28, 28)


@pytest.fixture(autouse=True)
def decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    upload._read.cache_clear()
    monkeypatch.setattr(upload, "_in_child", decoder.decode)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(H,W,C) uint8, or (H,W) for one channel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def smooth(height: int, width: int) -> np.ndarray:
    """(H,W,3) uint8 without symmetry, and kind to JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / (width - 1), 255 * y / (height - 1), 127.5 * x / (width - 1)], 2).astype(np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its raw, unfiltered rows (each begins with a zero byte)."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png16(values: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    """A 16-bit PNG of (H,W,channels) uint16."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour_type, rows, extra)


def webp_header(width: int, height: int) -> bytes:
    """An animated WebP with a large canvas and one small frame."""

    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    def three(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(3, "little") for number in numbers)

    picture = saved(noise(8, 8), "WEBP", lossless=True)[12:]
    frame = part(b"ANMF", three(0, 0, 7, 7, 100) + b"\0" + picture)
    canvas = part(b"VP8X", b"\x02\0\0\0" + three(width - 1, height - 1))
    body = b"WEBP" + canvas + part(b"ANIM", bytes(6)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def levels(upload: Upload) -> np.ndarray:
    """(C,H,W) uint8; checks on the way that the pixels are 8-bit levels."""
    assert upload.pixels.dtype == torch.float32
    scaled = upload.pixels * 255
    assert torch.equal(scaled.round() / 255, upload.pixels)
    return scaled.round().byte().numpy()


def says(upload: Upload, *words: str) -> bool:
    return len(upload.notes) == len(words) and all(w in n for w, n in zip(words, upload.notes, strict=True))


def refusal(data: bytes, name: str = "cat.png", shape: tuple[int, int, int] = RGB) -> str:
    """The one sentence with which an upload is refused."""
    with pytest.raises(BadImage) as caught:
        read_upload(data, name, shape)
    return one_sentence(caught.value)


def one_sentence(error: BadImage) -> str:
    text = str(error)
    assert text.endswith(".") and "\n" not in text and len(text) < 250
    assert not any(word in text for word in ("Traceback", "Error", "PIL", "0x", "<_io"))
    return text


# The rules, with exact pixels


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_image_of_the_right_size_passes_unchanged(kind: str) -> None:
    pixels = noise(32, 32)
    upload = read_upload(saved(pixels, kind, lossless=True), "a." + kind, RGB)
    assert (levels(upload) == pixels.transpose(2, 0, 1)).all()
    assert (upload.preview == pixels).all() and upload.preview.dtype == np.uint8
    assert upload.notes == () and upload.size == (32, 32) and upload.pixels.shape == RGB


def test_a_jpeg_comes_close() -> None:
    upload = read_upload(saved(smooth(32, 32), "JPEG", quality=100, subsampling=0), "a.jpg", RGB)
    assert abs(levels(upload).astype(int) - smooth(32, 32).transpose(2, 0, 1)).max() <= 4
    assert upload.notes == ()


def test_grey_for_a_colour_network_is_repeated() -> None:
    pixels = noise(32, 32, 1)
    upload = read_upload(saved(pixels, "PNG"), "a.png", RGB)
    assert (levels(upload) == pixels).all() and says(upload, "Grey was repeated")


def test_grey_for_a_grey_network_passes_unchanged() -> None:
    pixels = noise(28, 28, 1)
    upload = read_upload(saved(pixels, "PNG"), "a.png", GREY)
    assert (levels(upload)[0] == pixels).all() and upload.notes == () and upload.pixels.shape == GREY


def test_colour_for_a_grey_network_becomes_luma() -> None:
    pixels = noise(28, 28)
    upload = read_upload(saved(pixels, "PNG"), "a.png", GREY)
    assert abs(levels(upload)[0] - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
    assert says(upload, "0.299 red")


@pytest.mark.parametrize(("value", "level"), [(0, 0), (255, 0), (256, 1), (511, 1), (32768, 128), (65535, 255)])
@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_sixteen_bits_keep_the_high_byte(value: int, level: int, colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = np.full((32, 32, channels), value, np.uint16)
    if colour_type >= 4:
        values[:, :, -1] = 65535  # opaque
    upload = read_upload(png16(values, colour_type), "a.png", RGB)
    assert (levels(upload) == level).all()
    assert says(upload, "16 bits a channel became 8", *(["Grey was repeated"] if colour_type in (0, 4) else []))


def test_sixteen_bit_grey_with_a_transparent_value() -> None:
    values = np.full((32, 32, 1), 300, np.uint16)
    values[:16] = 301
    upload = read_upload(png16(values, 0, chunk(b"tRNS", struct.pack(">H", 300))), "a.png", RGB)
    assert (levels(upload)[:, :16] == 1).all() and (levels(upload)[:, 16:] == 255).all()


def test_sixteen_bit_colour_with_a_transparent_colour() -> None:
    values = np.full((32, 32, 3), 0x1234, np.uint16)
    values[:16] = 0x5678
    upload = read_upload(png16(values, 2, chunk(b"tRNS", struct.pack(">3H", *[0x1234] * 3))), "a.png", RGB)
    assert (levels(upload)[:, :16] == 0x56).all() and (levels(upload)[:, 16:] == 255).all()


def test_one_bit_images() -> None:
    pixels = noise(32, 32, 1) > 127
    upload = read_upload(saved(Image.fromarray(pixels), "PNG"), "a.png", RGB)
    assert (levels(upload) == 255 * pixels).all()


@pytest.mark.parametrize("alpha", [0, 1, 64, 128, 254])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_put_on_white(alpha: int, kind: str) -> None:
    pixels = noise(32, 32, 4)
    pixels[:, :, 3] = alpha
    upload = read_upload(saved(pixels, kind, lossless=True, exact=True), "a", RGB)
    colour = pixels[:, :, :3].astype(float).transpose(2, 0, 1)
    expected = 255 + (colour - 255) * alpha / 255
    assert abs(levels(upload) - expected).max() <= 1
    assert abs(upload.preview.transpose(2, 0, 1) - expected).max() <= 1
    assert says(upload, "put on white")


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    pixels = noise(32, 32, 4)
    pixels[:, :, 3] = 255
    upload = read_upload(saved(pixels, "PNG"), "a.png", RGB)
    assert (levels(upload) == pixels[:, :, :3].transpose(2, 0, 1)).all() and upload.notes == ()


def test_grey_with_alpha() -> None:
    pixels = np.full((32, 32, 2), (0, 128), np.uint8)
    upload = read_upload(saved(Image.fromarray(pixels, "LA"), "PNG"), "a.png", RGB)
    assert abs(levels(upload).astype(int) - 127).max() <= 1 and says(upload, "put on white", "Grey was repeated")


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 10, 200, 30, 255, 0, 0])
    image.paste(2, (0, 0, 32, 16))
    plain = read_upload(saved(image, "PNG"), "a.png", RGB)
    assert levels(plain)[:, 0, 0].tolist() == [255, 0, 0] and levels(plain)[:, 31, 0].tolist() == [10, 200, 30]
    assert says(plain, "palette")
    clear = read_upload(saved(image, "PNG", transparency=2), "a.png", RGB)
    assert levels(clear)[:, 0, 0].tolist() == [255, 255, 255] and levels(clear)[:, 31, 0].tolist() == [10, 200, 30]
    assert says(clear, "palette", "put on white")
    half = read_upload(saved(image, "PNG", transparency=bytes([255, 255, 128])), "a.png", RGB)
    assert abs(levels(half)[:, 0, 0].astype(int) - [255, 127, 127]).max() <= 1


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 255, 0), (0, 255, 0)),
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_cmyk_jpegs(ink: tuple[int, ...], colour: tuple[int, ...]) -> None:
    data = saved(Image.new("CMYK", (32, 32), ink), "JPEG", quality=100)
    assert b"Adobe" in data[:64]  # the marker of Adobe's inverted ink
    upload = read_upload(data, "a.jpg", RGB)
    assert abs(levels(upload).astype(int) - np.reshape(colour, (3, 1, 1))).max() <= 3
    assert says(upload, "CMYK")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.fromarray(noise(32, 32, seed=k)) for k in range(3)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    upload = read_upload(data, "a", RGB)
    assert (levels(upload) == noise(32, 32, seed=0).transpose(2, 0, 1)).all()
    assert says(upload, "3 frames; the first one is used")


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The same picture as a camera held otherwise would store it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return (image.transpose(UNDO[orientation]) if orientation in UNDO else image), exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_all_exif_orientations_give_one_result(orientation: int, mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(noise(40, 64, 1).astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(noise(40, 64)).convert(mode)
    stored, exif = turned(picture, orientation)
    straight, upright = (read_upload(d, "a", RGB) for d in (saved(picture, "PNG"), saved(stored, "PNG", exif=exif)))
    assert torch.equal(straight.pixels, upright.pixels) and (straight.preview == upright.preview).all()
    assert upright.size == (64, 40)
    assert any("upright" in note for note in upright.notes) == (orientation > 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "tolerance"), [("WEBP", 0), ("JPEG", 4)])
def test_exif_orientations_of_other_formats(orientation: int, kind: str, tolerance: int) -> None:
    stored, exif = turned(Image.fromarray(smooth(40, 64)), orientation)
    data = saved(stored, kind, exif=exif, lossless=True, quality=100, subsampling=0)
    expected = levels(read_upload(saved(smooth(40, 64), "PNG"), "a", RGB)).astype(int)
    assert abs(levels(read_upload(data, "a", RGB)) - expected).max() <= tolerance


def test_the_centre_is_cut_out() -> None:
    pixels = np.zeros((32, 100, 3), np.uint8)
    pixels[:, 34:66] = noise(32, 32)
    upload = read_upload(saved(pixels, "PNG"), "a.png", RGB)
    assert (levels(upload) == noise(32, 32).transpose(2, 0, 1)).all()
    assert says(upload, "Cropped to its centre, 32 x 32 of 100 x 32")
    assert upload.preview.shape == (32, 100, 3) and upload.size == (100, 32)
    tall = read_upload(saved(pixels.transpose(1, 0, 2).copy(), "PNG"), "a.png", RGB)
    assert (levels(tall) == noise(32, 32).transpose(2, 1, 0)).all()


def test_shrinking_averages_and_enlarging_is_smooth() -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    upload = read_upload(saved(stripes, "PNG"), "a.png", RGB)
    assert abs(levels(upload)[:, :, 1:-1].astype(int) - 128).max() <= 6  # not all black or all white, as by picking
    assert says(upload, "Resized from 320 x 320 to 32 x 32")
    ramp = read_upload(saved(smooth(16, 16), "PNG"), "a.png", RGB)
    assert (np.diff(levels(ramp)[0].astype(int), axis=1) >= 0).all()
    assert says(ramp, "Resized from 16 x 16 to 32 x 32")


def test_a_network_that_is_not_square() -> None:
    upload = read_upload(saved(smooth(60, 60), "PNG"), "a.png", (3, 20, 40))
    assert upload.pixels.shape == (3, 20, 40) and "60 x 30 of 60 x 60" in upload.notes[0]


def test_the_preview_is_the_whole_picture_made_small() -> None:
    upload = read_upload(saved(smooth(700, 1400), "PNG"), "a.png", RGB)
    assert upload.preview.shape == (PREVIEW_SIDE // 2, PREVIEW_SIDE, 3) and upload.size == (1400, 700)
    thin = read_upload(saved(np.zeros((8, 9000, 3), np.uint8), "PNG"), "a.png", RGB)
    assert thin.preview.shape == (1, PREVIEW_SIDE, 3)


def test_a_colour_profile_is_ignored_and_said_so() -> None:
    upload = read_upload(saved(noise(32, 32), "PNG", icc_profile=b"not read"), "a.png", RGB)
    assert (levels(upload) == noise(32, 32).transpose(2, 0, 1)).all() and says(upload, "colour profile")


# Refusals


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"just some text", "another kind of file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "an SVG drawing"),
        (b"\n<?xml version='1.0'?><svg/>", "an SVG or XML file"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"%PDF-1.7", "a PDF"),
        (saved(noise(32, 32), "BMP"), "a BMP"),
        (saved(noise(32, 32), "TIFF"), "a TIFF"),
        (saved(noise(32, 32), "PPM"), "another kind of file"),
        (b"\0\0\0\x18ftypheic" + bytes(64), "an HEIC photo"),
        (b"SIMPLE  =                    T" + bytes(2880), "another kind of file"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(64), "another kind of file"),
    ],
)
def test_other_files_are_refused_whatever_their_name(data: bytes, words: str) -> None:
    for name in ("cat.png", "cat.jpg", "cat.webp"):
        text = refusal(data, name)
        assert text.startswith(name) and words in text and "PNG, JPEG or WebP" in text


def test_too_many_bytes() -> None:
    assert "25.0 MB; the limit is 25 MB" in refusal(bytes(MAX_BYTES + 1))
    assert "limit" not in refusal(bytes(MAX_BYTES))


BOMBS = {
    "9000x9000, 1 bit": (png(9000, 9000, 1, 0, bytes(9000 * 1126)), "9000 x 9000 pixels; the limit is 4 million"),
    "14000x14000, 1 bit": (png(14000, 14000, 1, 0, bytes(14000 * 1751)), "far too many pixels"),
    "1x20000": (png(1, 20000, 8, 0, bytes(40000)), "1 x 20000 pixels; each side must have 8 to 10,000"),
    "20000x1": (png(20000, 1, 8, 0, bytes(20001)), "20000 x 1 pixels; each side must have 8 to 10,000"),
    "12000x8": (png(12000, 8, 8, 0, bytes(12001 * 8)), "12000 x 8 pixels; each side"),
    "2001x2000": (png(2001, 2000, 1, 0, bytes(252 * 2000)), "2001 x 2000 pixels; the limit"),
    "7x7": (saved(noise(7, 7), "PNG"), "7 x 7 pixels; each side must have 8"),
    "header of 2^31-1": (png(2**31 - 1, 2**31 - 1, 8, 6, b"\0"), "far too many pixels"),
    "JPEG 9000x9000": (
        saved(noise(8, 8), "JPEG").replace(b"\x08\0\x08\0\x08\x03", b"\x08\x23\x28\x23\x28\x03"), "9000 x 9000 pixels"
    ),
    "WebP 9000x9000": (webp_header(9000, 9000), "9000 x 9000 pixels"),
    "WebP 16000x16000": (webp_header(16000, 16000), "far too many pixels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_what_the_header_forbids_is_never_decoded(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    for plugin in (ImageFile.ImageFile, WebPImagePlugin.WebPImageFile):
        load = plugin.load

        def counted(self: object, load: Callable[[object], object] = load) -> object:
            loads.append(self)
            return load(self)

        monkeypatch.setattr(plugin, "load", counted)
    data, words = BOMBS[case]
    with warnings.catch_warnings(record=True) as raised:
        assert words in refusal(data)
    assert loads == [] and raised == []
    read_upload(saved(noise(32, 32), "PNG"), "a.png", RGB)
    assert loads  # the counter works


def test_four_million_pixels_are_allowed() -> None:
    assert read_upload(png(2000, 2000, 1, 0, bytes(251 * 2000)), "a.png", RGB).size == (2000, 2000)


def test_a_jpeg_of_endless_passes_is_refused() -> None:
    data = saved(smooth(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bloated = data[:-2] + data[last:-2] * 2000 + data[-2:]
    assert f"more than {MAX_SCANS} passes" in refusal(bloated, "cat.jpg")
    read_upload(data, "cat.jpg", RGB)


def test_text_that_explodes_inside_a_png_is_refused() -> None:
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))
    assert "damaged" in refusal(png(32, 32, 8, 0, bytes(33 * 32), extra=text))


def test_names_are_shown_short_and_printable() -> None:
    assert refusal(b"", "C:\\photos\\../x/cat.png").startswith("cat.png is empty")
    assert refusal(b"", "a\n\u202e\0b.png").startswith("ab.png is empty")
    assert refusal(b"", "").startswith("The file is empty")
    assert len(refusal(b"", "x" * 9999 + ".png")) < 150


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 0, 32), (3, 32)])
def test_a_wrong_network_shape_is_our_own_mistake(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValue, match="shape must be"):
        read_upload(saved(noise(32, 32), "PNG"), "a.png", shape)  # type: ignore[arg-type]


# Malformed files


def seeds() -> dict[str, bytes]:
    small = Image.fromarray(noise(10, 12))
    palette = small.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    frames = [Image.fromarray(noise(10, 12, seed=k)) for k in (1, 2)]
    _, exif = turned(small, 6)
    return {
        "png": saved(small, "PNG", exif=exif),
        "png palette": saved(palette, "PNG", transparency=bytes(range(0, 160, 10))),
        "png 16 bit": png16(noise(10, 12, 1)[:, :, None].astype(np.uint16) * 257, 0),
        "apng": saved(small, "PNG", save_all=True, append_images=frames),
        "jpeg": saved(smooth(10, 12), "JPEG", exif=exif),
        "jpeg progressive": saved(smooth(10, 12), "JPEG", progressive=True),
        "jpeg cmyk": saved(Image.new("CMYK", (12, 10), (9, 99, 0, 5)), "JPEG"),
        "webp": saved(small, "WEBP", lossless=True, exif=exif),
        "webp lossy": saved(Image.fromarray(noise(10, 12, 4)), "WEBP"),
        "webp animated": saved(small, "WEBP", save_all=True, append_images=frames),
    }


SEEDS = seeds()


def attempt(data: bytes, shape: tuple[int, int, int] = RGB) -> Upload | None:
    """An upload in order, or None for a proper refusal; anything else fails the test."""
    try:
        upload = read_upload(data, "cat.png", shape)
    except BadImage as error:
        one_sentence(error)
        return None
    assert upload.pixels.shape == shape and 0 <= upload.pixels.min() and upload.pixels.max() <= 1
    return upload


@pytest.mark.parametrize("seed", SEEDS)
def test_every_truncation_is_refused_or_complete(seed: str) -> None:
    data = SEEDS[seed]
    whole, accepted = attempt(data), 0
    assert whole is not None
    for length in range(len(data)):
        upload = attempt(data[:length])
        if upload is not None:
            accepted += 1
            assert torch.equal(upload.pixels, whole.pixels)
    # only what follows the pixels may be missing: checksums and an end marker, or an animation's other frames
    assert accepted <= 20 or (seed == "apng" and accepted < 0.75 * len(data))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # remarks on damaged EXIF data
@pytest.mark.parametrize("seed", SEEDS)
def test_flipped_bytes_are_refused_or_survived(seed: str) -> None:
    rng, refused = random.Random(seed), 0
    for _ in range(150):
        data = bytearray(SEEDS[seed])
        for _ in range(rng.choice((1, 1, 3, 10))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        refused += attempt(bytes(data), rng.choice((RGB, GREY))) is None
    assert refused > 0


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\0\0\0WEBPVP8L"]),
    st.binary(max_size=300),
)
def test_random_bytes_are_refused(start: bytes, rest: bytes) -> None:
    assert attempt(start + rest) is None


@settings(max_examples=100, deadline=None)
@given(
    st.integers(8, 90),
    st.integers(8, 90),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]),
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.sampled_from([RGB, GREY]),
)
def test_every_honest_image_is_taken(
    width: int, height: int, mode: str, kind: str, shape: tuple[int, int, int]
) -> None:
    if mode == "I;16":
        image = Image.fromarray(noise(height, width, 1).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise(height, width, 4)).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode)
    fits = {
        "PNG": mode != "CMYK",
        "JPEG": mode in ("1", "L", "RGB", "CMYK"),
        "WEBP": mode in ("L", "RGB", "RGBA"),
    }
    data = saved(image if fits[kind] else image.convert("RGB"), kind)
    upload = attempt(data, shape)
    assert upload is not None and upload.size == (width, height)
    assert upload.preview.shape == (height, width, 3)

"""What people bring: transparent and dark-on-white pictures for a dataset on black, phones' photos, and formats new to uploads."""

import sys

import numpy as np
import pytest
import torch
from PIL import AvifImagePlugin, Image, ImageOps

from explorer.core import BadImage, InvalidValue
from explorer.data import Look, dataset, load, read_upload
from explorer.models import zoo
from tests.data import malformed
from tests.data.test_uploads import noise, saved, smooth, turned

SNEAKER, BOOT, TROUSER = 7, 9, 1
GARMENT, PHOTO = dataset("fashion_mnist").shape, dataset("photos").shape
ON_BLACK = Look(dataset("fashion_mnist").background)


@pytest.fixture(scope="module")
def garments():
    """One that the network gets right, of several classes: (28,28) uint8 each."""
    images, model = load("fashion_mnist", n=200, source="sample"), zoo.load("fashion_mnist/fashion-mlp")
    with torch.no_grad():
        sure = model(images.x).softmax(1)
    found = {}
    for label in (SNEAKER, BOOT, TROUSER):
        own = torch.nonzero(images.y == label).flatten()
        best = own[sure[own, label].argmax()]
        found[label] = (images.x[best, 0] * 255).round().byte().numpy()
    return found


def seen(found) -> int:
    with torch.no_grad():
        return int(zoo.load("fashion_mnist/fashion-mlp")(found.pixels[None]).argmax())


def clear(grey: np.ndarray) -> Image.Image:
    """The garment alone, all else transparent."""
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray((255 * (grey > 0)).astype(np.uint8))))


@pytest.mark.parametrize("label", [SNEAKER, BOOT, TROUSER])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_transparent_garments_are_put_on_black_as_the_datasets_own(label, kind, garments):
    picture = clear(garments[label]).convert("RGBA")
    found = read_upload(saved(picture, kind, lossless=True, quality=95), "a", GARMENT, ON_BLACK)
    assert seen(found) == label and any("put on black" in note for note in found.notes)


@pytest.mark.parametrize("label", [SNEAKER, BOOT, TROUSER])
def test_a_garment_that_is_dark_on_white_is_told_so_and_right_once_inverted(label, garments):
    data = saved(ImageOps.invert(Image.fromarray(garments[label])), "PNG")
    plain = read_upload(data, "a", GARMENT, ON_BLACK)
    assert seen(plain) != label and "invert it" in plain.notes[-1]
    turned_round = read_upload(data, "a", GARMENT, Look(0, invert=True))
    assert seen(turned_round) == label and turned_round.notes == ("Inverted: dark became bright, and bright dark.",)
    assert not read_upload(saved(Image.fromarray(garments[label]), "PNG"), "a", GARMENT, ON_BLACK).notes


def test_a_black_drawing_on_nothing_is_told_so(garments):
    ink = clear(garments[BOOT])
    ink.paste(0, (0, 0), Image.new("L", ink.size, 255))
    black = Image.merge("LA", (Image.new("L", ink.size, 0), clear(garments[BOOT]).getchannel("A")))
    found = read_upload(saved(black, "PNG"), "a", GARMENT, ON_BLACK)
    assert float(found.pixels.max()) == 0 and "invert it" in found.notes[-1]
    assert float(read_upload(saved(black, "PNG"), "a", GARMENT, Look(0, True)).pixels.max()) == 1


def test_photographs_have_no_plain_background_and_nothing_is_said_of_it():
    found = read_upload(
        saved(np.zeros((64, 64, 3), np.uint8), "PNG"), "a", (3, 32, 32), Look(dataset("cifar10").background)
    )
    assert not [note for note in found.notes if "invert" in note]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_phones_twelve_million_pixels_are_decoded_small_and_upright(orientation):
    picture, exif = turned(Image.fromarray(smooth(300, 400)).resize((4032, 3024)), orientation)
    found = read_upload(saved(picture, "JPEG", exif=exif, quality=80), "phone.jpg", PHOTO)
    assert found.size == (4032, 3024) and found.pixels.shape == PHOTO
    assert any("Read at 1008 x 756 of its 4032 x 3024" in note for note in found.notes)
    red, green = found.pixels[0].mean(0), found.pixels[1].mean(1)  # red grows to the right, green downwards
    assert bool((red.diff() > -0.02).all()) and red[-1] - red[0] > 0.5
    assert bool((green.diff() > -0.02).all()) and green[-1] - green[0] > 0.5


def test_fifty_million_pixels_are_the_most_and_a_progressive_one_may_have_sixteen():
    assert read_upload(saved(Image.new("RGB", (8192, 6100)), "JPEG"), "a.jpg", PHOTO).size == (8192, 6100)
    with pytest.raises(BadImage, match="8192 x 6110 pixels; the limit is 50 million"):
        read_upload(saved(Image.new("L", (8192, 6110)), "JPEG"), "a.jpg", PHOTO)
    with pytest.raises(BadImage, match="the limit is 16 million"):
        read_upload(saved(Image.new("L", (4100, 4000)), "JPEG", progressive=True), "a.jpg", PHOTO)


def test_a_gif_gives_its_first_frame_and_avif_is_read():
    first, second = Image.fromarray(noise(40, 40, 1)), Image.new("L", (40, 40))
    found = read_upload(saved(first, "GIF", save_all=True, append_images=[second]), "a.gif", GARMENT)
    assert float(found.pixels.std()) > 0.1 and any("2 frames" in note for note in found.notes)
    found = read_upload(saved(Image.fromarray(smooth(224, 224)), "AVIF", quality=95), "a.avif", PHOTO)
    expected = torch.from_numpy(smooth(224, 224)).permute(2, 0, 1) / 255
    assert float((found.pixels - expected).abs().mean()) < 0.03


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux alone")
def test_twelve_million_pixels_of_avif_fit_into_the_decoders_memory():
    data = saved(Image.fromarray(smooth(300, 400)).resize((4032, 3024)), "AVIF", speed=10, quality=60)
    assert read_upload(data, "a.avif", PHOTO).size == (4032, 3024)


def test_an_heic_photo_is_read_where_pillow_heif_is_and_else_named():
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    with pytest.raises(BadImage) as refused:
        read_upload(data, "IMG_1.HEIC", PHOTO)
    assert "HEIC" in str(refused.value) or "damaged" in str(refused.value)


@pytest.mark.parametrize(("across", "down", "corner"), [(0, 0.5, (0, 50)), (1, 0.5, (200, 50)), (0.5, 0, (100, 0))])
def test_the_crop_can_be_moved_and_narrowed(across, down, corner):
    data = saved(Image.fromarray(smooth(300, 400)), "PNG")
    found = read_upload(data, "a", (3, 200, 200), Look(across=across, down=down, share=2 / 3))
    left, top = corner
    part = smooth(300, 400)[top : top + 200, left : left + 200].transpose(2, 0, 1)
    assert (torch.from_numpy(part.copy()) == (found.pixels * 255).round().byte()).all()
    assert any(note.startswith(f"Cropped at {left}, {top}, 200 x 200") for note in found.notes)


@pytest.mark.parametrize(
    "look", [Look(background=256), Look(across=1.1), Look(down=-0.1), Look(share=0.0), Look(share=2)]
)
def test_a_look_that_cannot_be_is_refused(look):
    with pytest.raises(InvalidValue, match="must be a"):
        read_upload(saved(noise(32, 32), "PNG"), "a", (3, 32, 32), look)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read where Linux tells it")
def test_malformed_images_never_crash_the_decoder():
    found = malformed.ends(200, seed=1)
    assert 0 < found.pop("peak") < 100 * 1024
    assert set(found) == {"read", "refused"} and found["refused"] > 50
    assert AvifImagePlugin.SUPPORTED, "this Pillow reads no AVIF"

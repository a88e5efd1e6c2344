"""torchvision's own weights, from a server in this process: added with a card, or refused in one sentence with nothing left behind."""

import hashlib
import io
import shutil
from collections import namedtuple

import pytest
import torch
from torchvision import models

from explorer.core import Cancelled, ExplorerError, InvalidValue
from explorer.core.paths import published
from explorer.data import load
from explorer.data.folders import cache_folder
from explorer.data.specs import PHOTOS
from explorer.evaluation.torchvision_weights import OFFERED, add_published, published_weights
from explorer.models import zoo
from tests.confining import confining
from tests.data.serving import serving
from tests.evaluation.published_weights import NETWORK, offer

NAME = f"photos/{NETWORK.replace('_', '-')}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    with serving() as made:
        offer(made, monkeypatch)
        yield made


def refused(words, name=NAME, **rest):
    with pytest.raises(ExplorerError) as caught:
        add_published(name, NETWORK, **rest)
    text = str(caught.value)
    assert words in text and "\n" not in text and text.endswith(".") and len(text) < 400, text
    nothing_left()


def nothing_left():
    assert not [file for place in (cache_folder(), published()) for file in place.rglob("*")]


def test_what_is_offered_says_its_size_its_hash_and_what_it_wants_of_pixels():
    for network in OFFERED:
        one = published_weights(network)
        assert one.url.startswith("https://download.pytorch.org/models/") and len(one.digits) == 8
        assert int(one.digits, 16) >= 0 and 2**25 < one.size < 2**27 and 60 < one.accuracy < 90
        assert one.mean == (0.485, 0.456, 0.406) and one.std == (0.229, 0.224, 0.225)
        weights = models.get_model_weights(network).DEFAULT
        assert tuple(weights.meta["categories"]) == PHOTOS.classes and weights.transforms().crop_size == [224]
    assert published_weights("resnet50").version == "IMAGENET1K_V2"
    with pytest.raises(InvalidValue, match="one of resnet18, resnet50, convnext_tiny; got 'vit_h_14'"):
        published_weights("vit_h_14")


@confining
def test_they_come_in_with_a_card_and_answer_as_torchvisions_network(server):
    told = []
    card = add_published(NAME, NETWORK, progress=lambda *now: told.append(now))
    (data,) = server.files.values()
    assert told[-1][0] == len(data) and [done for done, _ in told] == sorted(done for done, _ in told)
    assert card.training["weights_sha256"] == hashlib.sha256(data).hexdigest() and card.architecture.endswith(NETWORK)
    assert card.training["source"].startswith(server.url) and "BSD-3" in card.training["licence"]
    assert card.training["mean"] == [0.485, 0.456, 0.406] and "not measured here" in card.training["accuracy"]
    assert "of 12 sample images right (top 5)" in card.training["sample"]
    theirs = models.get_model(NETWORK, weights=None)
    theirs.load_state_dict(torch.load(io.BytesIO(data), weights_only=True))
    x = load("photos", n=2).x
    seen = (x - torch.tensor(card.training["mean"]).view(-1, 1, 1)) / torch.tensor(card.training["std"]).view(-1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(zoo.load(NAME)(x), theirs.eval()(seen), rtol=1e-4, atol=1e-4)
    assert not list(cache_folder().iterdir())
    with pytest.raises(InvalidValue, match="is there already"):
        add_published(NAME, NETWORK)


def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(server, monkeypatch):
    (path,) = server.files
    whole = server.files[path]
    server.files[path] = whole[:-1] + b"\x01"
    refused("arrived incomplete or altered")
    server.files[path] = whole
    server.cut = 0.6
    refused("the connection ended after")
    del server.files[path]
    refused("404")
    server.http.shutdown()
    server.http.server_close()
    refused("check the internet connection and ask again")


@confining
def test_a_file_of_another_kind_with_the_right_hash_is_refused(server, monkeypatch):
    offer(server, monkeypatch, state=[1, 2])
    refused("not tensors by their names")


def test_too_little_disk_asks_the_server_for_nothing(server, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(2**40, 2**40, 2**20))
    refused("which has 1 MB free")
    assert server.requests == []


def test_a_full_disk_and_a_cancel_leave_nothing(server, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    refused("cannot be stored (No space left on device)", progress=full)

    def cancel(*_):
        raise Cancelled("The work was cancelled.")

    with pytest.raises(Cancelled):
        add_published(NAME, NETWORK, progress=cancel)
    nothing_left()


def test_only_photographs_take_them(server):
    refused("name must begin with photos/", name="cifar10/resnet50")
    assert server.requests == []

"""torchvision's own weights by a command: with the licence said, alone among its options."""

import pytest

from explorer.core.paths import published
from explorer.models import zoo
from tests.confining import confining
from tests.data.serving import serving
from tests.evaluation.published_weights import NETWORK, offer

NAME = "photos/shuffle"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    with serving() as made:
        offer(made, monkeypatch)
        yield made


@confining
def test_the_command_says_the_licence_and_adds_what_can_be_removed(server, cli):
    said = cli("models", "add", NAME, "--torchvision", NETWORK, "--title", "Shuffle")
    assert said.code == 0, said.err
    assert "non-commercial" in said.out and "of 12 sample images right (top 5)" in said.out
    card = zoo.card(NAME)
    assert (card.title, card.command) == ("Shuffle", f"python -m explorer models add {NAME} --torchvision {NETWORK}")
    assert cli("models", "remove", NAME).code == 0
    assert not list(published().rglob("*.*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((NAME, "--torchvision", NETWORK, "--classes", "10"), "stands alone"),
        ((NAME, "--torchvision", "resnet51"), "must be one of resnet18"),
        (("cifar10/shuffle", "--torchvision", NETWORK), "name must begin with photos/"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, sentence, server, cli):
    said = cli("models", "add", *words)
    assert said.code == 2 and sentence in said.err and said.err.count("\n") == 1, said.err
    assert server.requests == []

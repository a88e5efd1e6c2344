"""Models from elsewhere, once they are there: removed, probed again, and their changed code accepted by who has looked at it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from explorer.core import InvalidValue
from explorer.core.paths import runs
from explorer.evaluation.probing import Probe, probe, sample
from explorer.models import confined, own_code, zoo
from explorer.models.external import has_own_code

FROM_ELSEWHERE = ("from elsewhere", "submission")  # a card's recipe, where nothing was trained here


def remove(name: str, unpacked: bool = True) -> None:
    """Take a model from elsewhere away again: its card, weights and features, and what its code was allowed.

    `unpacked`: and a submission's folder, where it came in a zip.

    Raises UnknownName, and InvalidValue for a model that was made here.
    """
    card, path = _from_elsewhere(name), zoo.card_path(name)
    if has_own_code(card.architecture):
        own_code.forget(card.architecture, card.sha256, name)
    if unpacked:
        _delete_unpacked(card)
    confined.pool.end_of(name)
    for file in (path.with_name(card.file), zoo.features_path(path), path):
        file.unlink(missing_ok=True)


def _delete_unpacked(card: zoo.Card) -> None:
    """The folder of a submission that came in a zip; one that somebody named stays as it is."""
    folder, room = Path(str(card.training.get("folder", ""))), (runs() / "submissions").resolve()
    if card.recipe == "submission" and folder != room and folder.is_relative_to(room):
        shutil.rmtree(folder, ignore_errors=True)
        archive = room / folder.relative_to(room).parts[0]
        if not any(archive.rglob("model.py")):  # the last of its archive, which may come again
            shutil.rmtree(archive, ignore_errors=True)


def check(name: str) -> Probe:
    """Load a model from elsewhere and look at it again. Raises as `zoo.load` and `probe` do."""
    card = _from_elsewhere(name)
    return probe(zoo.load(name), sample(card.dataset), card.architecture, strict=False)


def accept_code(name: str) -> zoo.Card:
    """The card of a model with own code, which may from now on be run as it stands now.

    What was measured of the earlier code is kept in the card apart, under training.
    """
    card = _from_elsewhere(name)
    if not has_own_code(card.architecture):
        return card
    before = card.training.get("code_sha256")
    files = own_code.as_it_stands(card.architecture, card.sha256, before)
    now = own_code.digest(files)
    if now == before:
        return card
    own_code.accept(card.architecture, card.sha256, before, files, card.name)
    earlier = [*card.training.get("measures_of_earlier_code", []), *card.measures]
    training = card.training | {"code_sha256": now} | ({"measures_of_earlier_code": earlier} if earlier else {})
    card = replace(card, training=training, measures=[])
    zoo.write_card(zoo.card_path(card.name).parent, card)
    return card


def _from_elsewhere(name: str) -> zoo.Card:
    card = zoo.card(name)
    if card.recipe not in FROM_ELSEWHERE or not zoo.is_published(name):
        raise InvalidValue(
            f"{name} was not added by `models add`, so neither `models remove` nor `models check` takes it."
        )
    return card

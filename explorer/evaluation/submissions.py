"""A course's submissions: a folder with `model.py` and its class `Net`, or a zip of many, added and measured, confined.

The contract is the course's template: `Net().load_for_testing(project_dir)`, else the one file in models/; pixels in [0,1];
logits or log-softmax. The network is asked in evaluation mode. Random and untrained ones are welcome.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.core import BadCheckpoint, Cancelled, ExplorerError, InvalidValue
from explorer.core.confinement import START_SECONDS, Ended, Told, not_prevented
from explorer.core.files import sha256_of
from explorer.core.paths import published, runs
from explorer.data import dataset
from explorer.data.zips import extract
from explorer.evaluation.adding import card_from_elsewhere, check_name
from explorer.evaluation.checking import accept_code, remove
from explorer.evaluation.probing import ATOL, RTOL, Probe, logits, probe, sample
from explorer.models import confined, zoo
from explorer.models.own_code import allow, digest
from explorer.models.submission import fingerprint

Say = Callable[[str], None]  # is told what is being done


def add_submission(
    name: str,
    folder: Path,
    title: str = "",
    command: str = "",
    what: str = "A course's submission",
    say: Say = lambda doing: None,
) -> zoo.Card:
    """Add the submission in `folder` as the model `name`. Its code runs confined (`core/confinement.py`) and never here.

    The folder is used where it is; once it changes, the model is refused until `models check --accept`. `what` it is, the card says.
    Raises InvalidValue, BadCheckpoint, UnknownName and Ended in one sentence; nothing is left then.
    """
    spec = check_name(name)
    files = fingerprint(folder)
    about = confined.Submission(name, folder.resolve(), spec.shape, len(spec.classes), digest(files))
    model = confined.ConfinedClassifier(about).freeze()
    try:
        say("Starting its process")
        with confined.pool.lease(about) as entry:
            assert entry.process is not None
            say("Probing it")
            images = sample(spec.name)
            found = probe(model, images, f"Net of {folder.name}", strict=False)
            _, state = entry.process.ask("state", seconds=START_SECONDS)
            facts = {key: entry.about.get(key) for key in ("how", "notes", "last", "parameters")}
        if fingerprint(folder) != files:
            raise InvalidValue(f"{folder} changes while it is read; try again once it is finished.")
        tensors = {key: torch.from_numpy(array) for key, array in state.items()}
        card = _card(about, found, facts, title, command, what)
        say("Loading it again")
        return _written(card, tensors, files, model, images.x[:2])
    except BaseException as error:
        confined.pool.end(about)
        if isinstance(error, Told):
            raise InvalidValue(f"{name}: {error}") from error
        if isinstance(error, Ended):
            raise InvalidValue(str(error)) from error
        raise


def _written(
    card: zoo.Card, tensors: dict[str, Tensor], files: dict[str, str], model: confined.ConfinedClassifier, x: Tensor
) -> zoo.Card:
    """The card and weights where the zoo finds them, once the model that is loaded by them answers as this one does."""
    card = zoo.write_tensors(published() / card.dataset, card, tensors)
    try:
        allow(card.architecture, card.sha256, str(model.submission.folder), files, card.name)
        there = zoo.load(card.name)
        if not torch.allclose(logits(there, x, card.name, 0), logits(model, x, card.name, 0), rtol=RTOL, atol=ATOL):
            raise BadCheckpoint(f"{card.name} answers differently once it is loaded again.")
    except BaseException:
        remove(card.name, unpacked=False)
        raise
    return card


def _card(
    about: confined.Submission, found: Probe, facts: dict[str, Any], title: str, command: str, what: str
) -> zoo.Card:
    notes = [str(note)[:300] for note in facts["notes"] or []]
    how = str(facts["how"])[:200]
    open_doors = not_prevented()
    findings = [*found.findings, *([open_doors] if open_doors else [])]
    training = {
        "trained": "elsewhere; nothing is known here but what its folder says",
        "weights": how,
        "notes": notes,
        "folder": str(about.folder),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "sample": found.sentence,
        "findings": findings,
        "code_sha256": about.code,
    }
    return card_from_elsewhere(
        about.name,
        title=title,
        summary=f"{what}, its weights by {how}; its code runs confined.",
        architecture=confined.ARCHITECTURE,
        arguments={"last": str(facts["last"])[:200]},
        parameters=int(facts["parameters"] or 0),
        stochastic=found.stochastic,
        recipe="submission",
        training=training,
        command=command,
    )


def accept(name: str) -> zoo.Card:
    """A model from elsewhere whose changed code somebody has looked at: from now on it is used as it stands."""
    card = zoo.card(name)
    return _again(card) if card.recipe == "submission" else accept_code(name)


def _again(card: zoo.Card) -> zoo.Card:
    """A submission whose files have changed, added as they stand now; earlier measures are kept apart in its card.

    Raises as `add_submission` does; the model is then as it was.
    """
    path = zoo.card_path(card.name)
    kept = {file: file.read_bytes() for file in (path, path.with_name(card.file)) if file.is_file()}
    folder = Path(card.training["folder"])
    for file in kept:
        file.unlink()
    try:
        what = card.summary.partition(", its weights")[0]
        fresh = add_submission(card.name, folder, card.title, card.command, what)
    except BaseException:
        for file, data in kept.items():
            file.write_bytes(data)
        raise
    earlier = [*card.training.get("measures_of_earlier_code", []), *card.measures]
    if earlier:
        fresh.training["measures_of_earlier_code"] = earlier
        zoo.write_card(path.parent, fresh)
    return fresh


def add_files(
    name: str,
    contents: Mapping[str, bytes],
    title: str = "",
    what: str = "From elsewhere",
    say: Say = lambda doing: None,
) -> zoo.Card:
    """As `add_submission`, of files by their paths in a folder that is made for them, and deleted where they are refused."""
    check_name(name)
    folder = runs() / "submissions" / f"{_slug(name)}-{secrets.token_hex(4)}"
    try:
        for path, data in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return add_submission(name, folder, title, what=what, say=say)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def add_zip(
    name: str, archive: Path, command: str = "", say: Say = lambda doing: None
) -> Iterator[tuple[str, zoo.Card | str]]:
    """Add every submission in a zip, one after another: its name, and its card or the sentence that refuses it.

    `name`: "cifar10", or "cifar10/class" where all names are to begin so. The archive is unpacked under the folder of runs; what
    is refused is deleted again, and what was not reached. Raises InvalidValue for an archive that is not unpacked at all.
    """
    data_name, _, stem = name.partition("/")
    dataset(data_name)
    if not archive.is_file():
        raise InvalidValue(f"{archive.name} is not there.")
    mark = sha256_of(archive)[:8]
    into = runs() / "submissions" / f"{_slug(archive.stem)}-{mark}"
    if into.exists():
        raise InvalidValue(f"{archive.name} was added before; its submissions lie in {into}.")
    extract(archive, into)
    kept, folders = set(), submissions_in(into)
    try:
        if not folders:
            raise InvalidValue(f"{archive.name} holds no submission: no folder in it has a model.py.")
        for number, (folder, full) in enumerate(
            zip(folders, _names(archive, into, folders, data_name, stem), strict=True), 1
        ):
            where = f"{number} of {len(folders)}, {full}" if len(folders) > 1 else full
            came = _one_of_zip(full, folder, command, partial(_say_where, say, where))
            if isinstance(came, zoo.Card):
                kept.add(folder)
            yield full, came
    finally:
        for folder in {*folders} - kept:
            shutil.rmtree(folder, ignore_errors=True)
        if not kept:
            shutil.rmtree(into, ignore_errors=True)


def _say_where(say: Say, where: str, doing: str) -> None:
    say(f"{where}: {doing}")


def _one_of_zip(name: str, folder: Path, command: str, say: Say) -> zoo.Card | str:
    try:
        return add_submission(name, folder, command=command, say=say)
    except Cancelled:
        raise
    except ExplorerError as refusal:
        return str(refusal)


def _names(archive: Path, into: Path, folders: Sequence[Path], data_name: str, stem: str) -> list[str]:
    """A model's name for each folder, none twice."""
    found: list[str] = []
    for folder in folders:
        own = "" if folder == into and stem else _slug(archive.stem if folder == into else folder.name)
        full = f"{data_name}/{'-'.join(part for part in (stem, own) if part)}"
        base, number = full, 2
        while full in found:
            full, number = f"{base}-{number}", number + 1
        found.append(full)
    return found


def submissions_in(folder: Path) -> list[Path]:
    """The folders that hold a model.py, not looking inside one that does."""
    if (folder / "model.py").is_file():
        return [folder]
    return [found for one in sorted(folder.iterdir()) if one.is_dir() for found in submissions_in(one)]


def _slug(text: str) -> str:
    """A name of small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "submission"

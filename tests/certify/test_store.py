"""Asking again gives the same certificate, whatever happens to its file, and whoever asks at the same time."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
import torch

from explorer.certify import Certificate, certify
from explorer.certify.store import Answer, Question, Store, picture_hash
from explorer.core import InvalidValue

SIGMA = 0.25


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "certificates")


@pytest.fixture
def question(image):
    return Question("a" * 64, picture_hash(image), SIGMA, n0=64, n=200)


@pytest.fixture
def ask(halfspace, image, question):
    """Makes the certificate that a store's seed leads to."""

    def made(store):
        return certify(halfspace(0.2), image, SIGMA, n0=64, n=200, seed=store.seed(question))

    return made


def file_of(store, question):
    return store.folder / question.place


def test_the_same_question_has_one_seed_that_nobody_chose(store, tmp_path, question):
    seeds = {replace(question, n=n).key: store.seed(replace(question, n=n)) for n in (200, 201, 202)}
    assert len(set(seeds.values())) == 3 and all(0 <= seed < 2**53 for seed in seeds.values())
    assert Store(store.folder).seed(question) == store.seed(question)  # after a restart
    assert Store(tmp_path / "another user's").seed(question) != store.seed(question)


@pytest.mark.parametrize(
    "other",
    [
        {"weights": "b"},
        {"picture": "c"},
        {"sigma": 0.5},
        {"n0": 9},
        {"n": 99},
        {"alpha": 0.1},
        {"precision": "bfloat16"},
        {"sound": True},
    ],
)
def test_another_question_is_another_one(question, other):
    assert replace(question, **other).key != question.key


def test_pictures_are_told_apart_by_their_last_bit(image):
    other = image.clone()
    other[0, 0, 0] = torch.nextafter(other[0, 0, 0], torch.tensor(1.0))
    assert picture_hash(image) == picture_hash(image.clone()) != picture_hash(other)
    assert picture_hash(image) != picture_hash(image.flatten())


def test_an_answer_is_kept_as_it_was(store, question, ask):
    assert store.find(question) is None
    answer = Answer(ask(store), ((100, 60), (200, ask(store).estimation[0])))
    assert store.keep(question, answer) == answer
    found = Store(store.folder).find(question)
    assert found.certificate == answer.certificate and found.course == answer.course


def test_the_first_answer_counts(store, question, ask, halfspace, image):
    first = store.keep(question, Answer(ask(store)))
    later = Answer(certify(halfspace(0.1), image, SIGMA, n0=64, n=200, seed=1))
    assert store.keep(question, later) == first == store.find(question)


def test_asking_at_the_same_time_gives_one_answer(store, question, halfspace, image):
    def one(seed):
        own = Store(store.folder)  # as another process would have
        made = certify(halfspace(0.2), image, SIGMA, n0=64, n=200, seed=seed)
        return own.seed(question), own.keep(question, Answer(made)).certificate

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(one, range(8)))
    assert len(set(given)) == 1
    assert not list(store.folder.rglob("*.tmp"))


DAMAGES = [
    lambda text: "",
    lambda text: text[: len(text) // 2],
    lambda text: "[]",
    lambda text: text.replace('"label": 0', '"label": 1'),
    lambda text: text.replace('"n": 200', '"n": 201'),
    lambda text: json.dumps(json.loads(text) | {"course": [[200, 7]]}),
    lambda text: json.dumps(json.loads(text) | {"certificate": json.loads(text)["certificate"] | {"radius": 9.0}}),
    lambda text: json.dumps(json.loads(text) | {"certificate": json.loads(text)["certificate"] | {"selection": None}}),
    lambda text: "x" * 2**21,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_leads_to_the_same_draws_and_so_to_the_same_certificate(store, question, ask, damage, caplog):
    before = store.keep(question, Answer(ask(store))).certificate
    path = file_of(store, question)
    path.write_text(damage(path.read_text()))
    with caplog.at_level(logging.WARNING):
        assert store.find(question) is None
    assert len(caplog.records) == 1 and "damaged" in caplog.text and "same draws" in caplog.text
    again = Store(store.folder)
    assert again.keep(question, Answer(ask(again))).certificate == before
    assert again.find(question).certificate == before


def test_a_damaged_secret_is_said_and_leaves_what_was_kept(store, question, ask, caplog):
    before = store.keep(question, Answer(ask(store)))
    seed = store.seed(question)
    (store.folder / "secret").write_text("zz")
    again = Store(store.folder)
    with caplog.at_level(logging.WARNING):
        assert again.seed(question) != seed
    assert "secret" in caplog.text and again.find(question) == before


def test_without_a_folder_answers_are_kept_in_memory(tmp_path, question, ask, caplog):
    (tmp_path / "taken").write_text("a file where the folder should be")
    store = Store(tmp_path / "taken")
    with caplog.at_level(logging.WARNING):
        first = store.keep(question, Answer(ask(store)))
    assert "kept until the app ends" in caplog.text
    assert store.find(question) == first and store.seed(question) == store.seed(question)
    assert store.others(question) == 0


def test_only_whole_certificates_of_the_very_question_are_kept(store, question, ask, halfspace, image):
    certificate = ask(store)
    with pytest.raises(InvalidValue, match="very question"):
        store.keep(replace(question, n=300), Answer(certificate))
    skipped = certify(halfspace(0.2), image, SIGMA, n0=64, n=200, seed=1, true_label=1)
    assert skipped.skipped
    with pytest.raises(InvalidValue, match="whole certificate"):
        store.keep(question, Answer(skipped))


def test_how_many_were_asked_of_one_picture(store, question, halfspace, image):
    assert store.others(question) == 0
    for n in (100, 200, 300):
        made = certify(halfspace(0.2), image, SIGMA, n0=64, n=n, seed=n)
        store.keep(replace(question, n=n), Answer(made))
    assert store.others(question) == 2 and store.others(replace(question, n=400)) == 3
    assert store.others(replace(question, weights="b" * 64)) == 0


def test_certificates_survive_json_and_must_follow_from_their_votes(ask, store):
    certificate = ask(store)
    values = json.loads(json.dumps(asdict(certificate)))
    assert Certificate.from_dict(values) == certificate
    for change in ({"radius": 1.0}, {"p_lower": 0.99}, {"label": 1}, {"estimation": [200, 0]}):
        with pytest.raises(InvalidValue, match="does not follow"):
            Certificate.from_dict(values | change)
    with pytest.raises(InvalidValue, match="must have the fields"):
        Certificate.from_dict({"radius": 1.0})

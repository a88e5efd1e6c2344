"""A room: only its key leads, nobody sees answers before the reveal, votes are final, codes cannot be guessed, floods end."""

from __future__ import annotations

import inspect
import threading

import pytest

from explorer.classroom.limits import RateLimit
from explorer.classroom.room import (
    ALPHABET,
    LETTERS,
    MOST_MEMBERS,
    MOST_ROOMS,
    MOST_WALKS,
    Refused,
    Room,
    Rooms,
    Watched,
)
from explorer.core import InvalidValue

PRIVILEGED = {
    "show": ("lessons", {"lesson": "a"}),
    "blacken": (),
    "ask": ("b", ("yes", "no")),
    "reveal": ("a",),
    "settle": ("a", 0),
    "end": (),
    "watch": (Watched("Attack", "/attack", "walk"),),
    "watched": (),
    "export": (),
}


@pytest.fixture
def opened():
    room, key = Rooms().open()
    room.ask(key, "a", ("yes", "no"))
    return room, key


def test_the_list_of_privileged_acts_is_whole():
    takes_key = {
        name for name, act in vars(Room).items() if callable(act) and "key" in inspect.signature(act).parameters
    }
    assert takes_key - {"__init__", "_check", "leads"} == set(PRIVILEGED)


@pytest.mark.parametrize("name", PRIVILEGED)
@pytest.mark.parametrize("key", [None, "", "guess", "token"])
def test_no_student_does_what_only_the_lecturer_may(opened, name, key):
    room, _ = opened
    token = room.join("Ada")
    before = room.version, room.showing, room.asks("b"), room.is_revealed("a"), room.ended
    with pytest.raises(Refused, match="Only who opened the room"):
        getattr(room, name)(token if key == "token" else key, *PRIVILEGED[name])
    assert (room.version, room.showing, room.asks("b"), room.is_revealed("a"), room.ended) == before


def test_answers_are_counted_once_and_seen_after_the_reveal(opened):
    room, key = opened
    ada, bob = room.join("Ada"), room.join()
    room.vote(ada, "a", 0, 90)
    room.vote(bob, "a", 1, 50)
    assert room.locked("a") == 2 and room.mine(ada, "a") == (0, 90)
    with pytest.raises(Refused, match="once the lecturer reveals"):
        room.tally("a")
    with pytest.raises(Refused, match="locked already"):
        room.vote(ada, "a", 1, 90)
    room.reveal(key, "a")
    room.settle(key, "a", 0)
    tally = room.tally("a")
    assert tally.counts == (1, 1) and tally.brier == pytest.approx((0.01 + 0.25) / 2)
    with pytest.raises(Refused, match="too late"):
        room.vote(room.join(), "a", 0, 90)
    assert room.export(key)["questions"][0]["answers"] == {"yes": 1, "no": 1} and "Ada" not in str(room.export(key))


def test_what_all_have_watched_is_kept_once_a_link_until_the_room_ends(opened):
    room, key = opened
    for k in [*range(MOST_WALKS + 2), 5]:
        room.watch(key, Watched("Attack", f"/attack?image={k}", k))
    kept = room.watched(key)
    assert [one.item for one in kept] == [*range(2, MOST_WALKS + 2)] and kept[3].link.endswith("=5")
    room.end(key)
    assert not room._watched


@pytest.mark.parametrize(("option", "sure"), [(2, 90), (-1, 90), (0, 91), (0, 1000)])
def test_a_vote_is_one_of_the_answers(opened, option, sure):
    room, _ = opened
    with pytest.raises(Refused, match="none of the answers"):
        room.vote(room.join(), "a", option, sure)
    with pytest.raises(Refused, match="not in this room"):
        room.vote("somebody else's", "a", 0, 90)


def test_no_vote_is_lost_of_thirty_at_once(opened):
    room, key = opened
    tokens = [room.join() for _ in range(30)]
    threads = [threading.Thread(target=room.vote, args=(token, "a", k % 2, 70)) for k, token in enumerate(tokens)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    room.reveal(key, "a")
    assert room.tally("a").counts == (15, 15)


def test_what_is_shown_grows_by_changes_alone(opened):
    room, key = opened
    room.show(key, "compare", {"data": "cifar10"})
    first = room.showing
    room.show(key, "compare", {"data": "cifar10"})
    assert room.showing is first
    room.blacken(key)
    assert room.showing.black and room.showing.number == first.number + 1
    room.show(key, "compare", {"data": "cifar10"})
    assert not room.showing.black
    with pytest.raises(InvalidValue, match="at most 2,000"):
        room.show(key, "compare", {"data": "x" * 3000})


def test_an_ended_room_keeps_nothing():
    rooms = Rooms()
    room, key = rooms.open()
    token = room.join("Ada")
    room.ask(key, "a", ("yes", "no"))
    room.vote(token, "a", 0, 90)
    room.end(key)
    assert not room.asks("a") and room.here() == (0, 0) and not room.leads(key)
    for act in (lambda: room.join(), lambda: room.show(key, "lessons", {}), lambda: rooms.find(room.code, "x")):
        with pytest.raises(Refused, match="has ended"):
            act()


def test_a_member_comes_back_as_who_it_was(opened):
    room, _ = opened
    token = room.join("Ada")
    assert room.join("other", token) == token and room.join("", "made up") != "made up"
    with pytest.raises(InvalidValue, match="at most 30"):
        room.join("x" * 31)
    while room.here()[0] < MOST_MEMBERS:
        room.join()
    with pytest.raises(Refused, match="full"):
        room.join()


def test_codes_are_drawn_and_guessing_ends():
    now = [0.0]
    rooms = Rooms(clock=lambda: now[0])
    codes = [rooms.open()[0].code for _ in range(MOST_ROOMS)]
    assert len(set(codes)) == MOST_ROOMS and all(len(c) == LETTERS and set(c) <= set(ALPHABET) for c in codes)
    with pytest.raises(Refused, match="8 rooms already"):
        rooms.open()
    assert rooms.find(codes[0].lower(), "a").code == codes[0]
    for _ in range(5):
        with pytest.raises(Refused, match="There is no room"):
            rooms.find("AAAAAA1", "guesser")
    with pytest.raises(Refused, match="too many wrong codes"):
        rooms.find("AAAAAA1", "guesser")
    with pytest.raises(Refused, match="too many wrong codes"):  # the right one, too: a guess is not free
        rooms.find(codes[0], "guesser")
    assert rooms.find(codes[0], "another").code == codes[0]
    now[0] = 5 * 3600.0
    rooms.open()
    with pytest.raises(Refused, match="There is no room"):
        rooms.find(codes[0], "a")


def test_a_rate_limit_counts_each_and_all():
    now = [0.0]
    limit = RateLimit(each=2, of_all=3, seconds=10.0, clock=lambda: now[0])
    assert [limit.take(who) for who in "aaba"] == [0, 0, 0, 10.0]
    assert limit.take("c") == 10.0
    now[0] = 10.0
    assert limit.take("c") == 0

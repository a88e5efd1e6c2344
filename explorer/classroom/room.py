"""Room: one lecturer leads, a class follows, answers before a run are counted together. In memory alone, nothing on disk.

Who holds the room's key may lead it; a member's token votes for that member alone. Every method checks this itself, whatever a
page draws. A room keeps what is on all screens, its members and their answers; when it ends, nothing of it is left.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.classroom.limits import RateLimit
from explorer.classroom.question import SURE, brier
from explorer.core import ExplorerError, InvalidValue

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # 32 signs that nobody mistakes for one another
LETTERS = 6  # of a code: 30 bits, at most 60 wrong guesses a minute
MOST_ROOMS, MOST_MEMBERS, MOST_BALLOTS, MOST_WALKS = 8, 200, 200, 40
LONGEST_NAME, LONGEST_LINK, MOST_OPTIONS = 30, 2_000, 200
HERE_S = 15.0  # a member who was not heard of for so long is not counted as here
IDLE_S = 4 * 3600.0  # a room that nobody leads for so long is gone
NOT_LED = "Only who opened the room may do this: it is led from another browser."


class Refused(ExplorerError):
    """This is not this person's to do, or not now."""


@dataclass(frozen=True)
class Showing:
    """What is on all screens: a page and the parameters of its link. `number` grows with every change."""

    number: int = 0
    page: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    black: bool = False


@dataclass
class _Member:
    name: str
    seen: float
    follows: bool = True


@dataclass
class _Ballot:
    options: tuple[str, ...]
    votes: dict[str, tuple[int, int]] = field(default_factory=dict)  # by member: option, per cent sure
    revealed: bool = False
    came: int | None = None  # the option that came true


@dataclass(frozen=True)
class Watched:
    """What was on all screens to its end: a finished run, where it stands, and the question that was asked before it."""

    title: str
    link: str
    item: Any
    ballot: str = ""  # "": nothing was asked


@dataclass(frozen=True)
class Tally:
    """Answers of all: how many gave each option."""

    options: tuple[str, ...]
    counts: tuple[int, ...]
    brier: float | None  # of the class on this question, once it is known what came true

    @property
    def n(self) -> int:
        return sum(self.counts)


class Room:
    """One class. All methods may be called from any thread; those that take the `key` raise Refused without it."""

    def __init__(self, code: str, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.code, self._key, self._clock = code, key, clock
        self._lock = threading.RLock()
        self._members: dict[str, _Member] = {}
        self._ballots: dict[str, _Ballot] = {}
        self._watched: dict[str, Watched] = {}  # by link, in the order they were first watched
        self._showing = Showing()
        self._version = 0
        self.opened = self.led = clock()  # when it was opened, and when its lecturer was last heard of
        self.ended = False

    # The lecturer's

    def leads(self, key: str | None) -> bool:
        """Whether this is the room's key."""
        return bool(key) and not self.ended and hmac.compare_digest(str(key).encode(), self._key.encode())

    def _check(self, key: str | None) -> None:
        if self.ended:
            raise Refused("The room has ended.")
        if not self.leads(key):
            raise Refused(NOT_LED)
        self.led = self._clock()

    def show(self, key: str | None, page: str, query: Mapping[str, str]) -> None:
        """Put this page on all screens. Raises Refused, and InvalidValue for a link too long."""
        self._check(key)
        if len(page) + sum(len(name) + len(value) for name, value in query.items()) > LONGEST_LINK:
            raise InvalidValue(f"a link for all may have at most {LONGEST_LINK:,} characters.")
        with self._lock:
            if (page, dict(query)) != (self._showing.page, dict(self._showing.query)) or self._showing.black:
                self._showing = Showing(self._showing.number + 1, page, dict(query))
                self._version += 1

    def blacken(self, key: str | None) -> None:
        """All screens black, or back again. Raises Refused."""
        self._check(key)
        with self._lock:
            now = self._showing
            self._showing = Showing(now.number + 1, now.page, now.query, not now.black)
            self._version += 1

    def ask(self, key: str | None, ballot: str, options: Sequence[str]) -> None:
        """Open a ballot; one that is there already stays as it is. Raises Refused, and InvalidValue for too many."""
        self._check(key)
        with self._lock:
            if ballot in self._ballots:
                return
            if len(self._ballots) >= MOST_BALLOTS or not 1 <= len(options) <= MOST_OPTIONS:
                raise InvalidValue(f"a room asks at most {MOST_BALLOTS} questions of at most {MOST_OPTIONS} answers.")
            self._ballots[ballot] = _Ballot(tuple(options))  # its scene is shown next: that is the news

    def reveal(self, key: str | None, ballot: str) -> None:
        """End the voting; from now on everybody sees the counts. Raises Refused."""
        self._check(key)
        with self._lock:
            self._ballot(ballot).revealed = True
            self._version += 1

    def settle(self, key: str | None, ballot: str, came: int) -> None:
        """What came true, for the scores. Raises Refused."""
        self._check(key)
        with self._lock:
            found = self._ballot(ballot)
            if found.came is None and 0 <= came < len(found.options):
                found.came = came

    def end(self, key: str | None) -> None:
        """Forget everything. Raises Refused."""
        self._check(key)
        with self._lock:
            self.ended = True
            self._members.clear()
            self._ballots.clear()
            self._watched.clear()
            self._showing = Showing()
            self._version += 1

    def watch(self, key: str | None, one: Watched) -> None:
        """Keep what all have watched, the newest run of each link; of more than MOST_WALKS the first go. Raises Refused."""
        self._check(key)
        with self._lock:
            self._watched[one.link] = one
            for link in list(self._watched)[:-MOST_WALKS]:
                del self._watched[link]

    def watched(self, key: str | None) -> tuple[Watched, ...]:
        """What all have watched, for the lecturer to take home. Raises Refused."""
        self._check(key)
        with self._lock:
            return tuple(self._watched.values())

    def export(self, key: str | None) -> dict[str, Any]:
        """Counts of every question, without names: what the lecturer may take home. Raises Refused."""
        self._check(key)
        with self._lock:
            asked = [self._exported(name, ballot) for name, ballot in self._ballots.items()]
            return {"room": self.code, "members": len(self._members), "questions": asked}

    def _exported(self, name: str, ballot: _Ballot) -> dict[str, Any]:
        tally = self._counted(ballot)
        came = None if ballot.came is None else ballot.options[ballot.came]
        return {
            "question": name,
            "answers": dict(zip(tally.options, tally.counts, strict=True)),
            "came": came,
            "brier": tally.brier,
        }

    # A member's

    def join(self, name: str = "", token: str | None = None) -> str:
        """A member's token; one that is known comes back as who it was. Raises Refused if the room is full, InvalidValue for a name."""
        with self._lock:
            if self.ended:
                raise Refused("The room has ended.")
            if token in self._members:
                return str(token)
            if len(self._members) >= MOST_MEMBERS:
                raise Refused(f"The room is full: {MOST_MEMBERS} have joined.")
            if not (name.isprintable() and len(name) <= LONGEST_NAME):
                raise InvalidValue(f"a name may have at most {LONGEST_NAME} characters on one line.")
            token = secrets.token_urlsafe(16)
            self._members[token] = _Member(name.strip(), self._clock())
            return token

    def vote(self, token: str | None, ballot: str, option: int, sure: int) -> None:
        """Lock a member's answer, once and for good. Raises Refused."""
        with self._lock:
            self._member(token)
            found = self._ballot(ballot)
            if found.revealed:
                raise Refused("The answers have been revealed: it is too late for another.")
            if token in found.votes:
                raise Refused("Your answer is locked already.")
            if not (0 <= option < len(found.options) and sure in SURE):
                raise Refused("This is none of the answers.")
            found.votes[str(token)] = option, sure

    def follow(self, token: str | None, follows: bool) -> None:
        """Follow the lecturer, or let go. Raises Refused."""
        with self._lock:
            self._member(token).follows = follows

    def heard(self, token: str | None) -> None:
        """This member is still here."""
        with self._lock:
            if token in self._members:
                self._members[str(token)].seen = self._clock()

    def leave(self, token: str | None) -> None:
        """Go; the answers given stay in the counts."""
        with self._lock:
            self._members.pop(str(token), None)

    # Everybody's

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return self._clock() - self.opened

    @property
    def version(self) -> int:
        """Grows whenever there is something new to draw for all; an answer is none."""
        return self._version

    @property
    def showing(self) -> Showing:
        return self._showing

    def asks(self, ballot: str) -> bool:
        """Whether this was asked."""
        return ballot in self._ballots

    def is_revealed(self, ballot: str) -> bool:
        """Whether the answers to this are on show."""
        found = self._ballots.get(ballot)
        return found is not None and found.revealed

    def locked(self, ballot: str) -> int:
        """How many have answered: no more is told before the reveal."""
        found = self._ballots.get(ballot)
        return len(found.votes) if found is not None else 0

    def mine(self, token: str | None, ballot: str) -> tuple[int, int] | None:
        """What this member answered: option, per cent sure."""
        found = self._ballots.get(ballot)
        return found.votes.get(str(token)) if found is not None else None

    def tally(self, ballot: str) -> Tally:
        """The counts. Raises Refused before the reveal, for the lecturer, too: a projector shows what a lecturer sees."""
        with self._lock:
            found = self._ballot(ballot)
            if not found.revealed:
                raise Refused("The answers are shown once the lecturer reveals them.")
            return self._counted(found)

    def here(self) -> tuple[int, int]:
        """How many members were heard of lately, and how many of them follow."""
        with self._lock:
            now = self._clock()
            present = [one for one in self._members.values() if now - one.seen < HERE_S]
            return len(present), sum(one.follows for one in present)

    def _member(self, token: str | None) -> _Member:
        if token not in self._members:
            raise Refused("You are not in this room: join it with its code.")
        found = self._members[str(token)]
        found.seen = self._clock()
        return found

    def _ballot(self, name: str) -> _Ballot:
        if name not in self._ballots:
            raise Refused("This has not been asked yet.")
        return self._ballots[name]

    def _counted(self, ballot: _Ballot) -> Tally:
        chosen = Counter(option for option, _ in ballot.votes.values())
        score = None
        if ballot.came is not None and ballot.votes:
            score = brier((sure / 100, option == ballot.came) for option, sure in ballot.votes.values())
        return Tally(ballot.options, tuple(chosen[k] for k in range(len(ballot.options))), score)


class Rooms:
    """All rooms of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rooms: dict[str, Room] = {}
        self._lock = threading.Lock()
        self._wrong = RateLimit(each=5, of_all=60, seconds=60.0, clock=clock)
        self._joined = RateLimit(each=5, of_all=150, seconds=10.0, clock=clock)

    def open(self) -> tuple[Room, str]:
        """A new room and its key; who may open one is asked before. Raises Refused if there are too many."""
        with self._lock:
            for code, room in list(self._rooms.items()):
                if room.ended or self._clock() - room.led > IDLE_S:
                    room.ended = True
                    del self._rooms[code]
            if len(self._rooms) >= MOST_ROOMS:
                raise Refused(f"There are {MOST_ROOMS} rooms already: end one first.")
            code = "".join(secrets.choice(ALPHABET) for _ in range(LETTERS))
            key = secrets.token_urlsafe(32)
            self._rooms[code] = Room(code, key, self._clock)
            return self._rooms[code], key

    def find(self, code: str, who: str) -> Room:
        """The room with this code, in small letters, too. Raises Refused: there is none, or `who` has guessed too often."""
        if (wait := self._wrong.wait(who, newcomers=True)) > 0:  # before looking: a guess must not be free
            raise Refused(f"There were too many wrong codes within a minute: try again in {max(wait, 1):.0f} s.")
        room = self._rooms.get("".join(code.split()).upper())
        if room is not None and not room.ended:
            return room
        self._wrong.take(who)
        shown = code[: 2 * LETTERS]
        raise Refused(f"There is no room {shown!r}: it has ended, the app was started again, or the code is another.")

    def join(self, code: str, who: str, name: str = "", token: str | None = None) -> tuple[Room, str]:
        """The room with this code, and the token of a member. Raises Refused and InvalidValue."""
        room = self.find(code, who)
        if (wait := self._joined.take(who)) > 0:
            raise Refused(f"Too many join at this moment: try again in {max(wait, 1):.0f} s.")
        return room, room.join(name, token)

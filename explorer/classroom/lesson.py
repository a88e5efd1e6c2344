"""Lesson: scenes in a Markdown file, each a link to a page with its settings, a question before the run, and what to say.

    # Title                                 what the lesson is about stands below
    ## A scene
    [any words](/compare?data=cifar10&...)  the link of the real page: what the scene shows
    Words before the run.
    > fooled: Will the network be fooled?   fooled, class, count, distance or choice
    > - [x] an option                       of a choice; of a count or a distance "- 4/255": the upper end of an option
    > answer: no                            optional: what the author says comes true
    ### After                               words after the run
    ### Notes                               what to say: for the lecturer alone

The few English words are the format's; all that people read may be in any language.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from explorer.classroom import asked
from explorer.classroom import question as q
from explorer.classroom.question import Question
from explorer.core import ExplorerError, InvalidValue, parse_number
from explorer.data import dataset

FOLDER = Path(__file__).with_name("lessons")
OWN = "EXPLORER_LESSONS"  # the environment variable's name: a folder of further lessons
LONGEST = 200_000  # characters of a file
MOST_SCENES = 40
AFTER, NOTES = "after", "notes"
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_OPTION = re.compile(r"-\s+(?:\[([ xX])\]\s+)?(.+)")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a lesson's file, and in which line (from 1)."""

    line: int
    reason: str


@dataclass(frozen=True)
class Scene:
    """One scene. Without a link it is words alone; without a question nothing is asked before the run."""

    title: str
    line: int
    before: str = ""
    after: str = ""
    notes: str = ""
    link: str = ""
    page: str = ""
    request: asked.Asked | None = None
    question: Question | None = None


@dataclass(frozen=True)
class Lesson:
    """A lesson; `key` is its file's name without the ending."""

    key: str
    title: str
    about: str
    scenes: tuple[Scene, ...]


@dataclass
class _Draft:
    """A scene as its lines are read."""

    title: str
    line: int
    texts: dict[str, list[str]] = field(default_factory=lambda: {"": [], AFTER: [], NOTES: []})
    part: str = ""
    link: tuple[str, int] | None = None
    asks: list[tuple[int, str]] = field(default_factory=list)  # lines of the question: number, what follows ">"


def read(path: Path) -> Lesson:
    """The lesson in this file. Raises InvalidValue: the file, the line and the reason of its first fault."""
    try:
        stamp = path.stat()
    except OSError:
        stamp = None
    return _read(path, None if stamp is None else (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=64)
def _read(path: Path, stamp: tuple[int, int] | None) -> Lesson:
    """Read once as long as the file is the same: a page asks at every drawing."""
    lesson, faults = parse(_text(path), path.stem)
    if lesson is None:
        raise InvalidValue(f"{path.name}, line {faults[0].line}: {faults[0].reason}")
    return lesson


def faults_of(path: Path) -> list[Fault]:
    """All that is wrong with this file; raises InvalidValue if it cannot be read."""
    return parse(_text(path), path.stem)[1]


def _text(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidValue(f"{path} cannot be read: {why}.") from error
    if len(text) > LONGEST:
        raise InvalidValue(f"{path.name} may have at most {LONGEST:,} characters; got {len(text):,}.")
    return text


def lessons() -> tuple[dict[str, Lesson], list[str]]:
    """All lessons by key, those that come with the project first, then those of the folder EXPLORER_LESSONS; and in a sentence
    each what is left out, because its file has a fault."""
    found, left_out = {path.stem: read(path) for path in sorted(FOLDER.glob("*.md"))}, []
    own = os.environ.get(OWN)
    for path in sorted(Path(own).expanduser().glob("*.md")) if own else ():
        try:
            lesson = read(path)
        except ExplorerError as error:
            left_out.append(f"A lesson is left out: {error}")
            continue
        found[lesson.key] = lesson  # one's own of the same name takes the place of ours
    return found, left_out


def parse(text: str, key: str = "lesson") -> tuple[Lesson | None, list[Fault]]:
    """The lesson that a file's text describes, or None; and all its faults, by line."""
    faults: list[Fault] = []
    title, about, drafts = _split(text.splitlines(), faults)
    scenes = [_scene(draft, faults) for draft in drafts]
    if not title:
        faults.append(Fault(1, 'a lesson begins with its title: a line such as "# A change that nobody sees".'))
    if not drafts:
        faults.append(Fault(1, 'a lesson has at least one scene: a line such as "## The frog".'))
    if len(drafts) > MOST_SCENES:
        faults.append(Fault(drafts[MOST_SCENES].line, f"a lesson may have at most {MOST_SCENES} scenes."))
    faults.sort(key=lambda fault: fault.line)
    return (None if faults else Lesson(key, title, about, tuple(scenes))), faults


def _split(lines: Sequence[str], faults: list[Fault]) -> tuple[str, str, list[_Draft]]:
    title, about, drafts = "", [], list[_Draft]()
    for number, line in enumerate(lines, 1):
        heading, _, words = line.partition(" ")
        words = words.strip()
        if heading == "#" and words and not drafts and not title:
            title = words
        elif heading == "##":
            drafts.append(_Draft(words, number))
            if not words:
                faults.append(Fault(number, 'a scene has a title after "##".'))
        elif heading == "###" and drafts:
            if words.lower() not in (AFTER, NOTES):
                faults.append(Fault(number, f'a scene has the parts "### After" and "### Notes"; got {words!r}.'))
            else:
                drafts[-1].part = words.lower()
        elif not drafts:
            about.append(line)
        else:
            _take(drafts[-1], number, line)
    return title, "\n".join(about).strip(), drafts


def _take(draft: _Draft, number: int, line: str) -> None:
    link = _LINK.fullmatch(line.strip())
    if draft.part == "" and line.startswith(">"):
        draft.asks.append((number, line[1:].strip()))
    elif draft.part == "" and link and draft.link is None:
        draft.link = link[2], number
    else:
        draft.texts[draft.part].append(line)


def _scene(draft: _Draft, faults: list[Fault]) -> Scene:
    page, request = "", None
    if draft.link is not None:
        link, number = draft.link
        try:
            page, _, request = asked.of_link(link)
        except ExplorerError as error:
            faults.append(Fault(number, str(error)))
    question = None
    asks = [(number, text) for number, text in draft.asks if text]
    if asks and draft.link is None:
        faults.append(Fault(asks[0][0], "a question needs a link above it: it is asked before a run."))
    elif asks and request is not None:
        try:
            question = _question(asks, page, request)
        except _Wrong as wrong:
            faults.append(wrong.fault)
    before, after, notes = ("\n".join(draft.texts[part]).strip() for part in ("", AFTER, NOTES))
    return Scene(
        draft.title, draft.line, before, after, notes, draft.link[0] if draft.link else "", page, request, question
    )


class _Wrong(Exception):
    def __init__(self, line: int, reason: str) -> None:
        self.fault = Fault(line, reason)


def _question(lines: Sequence[tuple[int, str]], page: str, request: asked.Asked) -> Question:
    number, first = lines[0]
    kind, colon, text = first.partition(":")
    kind, text = kind.strip().lower(), text.strip()
    if not colon or not text or kind not in q.KINDS:
        raise _Wrong(number, f'a question reads "> KIND: words?", KIND one of {", ".join(q.KINDS)}; got {first!r}.')
    if kind != q.CHOICE and kind not in asked.ANSWERED[page]:
        fitting = ", ".join((*asked.ANSWERED[page], q.CHOICE))
        raise _Wrong(number, f"a run of /{page} answers {fitting}; it cannot answer {kind!r}.")
    listed, answer = _listed(lines[1:])
    question = _BUILT[kind](number, text, request, listed)
    if answer is None:
        return question
    line, said = answer
    if kind == q.CHOICE:
        raise _Wrong(line, 'the answer of a choice is its option with "[x]".')
    claim = _claim(question, said)
    if claim is None:
        raise _Wrong(line, f"answer must be one of {', '.join(question.options)}; got {said!r}.")
    return Question(question.kind, question.text, question.options, question.limits, claim)


_Listed = list[tuple[int, bool, str]]  # options: line, whether marked [x], words


def _listed(lines: Sequence[tuple[int, str]]) -> tuple[_Listed, tuple[int, str] | None]:
    listed: _Listed = []
    answer = None
    for number, text in lines:
        option = _OPTION.fullmatch(text)
        word, colon, said = text.partition(":")
        if option:
            listed.append((number, (option[1] or "").lower() == "x", option[2].strip()))
        elif colon and word.strip().lower() == "answer":
            answer = number, said.strip()
        else:
            raise _Wrong(number, f'below a question stand options ("> - words") and "> answer: words"; got {text!r}.')
    return listed, answer


def _fooled(number: int, text: str, request: asked.Asked, listed: _Listed) -> Question:
    _none(listed, q.FOOLED)
    return Question(q.FOOLED, text, ("yes", "no"))


def _class(number: int, text: str, request: asked.Asked, listed: _Listed) -> Question:
    _none(listed, q.CLASS)
    return Question(q.CLASS, text, dataset(asked.pictures_of(request)[0]).classes)


def _none(listed: _Listed, kind: str) -> None:
    if listed:
        raise _Wrong(listed[0][0], f"a question of kind {kind} has its options by itself.")


def _choice(number: int, text: str, request: asked.Asked, listed: _Listed) -> Question:
    right = [k for k, (_, marked, _) in enumerate(listed) if marked]
    if not 2 <= len(listed) <= q.MOST_OPTIONS or len(right) != 1:
        raise _Wrong(number, f'a choice has 2 to {q.MOST_OPTIONS} options ("> - [ ] words"), one of them marked "[x]".')
    return Question(q.CHOICE, text, tuple(words for _, _, words in listed), claim=right[0])


def _count(number: int, text: str, request: asked.Asked, listed: _Listed) -> Question:
    most = asked.most(request)
    limits = _limits(listed, float(most - 1)) or q.count_limits(most)
    return Question(q.COUNT, text, q.count_options(limits, most), limits)


def _distance(number: int, text: str, request: asked.Asked, listed: _Listed) -> Question:
    norm = asked.norm_of(request)
    if norm not in q.USUAL:
        raise _Wrong(number, f"a distance in {norm} has no ranges; ask another question.")
    limits = _limits(listed, float("inf")) or q.USUAL[norm]
    return Question(q.DISTANCE, text, q.distance_options(limits, norm), limits)


_BUILT = {q.FOOLED: _fooled, q.CLASS: _class, q.CHOICE: _choice, q.COUNT: _count, q.DISTANCE: _distance}


def _limits(listed: _Listed, most: float) -> tuple[float, ...]:
    """Upper ends of options, rising."""
    found: list[float] = []
    for number, _, words in listed:
        try:
            limit = parse_number(words)
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise _Wrong(
                number, f'an option here is the upper end of a range, such as "4/255"; got {words!r}.'
            ) from error
        if not 0 <= limit <= most or (found and limit <= found[-1]):
            raise _Wrong(number, f"upper ends must rise and lie in [0, {most:g}]; got {words!r}.")
        found.append(limit)
    if len(found) >= q.MOST_OPTIONS:
        raise _Wrong(listed[-1][0], f"a question has at most {q.MOST_OPTIONS} options.")
    return tuple(found)


def _claim(question: Question, said: str) -> int | None:
    """Which option an author's answer is: by its words, or by a number that lies in it."""
    if said in question.options:
        return question.options.index(said)
    if question.kind not in (q.COUNT, q.DISTANCE):
        return None
    try:
        return question.option(parse_number(said))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def claims(lesson: Lesson) -> Iterator[tuple[int, Scene]]:
    """The scenes whose author says what comes true, with their places from 1."""
    for number, scene in enumerate(lesson.scenes, 1):
        if scene.question is not None and scene.question.claim is not None and scene.question.kind != q.CHOICE:
            yield number, scene


def where(lesson: Lesson, at: int) -> Mapping[str, str]:
    """The parameters of the link to a scene (from 0)."""
    return {"lesson": lesson.key, "scene": str(at + 1)}

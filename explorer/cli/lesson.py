"""Lessons for a class: list them, check a file of one's own, or say what their scenes show.

  python -m explorer lesson list
  python -m explorer lesson check my-lesson.md
  python -m explorer lesson check my-lesson.md --run

`check` names file, line and reason of every fault. With --run it makes every scene's run, too, and compares what comes out with
the answer that the file claims. A lesson of this project is named by its key, as `list` shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from explorer.classroom import Lesson, lessons, read
from explorer.classroom.lesson import faults_of
from explorer.classroom.running import outcome_of
from explorer.cli._console import Console
from explorer.cli._parser import Verb
from explorer.core import InvalidValue


def _arguments_of_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a lesson's file (Markdown), or the key of a lesson")
    parser.add_argument(
        "--run", action="store_true", help="make every scene's run, and compare with the answers claimed"
    )


def _check(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    known = lessons()[0]
    if options.file in known:
        lesson = known[options.file]
    else:
        path = Path(options.file)
        faults = faults_of(path)
        for fault in faults:
            console.say(f"{path}:{fault.line}: {fault.reason}")
        if faults:
            raise InvalidValue(f"{path} is no lesson yet: {len(faults)} fault{'s' * (len(faults) > 1)}, see above.")
        lesson = read(path)
    console.say(f"{lesson.title}: {len(lesson.scenes)} scenes, no fault.")
    found = _run(lesson, options.device, console) if options.run else []
    return {"lesson": lesson.key, "scenes": len(lesson.scenes), "runs": found}


def _run(lesson: Lesson, device: str, console: Console) -> list[dict[str, Any]]:
    """Every scene's answer beside the one that is claimed. Raises InvalidValue if they differ."""
    found = []
    for number, scene in enumerate(lesson.scenes, 1):
        if scene.question is None or scene.request is None:
            continue
        question, came = scene.question, outcome_of(scene, device)
        claimed = None if question.claim is None else question.options[question.claim]
        row = {"scene": number, "title": scene.title, "answer": question.options[came], "claimed": claimed}
        found.append(row)
        console.say(f"  {number}. {scene.title}: {row['answer']}" + (f" (claimed: {claimed})" if claimed else ""))
    if wrong := [row for row in found if row["claimed"] not in (None, row["answer"])]:
        first = wrong[0]
        raise InvalidValue(f"scene {first['scene']} claims {first['claimed']!r}; its run says {first['answer']!r}.")
    return found


def _list(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    found, left_out = lessons()
    console.table(["lesson", "title", "scenes"], [[one.key, one.title, str(len(one.scenes))] for one in found.values()])
    for sentence in left_out:
        console.say(sentence)
    return [{"lesson": one.key, "title": one.title, "scenes": len(one.scenes)} for one in found.values()]


VERBS = {
    "list": Verb("all lessons, also those of the folder EXPLORER_LESSONS", _list),
    "check": Verb("name file, line and reason of every fault of a lesson", _check, _arguments_of_check),
}
USUAL = "list"

"""The command line: one file a command, with `arguments(parser)` and `run(options, console)`, or with VERBS that have them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from explorer import __version__
from explorer.cli._parser import parse
from explorer.core import Cancelled, ExplorerError, UnknownName, threads
from explorer.core.memory import is_out_of_memory

COMMANDS = {
    "app": "open the app in a browser",
    "attack": "attack one image and say what happened",
    "evaluate": "measure a model's accuracy, clean and attacked, over many images",
    "certify": "prove L2 radii by randomized smoothing, over many images",
    "train": "train a model by a recipe; going on where it stopped",
    "jobs": "runs in the background: submit, list, show, follow, cancel, resume, delete",
    "models": "list the trained models, or show one model's card",
    "data": "list the datasets, or download one",
    "proxy": "synthetic images: fit a generator, draw from it, measure how near to real ones it comes",
    "tournament": "all networks of a class on one board, on the same pictures",
    "lesson": "lessons for a class: list them, check a file of one's own",
    "features": "compute the UMAP maps of models' features ahead of time",
    "verify": "measure a drawn part of a card's numbers again: same or other",
    "bench": "measure the speed of attacks on this computer",
}
OK, FAILED, REFUSED, STOPPED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 refused (one sentence says why), 130 stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "--version"):
        sys.stdout.write(f"explorer {__version__}\n" if argv[:1] == ["--version"] else _overview())
        return OK
    from explorer.core.ranks import PeerFailed  # with torch

    try:
        return _dispatch(argv)
    except KeyboardInterrupt:
        return _say("Stopped.", STOPPED)
    except Cancelled as stop:
        return _say(str(stop), STOPPED)
    except PeerFailed as failure:
        return _say(str(failure), FAILED)
    except ExplorerError as refusal:
        return _say(str(refusal), REFUSED)
    except FloatingPointError as failure:
        return _say(f"The computation failed: {str(failure).partition(chr(10))[0]}.", FAILED)
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (MemoryError, RuntimeError, OSError) as failure:
        if not is_out_of_memory(failure):
            raise
        return _say("Memory ran out: ask for fewer images or draws at once, or for a smaller model.", FAILED)


def _dispatch(argv: list[str]) -> int:
    from explorer.cli._console import Console
    from explorer.core.ranks import current

    name = argv[0]
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS)
    command = importlib.import_module(f"explorer.cli.{name}")
    try:
        options, run = parse(name, command, argv[1:])
    except SystemExit as done:  # --help has been printed
        return int(done.code or 0)
    threads.use()
    console = Console(options.json, quiet=not current().is_first)
    console.finish(run(options, console))
    return console.code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "usage: python -m explorer COMMAND ... [--device auto|cpu|cuda|cuda:1|mps] [--json FILE]\n\n" + "\n".join(
        [*lines, "", "`python -m explorer COMMAND --help` explains a command.", ""]
    )


def _say(sentence: str, code: int) -> int:
    from explorer.core.ranks import is_reporter

    if is_reporter():  # of several processes one
        sys.stderr.write(f"{sentence}\n")
    return code

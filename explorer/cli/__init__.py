"""The command line: one file a command, each with SUMMARY, `arguments(parser)` and `run(options, console)`."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence

from explorer import __version__
from explorer.cli._console import Console
from explorer.core import Cancelled, ExplorerError, InvalidValue, UnknownName
from explorer.core.ranks import PeerFailed, current, is_reporter

COMMANDS = {
    "app": "open the app in a browser",
    "attack": "attack one image and say what happened",
    "evaluate": "measure a model's accuracy, clean and attacked, over many images",
    "certify": "prove L2 radii by randomized smoothing, over many images",
    "train": "train a model by a recipe; going on where it stopped",
    "jobs": "train in the background: submit, list, follow, cancel, resume, delete",
    "models": "list the trained models, or show one model's card",
    "data": "list the datasets, or download one",
    "features": "compute the UMAP maps of models' features ahead of time",
    "bench": "measure the speed of attacks on this computer",
}
DEVICES = ("auto", "cpu", "cuda", "mps")
OK, FAILED, REFUSED, STOPPED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence, with the nearest name where one was misspelt."""

    def error(self, message: str) -> None:
        choice = re.match(r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if choice:
            what, given, known = choice.groups()
            raise UnknownName(what.lstrip("-"), given, re.findall(r"[^', ]+", known))
        raise InvalidValue(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")

    def check_options(self, argv: Sequence[str]) -> None:
        """Refuse unknown --options by name; argparse would rather complain about the words around them."""
        known = [option for action in self._actions for option in action.option_strings]
        for word in argv:
            option = word.partition("=")[0]
            if len(option) > 2 and option.startswith("--") and option not in known:
                raise UnknownName("option", option, [one for one in known if one.startswith("--")])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 refused (one sentence says why), 130 stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
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
    except (FloatingPointError, MemoryError, RuntimeError) as failure:
        if isinstance(failure, RuntimeError) and not _out_of_memory(failure):
            raise
        return _say(
            f"The computation failed: {str(failure).splitlines()[0] if str(failure) else 'out of memory'}.", FAILED
        )
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["--version"]:
        sys.stdout.write(f"explorer {__version__}\n")
        return OK
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return OK
    name = argv[0]
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS)
    command = importlib.import_module(f"explorer.cli.{name}")
    parser = Parser(
        prog=f"python -m explorer {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.arguments(parser)
    shared = parser.add_argument_group("everywhere")
    shared.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: %(default)s)")
    shared.add_argument("--json", metavar="FILE", help="also write the result to FILE; - for standard output")
    parser.check_options(argv[1:])
    try:
        options = parser.parse_args(argv[1:])
    except SystemExit as done:  # --help has been printed
        return int(done.code or 0)
    console = Console(options.json, quiet=not current().is_first)
    console.finish(command.run(options, console))
    return OK


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "usage: python -m explorer COMMAND ... [--device auto|cpu|cuda|mps] [--json FILE]\n\n" + "\n".join(
        [*lines, "", "`python -m explorer COMMAND --help` explains a command.", ""]
    )


def _out_of_memory(failure: BaseException) -> bool:
    return "out of memory" in str(failure).lower() or "not enough memory" in str(failure).lower()


def _say(sentence: str, code: int) -> int:
    if is_reporter():  # of several processes one
        sys.stderr.write(f"{sentence}\n")
    return code

"""argparse whose complaints are one sentence, commands with verbs as sub-parsers, and the options of every command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from explorer.core import InvalidValue, UnknownName

DEVICES = ("auto", "cpu", "cuda", "cuda:1", "mps")  # cuda:1 stands for any number
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
NEGATIVE = re.compile(r"-[.\d]")  # a value such as -1,1, which argparse takes for an option

Run = Callable[[argparse.Namespace, Any], Any]  # of the options and the console; what --json writes


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence, with the nearest name where one was misspelt."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix("python -m explorer ")
        choice = re.match(r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if choice:
            what, given, known = choice.groups()
            raise UnknownName(what.lstrip("-"), given, re.findall(r"[^', ]+", known))
        missing = re.match(r"the following arguments are required: ([^,]+)", message)
        if missing:
            (action,) = [a for a in self._actions if missing[1] in (a.metavar, a.dest, *a.option_strings)]
            raise InvalidValue(f"{command} needs {missing[1].upper()}: {action.help}.")
        extra = re.match(r"unrecognized arguments: (\S+)", message)
        if extra:
            raise InvalidValue(f"{command} does not take {extra[1]!r}. See `{self.prog} --help`.")
        raise InvalidValue(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")

    @property
    def options(self) -> dict[str, bool]:
        """Each option, and whether a value follows it."""
        return {name: action.nargs != 0 for action in self._actions for name in action.option_strings}


def check_options(words: Sequence[str], known: Iterable[str], elsewhere: Mapping[str, Iterable[str]]) -> None:
    """Refuse unknown --options by name; argparse would rather complain about the words around them.

    `elsewhere`: the options of other verbs.
    """
    for word in words:
        option = word.partition("=")[0]
        if word == "--":
            return
        if len(option) > 2 and option.startswith("--") and option not in known:
            if owners := [f"`{owner}`" for owner, options in elsewhere.items() if option in options]:
                raise InvalidValue(f"{option} belongs to {' and '.join(owners)}.")
            raise UnknownName("option", option, [one for one in known if one.startswith("--")])


@dataclass(frozen=True)
class Verb:
    """One thing that a command does: `models add`."""

    summary: str
    run: Run
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def parse(name: str, command: Any, argv: Sequence[str]) -> tuple[argparse.Namespace, Run]:
    """The options that `argv` gives the command of this name, and what to run with them.

    `command` is its module: with `arguments` and `run`, or with VERBS, of which USUAL is meant where none is named, and NAMED
    (if it has one) where a model's name stands in its place. Raises SystemExit once --help is printed, and InvalidValue or
    UnknownName.
    """
    parser = _parser(f"python -m explorer {name}", description=command.__doc__)
    verbs: Mapping[str, Verb] = getattr(command, "VERBS", {})
    if not verbs:
        command.arguments(parser)
        _everywhere(parser)
        words = _joined(argv, parser.options)
        check_options(words, parser.options, {})
        return parser.parse_args(words), command.run
    below = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", parser_class=Parser)
    parsers = {verb: _sub_parser(below, name, verb, what) for verb, what in verbs.items()}
    _everywhere(parser)
    if not argv[1:] and {"-h", "--help"} & {*argv}:
        parser.parse_args(argv)  # prints the help of all verbs, and exits
    every = {option: value for one in parsers.values() for option, value in one.options.items()}
    check_options(argv, every, {})
    verb, words = _verb_first(name, command, _joined(argv, every), every)
    owners = {f"{name} {other}": one.options for other, one in parsers.items() if other != verb}
    check_options(words, parsers[verb].options, owners)
    return parsers[verb].parse_args(words), verbs[verb].run


def _parser(prog: str, description: str | None) -> Parser:
    return Parser(
        prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def _sub_parser(below: Any, name: str, verb: str, what: Verb) -> Parser:
    about = f"{what.summary[:1].upper()}{what.summary[1:]}."
    prog = f"python -m explorer {name} {verb}"
    parser: Parser = below.add_parser(verb, prog=prog, help=what.summary, description=about, allow_abbrev=False)
    what.arguments(parser)
    _everywhere(parser)
    return parser


def _joined(argv: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    """`--range -1,1` as `--range=-1,1`: argparse would take the value for another option."""
    words: list[str] = []
    for word in argv:
        if words and options.get(words[-1]) and NEGATIVE.match(word):
            words[-1] = f"{words[-1]}={word}"
        else:
            words.append(word)
    return words


def _first_word(words: Sequence[str], options: Mapping[str, bool]) -> int | None:
    """Where the first word stands that is neither an option nor its value."""
    is_value = False
    for place, word in enumerate(words):
        if not is_value and not word.startswith("-"):
            return place
        is_value = not is_value and options.get(word, False)
    return None


def _verb_first(name: str, command: Any, words: Sequence[str], options: Mapping[str, bool]) -> tuple[str, list[str]]:
    """The verb, wherever it stands among the words, and the other words."""
    place = _first_word(words, options)
    if place is None:
        return command.USUAL, [*words]
    if words[place] in command.VERBS:
        return words[place], [*words[:place], *words[place + 1 :]]
    if "/" in words[place] and hasattr(command, "NAMED"):
        return command.NAMED, [*words]
    raise UnknownName(f"verb of {name}", words[place], command.VERBS)


def _everywhere(parser: argparse.ArgumentParser) -> None:
    shared = parser.add_argument_group("everywhere")
    shared.add_argument(
        "--device", type=_device, default="auto", help=f"where to compute: {', '.join(DEVICES)} (default: %(default)s)"
    )
    shared.add_argument("--json", metavar="FILE", help="also write the result to FILE; - for standard output")


def _device(text: str) -> str:
    """As it is; whether the device is there is asked by what computes. Raises UnknownName."""
    if not DEVICE.fullmatch(text):
        raise UnknownName("device", text, DEVICES)
    return text

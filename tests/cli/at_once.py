"""A command in each of several processes, for `test_together.py`."""

import io
from contextlib import redirect_stderr, redirect_stdout

import torch

from explorer.cli import main


def say(words: list[str], break_second: bool = False) -> tuple[int, str, str]:
    """Exit code, standard output, standard error; `break_second`: the second process's networks answer NaN."""
    out, err = io.StringIO(), io.StringIO()
    if break_second:
        _break_second()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def _break_second() -> None:
    from explorer.core.ranks import current
    from explorer.models import zoo

    load = zoo.load

    def broken(*given, **options):
        model = load(*given, **options)
        model.head.bias.data.fill_(torch.nan)
        return model

    if not current().is_first:
        zoo.load = broken

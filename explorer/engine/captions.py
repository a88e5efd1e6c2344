"""Captions of a trace: what each frame shows, in one plain sentence that claims no more than was measured."""

from __future__ import annotations

import math

from explorer.core import Trace
from explorer.engine.tracing import Result

EXACT = 1e-3  # of one grey level: closer to a whole level than this is called whole


def captions(trace: Trace, result: Result | None = None, stochastic: bool = False) -> list[str]:
    """(T,) one sentence or two per frame; with a `result`, its frame also says what rounding and fresh draws make of it."""
    teller = _Teller(trace, stochastic)
    sentences = [teller.original(), *(teller.attacked(t) for t in range(1, len(trace)))]
    if result is not None:
        sentences[result.best] += _last_word(trace, result, stochastic)
    return sentences


class _Teller:
    def __init__(self, trace: Trace, stochastic: bool):
        self.trace, about = trace, trace.conditions
        self.predicted, self.probabilities = trace.predicted, trace.probabilities
        self.starts = about.get("starts") or [1]
        self.tries = about.get("restarts", 1)
        self.steps = max((trace.planned - 1) // self.tries - 1, 1)  # updates of each try
        draws = about.get("draws", 1)
        self.sure = "sure" if not stochastic else "sure in this one draw" if draws == 1 else f"sure over {draws} draws"
        source = about.get("source_model") if about.get("threat") == "transfer" else None
        self.on = "" if source is None else f" on {short(source)}"  # where the steps were taken, if not on this model
        self.model = "the model" if source is None else "this model"
        shown = str(about.get("image", "")).startswith("upload")
        self.subject = "this picture" if shown else f"this {noun(trace.classes[trace.label])}"

    def original(self) -> str:
        model = self.model.capitalize()
        if self.predicted[0] == self.trace.label:
            return f"{model} takes {self._for(0)}: nothing has been changed yet."
        return f"{model} takes {self._for(0)}{self._aim(0)}: it is wrong before anything has been changed."

    def attacked(self, t: int) -> str:
        return f"{self._when(t)} {self.model} takes {self._for(t)}{self._aim(t)}; {self._change(t)}.{self._note(t)}"

    def _note(self, t: int) -> str:
        known = t < len(self.trace.notes) and not self.on  # of the model the steps were taken on
        return f" {self.trace.notes[t]}" if known and self.trace.notes[t] else ""

    def _for(self, t: int) -> str:
        k = int(self.predicted[t])
        return f"{self.subject} for {article(self.trace.classes[k])}, {percent(self.probabilities[t, k])} {self.sure}"

    def _when(self, t: int) -> str:
        number = sum(start <= t for start in self.starts)  # of this try
        index = t - self.starts[max(number, 1) - 1]
        if self.trace.minimal and index > 0:
            return f"At point {t - self.starts[0]} of the search{self.on}"
        where = f" of try {number} of {self.tries}" if self.tries > 1 else ""
        if index == 0:
            walk = "the search" if self.trace.minimal else "the attack"
            runner = f"try {number} of {self.tries}" if self.tries > 1 else walk
            return f"At {self._start(t, number)}, where {runner}{self.on} starts,"
        if self.steps == 1:
            return f"After {'its' if not self.on else 'the'} only step{where}{self.on}"
        return f"After {index} of {self.steps} steps{where}{self.on}"

    def _start(self, t: int, number: int) -> str:
        if self.trace.linf[t] == 0:
            return "the untouched image"
        if self.trace.minimal:
            return "another point"  # there is no ball
        random = number > 1 or self.trace.conditions.get("hyper", {}).get("random_start")
        return "a random point of the ball" if random else "another point of the ball"

    def _aim(self, t: int) -> str:
        target, k = self.trace.target, int(self.predicted[t])
        if target is None or k == self.trace.label:
            return ""
        return " (the target)" if k == target else f" (the target is {article(self.trace.classes[target])})"

    def _change(self, t: int) -> str:
        if self.trace.linf[t] == 0:
            return "no pixel has moved"
        if self.trace.conditions.get("norm") == "l2":
            return f"the change has length {self.trace.l2[t]:.3g} (L2)"
        tenths = math.ceil(10 * (255 * self.trace.linf[t] - EXACT))  # rounded up, so that the sentence stays true
        return f"no pixel moved by more than {tenths / 10:g}/255"


def _last_word(trace: Trace, result: Result, stochastic: bool) -> str:
    verdict = result.verdict
    reached, kept = bool(verdict.reached[0]), bool(verdict.reached_8bit[0])
    words = ""
    transfer = trace.conditions.get("threat") == "transfer"
    if transfer:
        words = " This image is the one judged."
    elif trace.minimal:
        found = bool(trace.reached[result.best])
        words = " This is the smallest change found." if found else " No change was found that does what was asked."
    if stochastic:
        hits = f"{round(float(verdict.share[0]) * verdict.draws)} of {verdict.draws} times"
        if trace.target is None:
            words += f" On fresh draws the model is wrong {hits}."
        else:
            words += f" On fresh draws the model takes it for {article(trace.classes[trace.target])} {hits}."
    elif trace.reached[result.best] and not reached:
        words += f" Looked at once more, alone and in full precision, the {'transfer' if transfer else 'attack'} fails."
    if trace.target is not None and not reached:
        words += f" The target, {article(trace.classes[trace.target])}, is not reached."
    if reached and not kept:
        words += f" Rounding to 8 bits undoes the {'transfer' if transfer else 'attack'}."
    return words


def percent(p: float) -> str:
    """Rounded as the player rounds it: 0.928 is "93 %"; but "over 99 %" or "over 99.9 %", never 100."""
    if p > 0.995:
        return "over 99.9 %" if p > 0.999 else "over 99 %"
    return f"{100 * p:.0f} %"


def short(model: str) -> str:
    """A model's name without its dataset: "baseline"."""
    return model.rpartition("/")[2]


def noun(name: str) -> str:
    """A class name inside a sentence: "Ankle boot" becomes "ankle boot", "T-shirt/top" stays."""
    return name if name[1:2] == "-" else name[:1].lower() + name[1:]


def article(name: str) -> str:
    """ "a cat", "an airplane"."""
    word = noun(name)
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"

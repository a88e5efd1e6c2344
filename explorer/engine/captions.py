"""Captions of a trace: what each frame shows, in one plain sentence that claims no more than was measured."""

from __future__ import annotations

from explorer.core import Trace
from explorer.data import DATASETS
from explorer.engine.rounding import of_change, percent, size
from explorer.engine.tracing import Result

_CAPITAL = {
    name for spec in DATASETS.values() for name in spec.classes if name[:1].isupper()
}  # at a sentence's beginning only


def captions(trace: Trace, result: Result | None = None, stochastic: bool = False) -> list[str]:
    """(T,) one sentence or two per frame; with a `result`, that of its frame has the `remark`, too."""
    teller = _Teller(trace, stochastic)
    sentences = [teller.original(), *(teller.attacked(t) for t in range(1, len(trace)))]
    if result is not None:
        sentences[result.best] += remark(trace, result, stochastic)
    return sentences


class _Teller:
    def __init__(self, trace: Trace, stochastic: bool):
        self.trace, about = trace, trace.conditions
        self.predicted, self.probabilities = trace.predicted, trace.probabilities
        self.starts = about.get("starts") or [1]
        self.tries = about.get("restarts", 1)
        self.steps = max((trace.planned - 1) // self.tries - 1, 1)  # updates of each try
        self.sure = _over(about.get("draws", 1) if stochastic else 0)
        self.sure_before = _over(about.get("draws_before", about.get("draws", 1)) if stochastic else 0)
        source = about.get("source_model") if about.get("threat") == "transfer" else None
        self.on = "" if source is None else f" on {short(source)}"  # where the steps were taken, if not on this model
        self.model = "the model" if source is None else "this model"
        shown = str(about.get("image", "")).startswith("upload")
        self.true = about.get("true_label", trace.label)  # not the label where another answer counts as right
        self.subject = "this picture" if shown else f"this {noun(trace.classes[self.true])}"

    def original(self) -> str:
        answer = f"{self.model.capitalize()} takes {self._for(0)}{self._aim(0)}"
        looks_right = bool(self.predicted[0] == self.trace.label)
        if self.trace.wrong_before:
            but = ", but most of them see something else" if looks_right else ""
            return f"{answer}{but}: it is wrong before anything has been changed."
        but = "" if looks_right else ", but most of them are right"
        if self.true != self.trace.label:
            but = f", and has {noun(self.trace.classes[self.true])} among its {about_right(self.trace)}, which counts as right"
        return f"{answer}{but}: nothing has been changed yet."

    def attacked(self, t: int) -> str:
        return f"{self._when(t)} {self.model} takes {self._for(t)}{self._aim(t)}; {self._change(t)}.{self._note(t)}"

    def _note(self, t: int) -> str:
        known = t < len(self.trace.notes) and not self.on  # of the model the steps were taken on
        return f" {self.trace.notes[t]}" if known and self.trace.notes[t] else ""

    def _for(self, t: int) -> str:
        k, sure = int(self.predicted[t]), self.sure if t else self.sure_before
        return f"{self.subject} for {article(self.trace.classes[k])}, {percent(self.probabilities[t, k])} {sure}"

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
        norm = self.trace.conditions.get("norm", "linf")
        if norm != "linf":
            return f"the change {of_change(float(self.trace.distance[t]), norm)}"
        return f"no pixel moved by more than {size(self.trace.linf[t], 'linf')}"


def about_right(trace: Trace) -> str:
    """ "top 5": how far down its list a right answer may stand."""
    return str(trace.conditions.get("right", "top 1"))


def _over(draws: int) -> str:
    """ "sure"; of a random model with how many draws its answer is the mean of. 0: not random."""
    return "sure" if draws == 0 else "sure in this one draw" if draws == 1 else f"sure over {draws} draws"


def remark(trace: Trace, result: Result, stochastic: bool) -> str:
    """What rounding and fresh draws make of the frame that counts, to be added to its caption; empty: nothing to add."""
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


def short(model: str) -> str:
    """A model's name without its dataset: "baseline"."""
    return model.rpartition("/")[2]


def noun(name: str) -> str:
    """A class name inside a sentence: "Ankle boot" becomes "ankle boot", "T-shirt/top" and "Egyptian cat" stay."""
    return name[:1].lower() + name[1:] if name in _CAPITAL and name[1:2] != "-" else name


def article(name: str) -> str:
    """ "a cat", "an airplane"."""
    word = noun(name)
    return f"{'an' if word[:1].lower() in tuple('aeiou') else 'a'} {word}"

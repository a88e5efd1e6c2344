"""The probe of a model from elsewhere: is its answer one of images, with a gradient, in logits? Findings in words.

What makes an answer meaningless is refused. What makes numbers flatter than they are (no gradient, probabilities in place of
logits) is refused where somebody adds own code, and told where somebody else's submission is measured as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core import Classifier, ExplorerError, InvalidValue, seeded, use_generator, wilson
from explorer.data import Images, dataset, load
from explorer.evaluation.outcome import accepted

SAMPLE = 200  # images of the bundled sample that are measured while adding
FEW = 16  # of them, whose gradients are looked at
RTOL, ATOL = 1e-3, 1e-4  # within which two passes over the same image agree
BETTER = 0.15  # by which another range has to be better to be named


@dataclass(frozen=True)
class Probe:
    """What was seen of a model: whether it draws at random, how many of the sample images are right, and what is odd."""

    stochastic: bool
    correct: int
    n: int
    findings: tuple[str, ...]
    top: int = 1  # an answer is right if the label is among so many of the largest logits

    @property
    def sentence(self) -> str:
        """The accuracy on the sample, with its 95 % interval."""
        low, high = wilson(self.correct, self.n)
        rule = f" (top {self.top})" if self.top > 1 else ""
        return (
            f"{self.correct} of {self.n} sample images right{rule}: {100 * self.correct / self.n:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}]."
        )


def sample(name: str) -> Images:
    """The images that a probe of a model for this dataset looks at."""
    return load(name, n=min(SAMPLE, dataset(name).rows["test"]), source="sample")


def probe(model: Classifier, images: Images, what: str, *, strict: bool) -> Probe:
    """Look at the model from all sides; `what` names it in sentences. Its `stochastic` is set to what it is found to be.

    `strict`: a gradient of zero and probabilities are refused, too. Raises InvalidValue.
    """
    model.stochastic = True  # each pass is seeded, whatever it draws
    few = images.x[:FEW]
    first, again, other = (logits(model, few, what, seed) for seed in (0, 0, 1))
    model.stochastic = not _same(first, other)
    findings = []
    if not _same(first, again):
        model.stochastic = True
        findings.append(
            "two passes of one seed differ: its draws cannot be repeated, so neither can a number to the last digit."
        )
    _answers_each_image(model, few, first, what)
    few_flat, blocked = _about_gradients(model, few, what)
    told = [blocked, _about_probabilities(first, few, model, what)]
    if strict and any(told):
        raise InvalidValue(next(text for text in told if text))
    findings += [text for text in (*told, few_flat) if text]
    answers = torch.cat([logits(model, x, what, 2) for x in images.x.split(100)])
    return Probe(model.stochastic, _right(answers, images), len(images), tuple(findings), images.top)


def _right(answers: Tensor, images: Images) -> int:
    """How many of the answers (N,K) are right."""
    return int((answers.argmax(1) == accepted(answers, images.y, images.top)).sum())


def logits(model: Classifier, x: Tensor, what: str, seed: int) -> Tensor:
    """(N,K) of one seeded pass over x (N,C,H,W). Raises InvalidValue for a failure, another shape, or what is not finite."""
    try:
        with torch.no_grad(), use_generator(seeded(seed)):
            found = model(x)
    except ExplorerError:
        raise
    except Exception as error:  # anything may go wrong in somebody's network; it is told with its reason
        raise InvalidValue(f"the probe failed, {what}: {first_line(error)}") from error
    wanted = (len(x), model.num_classes)
    if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InvalidValue(f"the probe must give logits of shape {wanted}, {what}; got {got}.")
    if not bool(torch.isfinite(found).all()):
        raise InvalidValue(f"the probe gave logits that are not finite, {what}.")
    return found


def _answers_each_image(model: Classifier, x: Tensor, first: Tensor, what: str) -> None:
    """One image alone, and in other company, is answered as in the batch."""
    alone = logits(model, x[:1], what, 0)
    company = logits(model, torch.cat([x[:1], x[1:4].flip(0)]), what, 0)[:1]
    if not model.stochastic and not (_same(alone, first[:1]) and _same(company, first[:1])):
        raise InvalidValue(
            f"an image's answer depends on the other images of its batch, {what}: it must be a function of the image alone "
            "(batch norm in training mode, or a mean over the batch, does this)."
        )


def _about_gradients(model: Classifier, x: Tensor, what: str) -> tuple[str | None, str | None]:
    """Words for a gradient that is zero at some images; and for one that never reaches the pixels."""
    leaf = x.clone().requires_grad_(True)
    with use_generator(seeded(0)):
        answers = model(leaf)
    if not answers.requires_grad:
        return None, f"no gradient reaches the pixels, {what}: most attacks need one."
    way = torch.randn(answers.shape, generator=seeded(0))
    (gradient,) = torch.autograd.grad((answers * way).sum(), leaf, allow_unused=True)
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        return None, f"no finite gradient reaches the pixels, {what}: most attacks need one."
    flat = int((gradient.flatten(1) == 0).all(1).sum())
    if flat == 0:
        return None, None
    words = (
        f"the gradient is exactly zero at every pixel of {flat} of {len(x)} images, {what}: attacks that follow it find "
        "nothing there, which is no robustness."
    )
    return (None, words) if flat == len(x) else (words, None)


def _about_probabilities(answers: Tensor, x: Tensor, model: Classifier, what: str) -> str | None:
    is_softmax = bool((answers >= 0).all()) and torch.allclose(answers.sum(1), torch.ones(len(x)), atol=1e-3)
    if not is_softmax or model.num_classes < 2:
        return None
    return (
        f"the answers sum to one, {what}: they are probabilities (softmax), whose gradients vanish where the network is sure; "
        "give logits, or log-softmax."
    )


def about_range(models: Mapping[str, Callable[[Tensor], Tensor]], images: Images, correct: int) -> str | None:
    """Whether the network does far better on pixels in another range than the one given: words, or None."""
    best, name = correct, ""
    for other, net in models.items():
        with torch.no_grad():
            right = _right(torch.cat([net(x) for x in images.x.split(100)]), images)
        if right > best:
            best, name = right, other
    if best - correct < BETTER * len(images):
        return None
    return (
        f"{correct} of {len(images)} sample images are right with the range given, {best} with {name}: "
        "is the range right?"
    )


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=RTOL, atol=ATOL)


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else type(error).__name__

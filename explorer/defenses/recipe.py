"""The base class of all training recipes: hyper-parameters, an architecture, the loss of a batch, a score on held-out images."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import Classifier, Hyper, param, use_generator

OptimizerName = Literal["sgd", "adam"]
Each = dict[str, Tensor]  # by measure: which held-out images count, bool


@dataclass(frozen=True)
class Recipe(Hyper):
    """Common hyper-parameters (Nesterov SGD, one cycle, label smoothing, averaged weights) and hooks to override."""

    dataset: ClassVar[str] = "cifar10"
    formula: ClassVar[str] = ""  # what is minimised, as LaTeX
    explanation: ClassVar[str] = ""  # the idea, in a few sentences (Markdown)
    half: ClassVar[tuple[str, ...]] = ()  # measures of `score` that are made on the first half of the held-out images
    augment: ClassVar[bool] = True  # training images are flipped and shifted
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1}  # overrides of a run that only shows that the recipe works
    smoke_images: ClassVar[int] = 512
    replays: ClassVar[int] = 1  # updates in a row on the same augmented batch
    optimizer: ClassVar[OptimizerName] = "sgd"  # Adam takes the momentum for its beta1

    epochs: int = param(20, "epochs", lo=1, hi=1000, help="Passes over the training images.")
    batch: int = param(128, "batch size", lo=1, hi=4096, unit="images", help="Images per update.")
    lr: float = param(0.2, "peak learning rate", lo=1e-5, hi=10.0, help="Highest point of the one-cycle schedule.")
    warmup: float = param(0.25, "warm-up share", lo=0.0, hi=0.9, help="Share of all updates until the peak is reached.")
    momentum: float = param(0.9, "momentum", lo=0.0, hi=0.999, help="Nesterov momentum of SGD.")
    weight_decay: float = param(5e-4, "weight decay", lo=0.0, hi=1.0, help="Applied to weights, not to BN and biases.")
    label_smoothing: float = param(0.1, "label smoothing", lo=0.0, hi=0.5, help="Share of the label spread evenly.")
    ema: float = param(0.998, "weight averaging", lo=0.0, hi=0.99999, help="Decay of the averaged weights (EMA).")
    seed: int = param(0, "seed", lo=0, hi=2**31 - 1, help="Seeds the initial weights, the order and every draw.")
    start: str = param(
        "", "start from", help="A model of the zoo whose weights the run starts from; empty: from scratch."
    )

    @classmethod
    def on(cls, data: str | None) -> type[Self]:
        """The same recipe for the pictures of another dataset, from random weights; itself for its own, and for None."""
        return cls if data in (None, cls.dataset) else _on(cls, data)  # type: ignore[arg-type]  # a class is hashable

    # What is trained, and from which weights.

    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Registered name and keyword arguments (beyond mean, std, shape and classes, which the dataset gives)."""
        raise NotImplementedError

    def initial(self) -> dict[str, Tensor]:
        """Weights to begin with that come from no model of the zoo: names of the architecture's, not always all."""
        return {}

    def from_scratch(self) -> Self:
        """The same recipe, from random weights."""
        return replace(self, start="")

    @property
    def limit(self) -> int | None:
        """How many training images a run uses where nobody says; None: all."""
        return None

    def made_of(self) -> dict[str, Any]:
        """What else than training images its weights follow from, for the card: names and hashes."""
        return {}

    # One update.

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """(N,C,H,W) what the loss shows the model in place of x: attacked or noisy images, by default x itself."""
        return x

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """The scalar to minimise for one augmented batch x (N,C,H,W), y (N,), in the 0-based epoch.

        With `buffers` or `extra_batches` it is given these, too, as keyword arguments.
        """
        inputs = self.training_inputs(model, x, y, rng, epoch)
        with use_generator(rng):
            return self.cross_entropy(model(inputs), y)

    def buffers(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Tensors that a run carries from update to update beside its weights, as they are at first; checkpoints hold them.

        Row i of each belongs to image i of whatever batch comes; `shape` is (N,C,H,W) of a full batch. If there are any,
        `loss` is given the batch's rows, buffers={name: tensor}; it or its backward pass may change them in place.
        """
        return {}

    @property
    def extra_batches(self) -> int:
        """For each image of a batch, how many further training images `loss` is given: extra_batch=((B,C,H,W), (B,))."""
        return 0

    def passes(self, epoch: int) -> int:
        """Forward-backward passes that an update of this 0-based epoch makes: where they are equal, so is the cost."""
        return 1

    def learning_rate(self, update: int, updates: int) -> float:
        """Of the 0-based `update` of `updates`."""
        return one_cycle(update, updates, self.lr, self.warmup)

    def cross_entropy(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """With the recipe's label smoothing: a scalar, or (N,) for the reduction "none"."""
        return F.cross_entropy(logits.float(), y, label_smoothing=self.label_smoothing, reduction=reduction)

    # After each epoch; `history` holds the scores of the epochs so far.

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """Accuracies on held-out images; "score" selects the epoch that is kept.

        `each` gets masks, bool, of the images that count: "clean" (N,), and "robust" of as many first ones as are attacked.
        """
        clean = accuracy(model, x, y, rng, each=each)
        return {"clean": clean, "score": clean}

    def early_stop(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the run may end before its last epoch."""
        return False

    def warning(self, history: Sequence[Mapping[str, Any]]) -> str:
        """What people must know about the run so far, in a plain sentence; mostly nothing."""
        return ""


@cache
def _on(cls: type[Recipe], data: str) -> Any:
    """Once for each recipe and dataset, so that equal recipes are equal."""
    about: dict[str, Any] = {
        "dataset": data,
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__annotations__": {},
    }
    made = types.new_class(cls.__name__, (cls,), {"start": ""}, lambda body: body.update(about))
    return dataclass(frozen=True)(made)


def one_cycle(update: int, updates: int, peak_rate: float, warmup: float) -> float:
    """The learning rate of the 0-based `update` of `updates`: linear up to the peak, then linear down to zero."""
    peak = max(warmup * updates, 1e-9)
    return peak_rate * min((update + 1) / peak, (updates - update) / max(updates - peak, 1))


def probabilities(model: Classifier, x: Tensor, rng: torch.Generator, batch: int = 500) -> Tensor:
    """(N,K) float32 probabilities of the classes, without gradients."""
    with torch.no_grad(), use_generator(rng):
        return torch.cat([model(part).float().softmax(1) for part in x.split(batch)])


def accuracy(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    rng: torch.Generator,
    batch: int = 500,
    each: Each | None = None,
    name: str = "clean",
) -> float:
    """Share of images classified as y; which ones goes into `each` under the `name`."""
    return counted(probabilities(model, x, rng, batch).argmax(1) == y, each, name)


def counted(mask: Tensor, each: Each | None, name: str) -> float:
    """Share of a mask (N,) bool that is true; the mask goes into `each` under the `name`."""
    if each is not None:
        each[name] = mask
    return int(mask.sum()) / len(mask)

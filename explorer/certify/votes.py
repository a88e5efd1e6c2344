"""Votes under Gaussian noise (SampleUnderNoise of randomized smoothing, arXiv:1902.02918): how often a network gives each class."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explorer.certify.noise import blocks, noise
from explorer.certify.params import Precision
from explorer.certify.sound import grid, levels_of
from explorer.core import Classifier, seeded, use_generator
from explorer.core.device import release_memory
from explorer.core.memory import is_out_of_memory
from explorer.core.rng import derived_seed


@dataclass(frozen=True, eq=False)
class VoteSampler:
    """One image's noisy copies, and what the network says of them. Checked by who makes it (`Smoothed`)."""

    model: Classifier
    x: Tensor  # (C,H,W) float32 on the model's device
    sigma: float
    seed: int
    batch: int  # most copies in one pass; above 64 a multiple of 64 is used
    precision: Precision
    sound: bool

    @property
    def conditions(self) -> dict[str, Any]:
        return {"seed": self.seed, "precision": self.precision, "sound": self.sound}

    def votes(self, stream: int, n: int, stops: Sequence[int] = ()) -> Iterator[tuple[int, Tensor]]:
        """Draws done and the votes per class so far (K+1,), the last being invalid draws: at first, and after each pass.

        Also after exactly as many draws as each of `stops` says. The tensor stays on the device and is the same each
        time: nobody who does not look at it makes a GPU wait.
        """
        device, done = self.model.device, 0
        rng = self.generator(stream)
        votes = torch.zeros(self.model.num_classes + 1, dtype=torch.int64, device=device)
        yield 0, votes
        most = self.batch
        for noisy, void in self.noisy(n, stream):
            (winners, most), first = self.winners_within_memory(noisy, void, rng, most), done
            done += len(noisy)
            for upto in [*(stop for stop in stops if first < stop < done), done]:
                some = winners[: upto - first]
                winners, first = winners[len(some) :], upto
                votes.scatter_add_(0, some, torch.ones_like(some))  # bincount would make the host wait for the GPU
                yield upto, votes

    def generator(self, stream: int) -> torch.Generator | None:
        """What a stochastic network draws from."""
        return seeded(derived_seed(self.seed, stream), self.model.device) if self.model.stochastic else None

    def noisy(self, n: int, stream: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The noisy pictures (b,C,H,W) on the device, n in all, and which of them are void (`sound` only)."""
        device = self.model.device
        pinned = device.type == "cuda"
        if not self.sound:
            for draws in noise(self.x.shape, n, self.batch, self.seed, stream, pinned):
                noisy = draws.to(device, non_blocking=True)
                yield torch.add(self.x, noisy, alpha=self.sigma, out=noisy), None
            return
        on_grid, levels = grid(self.sigma), levels_of(self.x)
        for steps in blocks(on_grid.draw, torch.int16, self.x.shape, n, self.batch, self.seed, stream, pinned):
            yield on_grid.noisy(levels, steps.to(device, non_blocking=True))

    def winners_within_memory(
        self, noisy: Tensor, void: Tensor | None, rng: torch.Generator | None, most: int
    ) -> tuple[Tensor, int]:
        """`winners` of all, from passes of `most` of them, and how many the device's memory took at once: halved until it does.

        The noise stays the same; a stochastic network's draws are those of the smaller passes. Raises what the device said
        if it does not take one.
        """
        before = None if rng is None else rng.get_state()
        while True:
            try:
                parts = [slice(start, start + most) for start in range(0, len(noisy), most)]
                found = [self.winners(noisy[some], None if void is None else void[some], rng) for some in parts]
                return (torch.cat(found) if len(found) > 1 else found[0]), most
            except RuntimeError as error:
                if most == 1 or not is_out_of_memory(error):
                    raise
            release_memory()  # not inside the except block, whose traceback keeps the tensors alive
            most = max(min(most, len(noisy)) // 2, 1)
            if rng is not None and before is not None:
                rng.set_state(before)

    @torch.inference_mode()
    def winners(self, noisy: Tensor, void: Tensor | None, rng: torch.Generator | None) -> Tensor:
        """Which class each of the noisy pictures (b,C,H,W) votes for (b,) int64; K: none."""
        logits = self.logits(noisy, rng)  # (b, K)
        invalid = ~logits.isfinite().all(1)
        if void is not None:
            invalid |= void
        return logits.argmax(1).masked_fill_(invalid, self.model.num_classes)

    def logits(self, noisy: Tensor, rng: torch.Generator | None) -> Tensor:
        """(b,K), in the precision that is certified."""
        half = torch.autocast(noisy.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with use_generator(rng), half:
            logits: Tensor = self.model(noisy)
        return logits


def in_fast_layout(model: Classifier) -> Classifier:
    """The model as it computes fastest (`Classifier.layout`).

    Others may be using the model, so it is left as it is; one that has this layout already is returned as it is.
    """
    layout, kernels = model.layout, [p for p in model.parameters() if p.ndim == 4]
    if all(p.is_contiguous(memory_format=layout) for p in kernels):
        return model
    return copy.deepcopy(model).to(memory_format=layout)

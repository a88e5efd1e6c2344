"""One-pixel attack (Su et al., arXiv:1710.08864): differential evolution over which pixels change, and to what."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._fields import draws_per_query, stop_when_fooled
from explorer.attacks._region import RegionAttack
from explorer.attacks.gradient import Recorder, forward, gaussian
from explorer.attacks.random_search import MARGIN
from explorer.core import Goal, Region, Step, param

AT_ONCE = 512  # images in one forward pass
F = 0.5  # the scale of a difference, as in the paper
SPREAD = 0.5  # standard deviation of the first colours, around 0.5, as in the paper


@ATTACKS.register(
    "one-pixel",
    title="One pixel",
    paper="arXiv:1710.08864",
    group="black-box",
    summary="Evolves which few pixels to repaint, and how, by the model's scores alone: eps is their number.",
)
@dataclass(frozen=True)
class OnePixel(RegionAttack):
    """Differential evolution: child_i = r1 + 0.5 (r2 - r3), r1, r2, r3 three candidates at random; it takes the place of
    candidate i if its loss is higher (section 3.2; no crossover).

    A candidate is eps times (row, column, colour), rows and columns rounded down when it is painted. The first candidates'
    places are uniform, their colours Gaussian around 0.5. A step shows the best candidate of each generation.
    cost: (generations + 1) * population forward passes a draw; with `early_stop` none for an image that is fooled.
    differs: any eps, not 1, 3 and 5 only; the margin is raised where the paper takes the class's probability; what leaves the
    picture or the pixel range comes back to its edge.
    """

    threats: ClassVar[tuple[str, ...]] = ("l0",)
    loss = MARGIN
    formula: ClassVar[str] = (
        r"c_i = p_{r_1} + \tfrac 12\,(p_{r_2} - p_{r_3}),\quad p_i \leftarrow c_i \text{ if } L(c_i) > L(p_i)"
    )
    explanation: ClassVar[str] = (
        r"Each candidate $p_i$ says which pixels to repaint and in what colours. Breed: add half of the difference of two "
        r"candidates to a third. If the child $c_i$ fools the model more than candidate $i$ does, it takes its place. Nobody "
        r"follows a slope, so it works on any model that gives scores. A single pixel is enough surprisingly often."
    )
    presets = {
        "weak": {"population": 40, "generations": 10},
        "standard": {},
        "strong": {"population": 200, "generations": 75},
    }

    population: int = param(100, "population", lo=4, hi=1000, help="Candidates in each generation.")
    generations: int = param(40, "generations", lo=1, hi=1000, help="How often they are bred, at most.")
    early_stop: bool = stop_when_fooled()
    draws: int = draws_per_query()

    @property
    def expected_frames(self) -> int:
        return self.generations + 2

    @property
    def expected_passes(self) -> int:
        """Queries of an image at most."""
        return ((self.generations + 1) * self.population + 1) * self.draws

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        recorder = Recorder(self, goal, region, self.generations + 1, self.early_stop)
        at = forward(model, region.x0, goal, self.loss, self.draws, rng)
        yield (step := recorder.step(region.x0, at))
        genes = self._first(region, rng)  # (N,population,eps,2 + C)
        fitness, logits = self._look(model, genes, goal, region, rng)
        rows, best = torch.arange(len(genes), device=genes.device), fitness.argmax(1)
        for generation in range(self.generations + 1):
            live = ~step.reached if self.early_stop else torch.ones_like(step.reached)
            if step.index == step.total:
                return
            if generation == 0:
                spent = torch.full_like(goal.labels, self.population * self.draws)
            else:
                some = live.nonzero()[:, 0]
                children = _bred(genes[some], region.x0, rng)
                now, seen = self._look(model, children, goal.rows(some), region.rows(some), rng)
                better = (now > fitness[some]) | fitness[some].isnan()
                genes[some] = torch.where(better[:, :, None, None], children, genes[some])
                fitness[some] = torch.where(better, now, fitness[some])
                logits[some] = torch.where(better[:, :, None], seen, logits[some])
                best[some] = fitness[some].nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(1)
                spent = torch.zeros_like(goal.labels).index_fill(0, some, self.population * self.draws)
            x = torch.where(live.view(-1, 1, 1, 1), painted(genes[rows, best], region), step.x)
            shown = torch.where(live[:, None], logits[rows, best], step.logits)
            loss = torch.where(live, fitness[rows, best], step.loss)
            yield (step := recorder.step(x, replace(at, logits=shown, loss=loss, forwards=spent)))

    def _first(self, region: Region, rng: torch.Generator) -> Tensor:
        x0 = region.x0
        pixels = int(region.eps.max() if isinstance(region.eps, Tensor) else region.eps)
        shape = (len(x0), self.population, min(pixels, x0[0, 0].numel()))
        places = torch.rand((*shape, 2), generator=rng, device=rng.device, dtype=x0.dtype).to(x0.device)
        colours = 0.5 + SPREAD * gaussian(x0.new_empty(*shape, x0.shape[1]), rng)
        return torch.cat([places * places.new_tensor(x0.shape[2:]), colours.clamp(0, 1)], 3)

    def _look(
        self, model: nn.Module, genes: Tensor, goal: Goal, region: Region, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(N,P) loss and (N,P,K) logits of the candidates; a pass takes so many of them that it has AT_ONCE images at most."""
        losses, logits, many = [], [], max(AT_ONCE // len(genes), 1) if len(genes) else 1
        for k in range(0, genes.shape[1], many):
            part = genes[:, k : k + many]
            x = torch.stack([painted(one, region) for one in part.unbind(1)], 1).flatten(0, 1)
            aim = goal.repeated(part.shape[1])
            at = forward(model, x, aim, self.loss, self.draws, rng)
            losses.append(at.loss.view(part.shape[:2]))
            logits.append(at.logits.view(*part.shape[:2], -1))
        return torch.cat(losses, 1), torch.cat(logits, 1)


def painted(genes: Tensor, region: Region) -> Tensor:
    """(N,C,H,W) the images repainted by one candidate each, (N,eps,2 + C); of an image's own eps only the first so many."""
    x, (height, width) = region.x0.clone(), region.x0.shape[2:]
    images = torch.arange(len(x), device=x.device)
    eps = torch.as_tensor(region.eps).to(x.device).expand(len(x))
    for k in range(genes.shape[1]):
        gene = genes[:, k]
        row, column = gene[:, 0].long().clamp(0, height - 1), gene[:, 1].long().clamp(0, width - 1)
        x[images, :, row, column] = torch.where((eps > k)[:, None], gene[:, 2:], x[images, :, row, column])
    return x


def _bred(genes: Tensor, x0: Tensor, rng: torch.Generator) -> Tensor:
    """As many children, each of three random candidates of its image."""
    n, population = genes.shape[:2]
    order = (
        torch.rand((n, population, population), generator=rng, device=rng.device)
        .argsort(dim=2)[:, :, :3]
        .to(genes.device)
    )
    r1, r2, r3 = (genes[torch.arange(n, device=genes.device)[:, None], order[:, :, k]] for k in range(3))
    most = genes.new_tensor([x0.shape[2] - 1e-3, x0.shape[3] - 1e-3, *[1.0] * x0.shape[1]])
    return torch.minimum((r1 + F * (r2 - r3)).clamp(min=0), most)

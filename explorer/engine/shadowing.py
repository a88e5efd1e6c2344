"""Shadow attack on a certificate: a smooth change until the smoothed model certifies a wrong class (arXiv:2003.08937)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from explorer.attacks.shadow import Shadow
from explorer.certify import Certificate, Prediction
from explorer.certify.store import Store
from explorer.core import Goal, Hyper, Linf, param, seeded
from explorer.core.rng import derived_seed
from explorer.engine.certifying import CertifyRequest, store
from explorer.engine.engine import Engine
from explorer.engine.tracing import Clock, made_on, picture
from explorer.evaluation.verdict import round_to_8bit

WALK, JUDGE, PROOF = 14, 15, 16  # streams of randomness


@dataclass(frozen=True)
class ShadowOnCertificate(Hyper):
    """How the shadow is made. The defaults are the quick look."""

    presets = {"quick": {}, "thorough": {"steps": 200, "draws": 16}}

    steps: int = param(60, "steps", lo=1, hi=500, help="How many times the picture is updated.")
    draws: int = param(
        8, "draws per step", lo=1, hi=64, help="Noisy copies whose mean probabilities give each gradient."
    )
    eps: float = param(
        0.5, "farthest", lo=0.01, hi=1.0, step=0.1, strength=False, unit="pixel range",
        help="No pixel changes by more. Wide on purpose: the penalties keep the change smooth and grey, not a small ball.",
    )  # fmt: skip
    colour: float = param(Shadow.colour, "price of colour shift", lo=0.0, hi=100.0, step=0.5, help="lambda_c.")
    smooth: float = param(Shadow.smooth, "price of roughness", lo=0.0, hi=1000.0, step=0.5, help="lambda_tv.")
    alike: float = param(Shadow.alike, "price of unlike channels", lo=0.0, hi=100.0, step=0.5, help="lambda_s.")
    n: ClassVar[int] = 200  # noisy copies by which PREDICT names the class to leave
    alpha: ClassVar[float] = 0.001

    @property
    def attack(self) -> Shadow:
        return Shadow(steps=self.steps, colour=self.colour, smooth=self.smooth, alike=self.alike)


@dataclass(frozen=True, eq=False)
class Shadowing:
    """So far, whole; `ended` stands in the last one."""

    request: CertifyRequest
    settings: ShadowOnCertificate
    clean: Prediction | None = None  # of the untouched picture: the class to leave; None: not looked at yet
    step: int = 0  # of settings.steps; the certificate's draws come after the last
    proof: float = 0.0  # share of the certificate's draws that are made
    found: np.ndarray | None = None  # (C,H,W) the shadowed picture
    certificate: Certificate | None = None  # of it
    linf: float = 0.0
    l2: float = 0.0
    seconds: float = 0.0
    ended: str = ""  # "": not yet; "done", or "abstained": PREDICT says nothing of the untouched picture
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spoofed(self) -> bool:
        """A certificate is given for another class than the picture's own."""
        certificate = self.certificate
        own = None if self.clean is None else self.clean.label
        return certificate is not None and certificate.label not in (None, own)


def shadow_work(
    engine: Engine, request: CertifyRequest, settings: ShadowOnCertificate | None = None, kept: Store | None = None
) -> Callable[[], Iterator[Shadowing | None]]:
    """What to give to `engine.submit(..., deadline=DEADLINE)`: a Shadowing after each step, then as its certificate is drawn.

    The shadow climbs on noisy copies of its own; the certificate is made once, with the request's n0, n and alpha, on draws
    that nothing else has seen.
    """
    return lambda: _work(engine, request, settings or ShadowOnCertificate(), kept or store())


def _work(
    engine: Engine, request: CertifyRequest, settings: ShadowOnCertificate, kept: Store
) -> Iterator[Shadowing | None]:
    clock = Clock()
    base, x0 = engine.model(request.model), picture(engine, request.one)
    model, seed = request.smoothed(base, settings.draws), kept.seed(request.question(x0[0]))
    now = Shadowing(request, settings)
    clean = None
    for clean in model.iter_predict(x0[0], n=settings.n, alpha=settings.alpha, seed=derived_seed(seed, JUDGE)):  # noqa: B007
        yield clock.stopped(None)
        clock.go()
    assert clean is not None  # the last one
    now = replace(now, clean=clean)
    if clean.label is None:
        yield replace(now, ended="abstained")
        return
    goal, x = Goal.untargeted(torch.tensor([clean.label], device=x0.device)), x0
    for step in settings.attack.walk(model, x0, goal, Linf(settings.eps), seeded(derived_seed(seed, WALK))):
        x = step.x
        now = replace(now, step=step.index, found=x[0].cpu().numpy(), seconds=clock.seconds)
        yield clock.stopped(now)
        clock.go()
    x = round_to_8bit(x) if request.sound else x  # that smoothed model is known exactly at 8-bit pictures only
    change = (x.double() - x0.double()).flatten()
    now = replace(now, found=x[0].cpu().numpy(), linf=float(change.abs().max()), l2=float(change.norm()))
    for progress in model.iter_certify(x[0], **request.draws, seed=derived_seed(seed, PROOF)):
        done = progress.done / (request.n0 + request.n)
        now = replace(now, proof=done, certificate=progress.certificate, seconds=clock.seconds)
        yield clock.stopped(now)
        clock.go()
    yield replace(now, ended="done", seconds=clock.seconds, conditions=_conditions(now, seed, engine))


def _conditions(now: Shadowing, seed: int, engine: Engine) -> dict[str, Any]:
    request = now.request
    return now.settings.to_dict() | {
        "attack": "shadow", "norm": "linf", "model": request.model, "image": request.image, "sigma": request.sigma,
        "n0": request.n0, "n": request.n, "alpha": request.alpha, "linf": now.linf, "l2": now.l2,
        "threat": "white-box, adaptive: gradients of the mean probabilities over fresh noisy copies", "seed": seed,
        **made_on(engine.description),
    }  # fmt: skip

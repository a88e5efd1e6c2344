"""Runs that nobody trained, as a trained one would have left them: for tests of what the Training page shows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from explorer.data import load
from explorer.jobs import Run, Spec, Store
from explorer.training.watched import SIDE, BoundarySlice, TapeColumn

HELD_OUT = 1000
PER_EPOCH = 40


def made_up(
    store: Store, status: str, *, recipe: str = "pgd-linf", epochs: int = 6, done: float = 6, seed: int = 0, **more: Any
) -> Run:
    """A run of `epochs` epochs of which `done` are recorded; `more` goes into its state, `hyper` and `title` into its spec."""
    spec = {name: more.pop(name) for name in ("title", "smoke") if name in more}
    hyper = {"epochs": epochs, "start": ""} | more.pop("hyper", {})
    run = store.create(Spec(recipe, hyper=hyper, **spec).checked())
    if done:
        record(run, epochs, done, seed, robust=recipe == "pgd-linf")
    run.update(status=status, **more)
    return run


def record(run: Run, epochs: int, done: float, seed: int, robust: bool) -> None:
    """Metrics, sights and a log up to `done` epochs (with a fraction)."""
    rng = np.random.default_rng(seed)
    updates = PER_EPOCH * epochs
    rows: list[dict[str, Any]] = [
        {
            "kind": "start",
            "update": 0,
            "epoch": 0,
            "updates": updates,
            "epochs": epochs,
            "held_out": HELD_OUT,
            "images": 5120,
        }
    ]
    sights(run, 0, rng, 0.0)
    rows.append(a_slice(rng, 0))
    for update in range(1, round(done * PER_EPOCH) + 1):
        x = update / updates
        rows.append(
            {
                "kind": "update", "update": update, "epoch": (update - 1) // PER_EPOCH + 1,
                "loss": float(1.1 + 1.3 * np.exp(-5 * x) + rng.normal(0, 0.08)),
                "learning_rate": 0.1 * min(x / 0.25, (1 - x) / 0.75 + 1e-3), "images_per_second": float(620 + rng.normal(0, 25)),
                "seconds": round(0.21 * update, 3), "memory": 734_003_200,
            }
        )  # fmt: skip
        if update % PER_EPOCH == 0:
            epoch = update // PER_EPOCH
            share = epoch / epochs
            scores = {"clean": 0.25 + 0.5 * share**0.6 + 0.01 * seed, "score": 0.25 + 0.4 * share}
            if robust:
                scores |= {"robust": 0.18 + 0.25 * share**0.7, "score": 0.18 + 0.25 * share**0.7}
            rows.append(a_slice(rng, update))
            right, held = rng.random(HELD_OUT) < scores["clean"], rng.random(HELD_OUT // 2) < scores.get("robust", 0)
            rows.append(TapeColumn(epoch, right, held if robust else None).record(update))
            rows.append({"kind": "epoch", "epoch": epoch, "update": update, "loss": 1.5, "seconds": 8.4, **scores})
            sights(run, epoch, rng, share)
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (run.folder / "log.txt").write_text("".join(f"epoch {e}/{epochs}\n" for e in range(1, int(done) + 1)), "utf-8")


def a_slice(rng: np.random.Generator, update: int) -> dict[str, Any]:
    """Three classes side by side, the borders anywhere."""
    edges = np.sort(rng.integers(0, SIDE, 2))
    classes = np.repeat(np.searchsorted(edges, np.arange(SIDE), side="right")[None], SIDE, 0)
    return BoundarySlice(update, 8 / 255, 0, classes, rng.integers(90, 255, (SIDE, SIDE))).record()


def sights(run: Run, epoch: int, rng: np.random.Generator, share: float) -> None:
    """The bundled sample's first pictures, noisy on the right, with answers that get better."""
    images = load("cifar10", "test", n=8, source="sample")
    clean = np.rint(images.x.numpy() * 255).astype(np.uint8)
    seen = np.clip(clean.astype(int) + rng.integers(-8, 9, clean.shape), 0, 255).astype(np.uint8)
    labels = images.y.numpy()

    def answers(sure: float) -> np.ndarray:
        logits = rng.normal(0, 1, (8, 10))
        logits[np.arange(8), labels] += sure
        p = np.exp(logits)
        return (p / p.sum(1, keepdims=True)).astype(np.float32)

    (run.folder / "sights").mkdir(exist_ok=True)
    np.savez_compressed(
        run.folder / "sights" / f"epoch-{epoch:04d}.npz",
        clean=clean, trained_on=seen, labels=labels, p_clean=answers(4 * share), p_trained_on=answers(2.5 * share),
    )  # fmt: skip

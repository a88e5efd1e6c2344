"""A page with nothing but a trace player on a made-up, smooth walk: `?mode=` finished, live, looked, grey, nomap, proven, lanes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from explorer.core.trace import FeaturePath, Trace
from explorer.ui.components.trace_player import trace_player

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLOTHES = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FROG, CAT, DOG = 6, 3, 5
EPS = 8 / 255


def blob(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """1 inside the unit circle, 0 outside, soft at the rim."""
    return 1 / (1 + np.exp(np.clip(40 * (u**2 + v**2 - 1), -50, 50)))


def picture(side: int, channels: int) -> np.ndarray:
    """(C,H,W) something round and textured on a ground, lit from above."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    ground = np.stack([0.55 + 0.2 * y, 0.47 + 0.1 * y, 0.36 - 0.1 * y])
    body = blob((x - 0.52) / 0.33, (y - 0.58) / 0.25)
    head = blob((x - 0.34) / 0.17, (y - 0.4) / 0.15)
    green = np.stack([0.34 - 0.2 * y, 0.62 - 0.3 * y, 0.16 + 0 * y])
    mask = np.maximum(body, head)
    image = ground * (1 - mask) + green * mask
    for cx, cy in ((0.29, 0.34), (0.41, 0.33)):
        eye = ((x - cx) ** 2 + (y - cy) ** 2) < 0.0025
        image[:, eye] = 0.06
    image = np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1)
    return (np.rint(image * 255) / 255).astype(np.float32)[:channels]


def walk(
    steps: int = 20, side: int = 32, channels: int = 3, classes: tuple[str, ...] = CLASSES, target: int | None = None,
    cost: int = 1,
) -> Trace:  # fmt: skip
    """A walk of `steps` steps (+ original and start) as an attack would leave it that spends `cost` passes on each."""
    rng = np.random.default_rng(0)
    frames = steps + 2
    original = picture(side, channels)
    direction = np.sign(rng.normal(size=original.shape))
    s = np.concatenate([[0.0], np.linspace(0.25, 1, frames - 1)])[:, None, None, None]
    noise = rng.uniform(-1, 1, original.shape)
    change = EPS * np.clip(noise * (s > 0) * (1 - 0.9 * s) + direction * np.minimum(1, 1.6 * s * s), -1, 1)
    pixels = np.clip(original + change, 0, 1).astype(np.float32)
    pixels[0] = original
    progress = np.linspace(0, 1, frames) ** 1.3
    logits = rng.normal(-1.5, 0.9, len(classes)) + rng.normal(0, 0.1, (frames, len(classes)))
    logits[:, FROG] = 6.5 - 8.5 * progress
    logits[:, CAT] = 0.8 + 7.4 * progress
    logits[:, DOG] = 1.4 + 2.1 * progress
    delta = pixels - original
    predicted = logits.argmax(1)
    probability = np.exp(logits - logits.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    return Trace(
        frames=pixels,
        logits=logits.astype(np.float32),
        features=np.zeros((frames, 8), np.float32),
        loss=-np.log(probability[:, FROG]).astype(np.float32),
        linf=np.abs(delta).max((1, 2, 3)).astype(np.float64),
        l2=np.sqrt((delta.astype(np.float64) ** 2).sum((1, 2, 3))),
        reached=predicted != FROG if target is None else predicted == target,
        degenerate=np.zeros(frames, bool),
        label=FROG,
        target=target,
        classes=classes,
        planned=frames,
        conditions={"norm": "linf", "eps": EPS},
        passes=cost * np.arange(frames),
    )


def first(trace: Trace, frames: int) -> Trace:
    """The walk as it stood when `frames` of its frames were known."""
    rows = ("frames", "logits", "features", "loss", "linf", "l2", "reached", "degenerate", "passes")
    fixed = ("label", "target", "classes", "planned", "conditions")
    return Trace(**{k: getattr(trace, k)[:frames] for k in rows}, **{k: getattr(trace, k) for k in fixed})


def feature_path(trace: Trace) -> FeaturePath:
    rng = np.random.default_rng(1)
    classes = len(trace.classes)
    angle = np.linspace(0, 2 * np.pi, classes, endpoint=False)
    centroids = np.stack([7 * np.cos(angle), 4.6 * np.sin(angle)], 1) * rng.uniform(0.45, 1, (classes, 1))
    kinds = np.repeat(np.arange(classes), 100).astype(np.uint8)
    points = centroids[kinds] + rng.normal(0, 0.95, (len(kinds), 2))
    s = np.linspace(0, 1, len(trace)) ** 1.2
    begin, end = centroids[FROG] + [0.5, 0.6], centroids[CAT] + [0.2, -0.5]
    path = begin + s[:, None] * (end - begin) + np.stack([np.sin(3 * s), np.cos(4 * s) - 1], 1) * 0.8
    return FeaturePath(
        points=points.astype(np.float32),
        point_classes=kinds,
        centroids=centroids.astype(np.float32),
        path=path.astype(np.float32),
        progress=0.05 + 0.85 * s,
        toward=np.where(s < 0.15, DOG, CAT),
        axes=("PC 1 (34 % of variance)", "PC 2 (18 %)"),
    )


def captions(trace: Trace) -> list[str]:
    sentences = []
    for t in range(len(trace)):
        k = int(trace.predicted[t])
        sure = f"{100 * trace.probabilities[t, k]:.0f} % sure"
        says = f"the model takes this {trace.classes[FROG]} for a {trace.classes[k]}, {sure}"
        moved = f"no pixel moved by more than {255 * trace.linf[t]:.0f}/255"
        before = "The untouched image: " if t == 0 else f"After {t - 1} of {trace.planned - 2} steps "
        sentences.append(before + says + (f"; {moved}." if t else "."))
    return sentences


def main() -> None:
    st.set_page_config(layout="wide")
    mode = st.query_params.get("mode", "finished")
    steps = int(st.query_params.get("steps", 20))
    with st.sidebar:
        st.header("Attack")
        for label in ("model", "attack", "steps"):
            st.text_input(label)
    title = "PGD against cifar10/baseline, L∞ 8/255, 20 steps"

    if mode in ("live", "looked"):  # "looked": the untouched picture alone at first, and that is over
        whole, alone = walk(steps), 5 if mode == "looked" else 0

        @st.fragment(run_every=0.15)
        def running() -> None:
            seen = st.session_state.get("seen", 0) + int(st.query_params.get("stride", 1))
            st.session_state.seen = min(seen, len(whole) + alone)
            part = first(whole, max(st.session_state.seen - alone, 1))
            live = alone < st.session_state.seen and len(part) < len(whole)
            trace_player(
                part, None if live else feature_path(part), captions(part), key="player", live=live, title=title
            )

        running()
    elif mode == "grey":
        trace = walk(steps, side=28, channels=1, classes=CLOTHES, target=CAT)
        trace_player(
            trace, feature_path(trace), captions(trace), key="player", title="A targeted attack on a grey image"
        )
    elif mode == "lanes":  # the second walk is shorter, the last one transferred
        count = int(st.query_params.get("lanes", 2))
        clock = "passes" if st.sidebar.toggle("by passes") else "steps"
        for k, column in enumerate(st.columns(count)):
            trace = walk(12, cost=3) if k == 1 else walk(steps)
            if k == count - 1:
                trace.conditions["threat"] = "transfer"
            with column:
                trace_player(
                    trace,
                    feature_path(trace),
                    captions(trace),
                    key=f"player {k}",
                    title=f"Lane {k}",
                    group="lanes",
                    clock=clock,
                )
    else:
        trace = walk(steps)
        if mode == "proven":  # the radius falls with the margin, as that of a 1-Lipschitz network
            trace = replace(trace, certified=np.abs(trace.margin.astype(np.float64)) / 6)
        trace_player(
            trace, None if mode == "nomap" else feature_path(trace), captions(trace), key="player", title=title
        )


if __name__ == "__main__":  # `walk` and the rest are imported by tests too
    main()

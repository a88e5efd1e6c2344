"""What the page of feature space says: how to read a map, and every measured number with what it was measured on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from explorer.core import wilson
from explorer.engine.featurespace import FeatureCloud, ModelCloud
from explorer.features import OFF_MAP, FeatureMap, K
from explorer.features.measures import DETECTORS, Clusters, Interval
from explorer.features.pca import Plane
from explorer.features.reference import Reference
from explorer.features.umap_map import Embedding
from explorer.models import zoo
from explorer.ui.text.attack import seconds

DASH = "–"


def title(model: str) -> str:
    return zoo.card(model).title


def number(value: float, digits: int = 2) -> str:
    if math.isinf(value):
        return "∞"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # no "−0.00"


def with_interval(found: Interval) -> str:
    """ "0.42 (0.39 to 0.45)"; of one image the number alone."""
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def share(hits: int, n: int) -> str:
    """ "18 of 24 (75 %, 55 to 88 %)", the interval Wilson's."""
    if not n:
        return DASH
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({100 * hits / n:.0f} %; {100 * low:.0f} to {100 * high:.0f} %)"


def how_to_read(grounds: Sequence[FeatureMap]) -> str:
    """What the picture is and what it is not, in a few sentences."""
    one = grounds[0]
    dims = one.points.shape[1]
    of = "class directions (rows of the last layer, scaled to the pictures' mean length)"
    count = f"{len(one.points):,} {of if one.directions else 'reference images'}"
    if one.method == "UMAP":
        words = (
            f"**UMAP** puts images beside each other that are neighbours in the network's last hidden layer ({count}). It does "
            "**not preserve distances**: the gaps between clusters, their sizes and the axes mean little. New images are placed "
            f"between their {K} nearest reference images, so none can leave the cloud; what is far from all of them is ringed "
            "as off the map."
        )
    else:
        words = (
            f"**PCA**: the {'two' if dims == 2 else 'three'} directions along which the network's last hidden layer varies most "
            f"over {count}. It is exact and linear; what happens in all other directions is not seen here."
        )
    if len(grounds) > 1:
        turned = (
            "turned, perhaps mirrored, and never stretched"
            if one.method == "PCA"
            else "turned, perhaps mirrored, and moved"
        )
        words += (
            f" Both maps show the same images; the second is {turned} so that they lie as near as they can to where they lie on "
            "the first. Each map has a scale of its own: sizes compare within one map, not between two."
        )
    if dims == 2 and not one.directions:
        words += (
            f" **Class regions** belong to the picture only: the class of most of the {K} reference images nearest *on the map*. "
            "The model decides in the full space, elsewhere."
        )
    return words


def kept_words(ground: FeatureMap, kept: float | None) -> str:
    """How much of the feature space is left on a map."""
    lines = []
    if isinstance(ground, Plane):
        explained = [float(v) for v in ground.explained]
        each = " + ".join(f"{100 * v:.0f}" for v in explained)
        lines.append(f"its axes keep {each} = {100 * sum(explained):.0f} % of the variance")
    elif isinstance(ground, Embedding) and (made := ground.facts.get("recipe")):
        versions = ground.facts.get("versions", {})
        lines.append(
            f"umap-learn {versions.get('umap-learn', '')} with {made['neighbours']} neighbours, min_dist {made['min_dist']:g}, "
            f"{made['metric']} distances, seed {made['seed']}"
        )
    if kept is None:
        lines.append("how many neighbourhoods it keeps is being measured")
    else:
        lines.append(f"neighbourhoods kept {number(kept)} (trustworthiness, {K} neighbours: 1 all, 0.5 a random map)")
    return "; ".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " :-- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def clusters_table(models: Sequence[str], found: Sequence[Clusters | None]) -> str:
    """How the classes hold together before anything is attacked."""

    def row(name: str, say: Callable[[Clusters], str]) -> list[str]:
        return [name, *("being measured" if c is None else say(c) for c in found)]

    return table(
        ["Before any attack, all reference images", *map(title, models)],
        [
            row("Silhouette: 1 tight and apart, below 0 nearer another class", lambda c: with_interval(c.silhouette)),
            row("Scatter within the classes / between them", lambda c: number(c.scatter)),
            row(f"Have the class of most of their {K} nearest others", lambda c: share_words(c.neighbours)),
        ],
    )


def share_words(found: Interval) -> str:
    low, high = found.ends
    return f"{100 * found.value:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def opening(reference: Reference, models: int) -> str:
    """Above the maps, before anything is attacked."""
    who = "the model sees" if models == 1 else "each model sees"
    if reference.directions:
        return f"Where {who} its {len(reference.labels):,} classes"
    return f"Where {who} {len(reference.labels):,} test images"


def headline(cloud: FeatureCloud) -> str:
    """How many fell on each model, so far or in the end."""
    parts = []
    for lane in cloud.lanes:
        n, fell = int(lane.right.sum()), int(lane.fooled.sum())
        if not n:
            parts.append(f"**{title(lane.model)}**: none that it gets right before")
            continue
        parts.append(f"**{title(lane.model)}**: {fell} of {n} fooled{'' if lane.finished else ' so far'}")
    return " · ".join(parts)


def progress(cloud: FeatureCloud) -> str:
    """Where a running attack stands."""
    frames, planned = (sum(v) for v in zip(*((len(lane.steps), lane.planned) for lane in cloud.lanes), strict=True))
    return f"Attacking: {frames} of {planned} recorded steps on {len(cloud.lanes)} model{'s' * (len(cloud.lanes) > 1)}."


def conditions(cloud: FeatureCloud) -> str:
    """Under which conditions everything below was measured."""
    return f"{cloud.request.title()}; {cloud.request.chosen_words()}; seed {cloud.request.batch.seed}."


def measured_table(cloud: FeatureCloud, labels: np.ndarray) -> str:
    """The finished cloud in numbers, a column a model."""
    rows: list[tuple[str, list[str]]] = [
        ("Images attacked: right before", [f"{int(lane.right.sum())} of {len(lane.right)}" for lane in cloud.lanes]),
        ("Fooled by the attack", [share(int(lane.fooled.sum()), int(lane.right.sum())) for lane in cloud.lanes]),
        (
            f"Own class among {K} nearest reference images: before → after",
            [_neighbours(lane, labels) for lane in cloud.lanes],
        ),
        ("Shift toward the false class: 1 is from centre to centre", [_shift(lane) for lane in cloud.lanes]),
        ("… toward the other wrong classes, as a control", [_others(lane) for lane in cloud.lanes]),
        ("Silhouette of the attacked images: before → after", [_silhouette(lane) for lane in cloud.lanes]),
        ("Scatter within / between classes: before → after", [_scatter(lane) for lane in cloud.lanes]),
        (
            f"Off the map in the end: farther from any reference image than {OFF_MAP:g} % of these from each other",
            [_off(lane) for lane in cloud.lanes],
        ),
    ]
    for key, detector in DETECTORS.items():
        rows.append((f"Detector “{detector.title}”: AUC", [_auc(lane, key) for lane in cloud.lanes]))
    return table(["", *(title(lane.model) for lane in cloud.lanes)], [[name, *cells] for name, cells in rows])


def _neighbours(lane: ModelCloud, labels: np.ndarray) -> str:
    if lane.measured is None:
        return DASH
    n = int(lane.right.sum())
    if not n:
        return DASH
    before, after = (
        int((voted == labels)[lane.right].sum())
        for voted in (lane.measured.neighbours_before, lane.measured.neighbours_after)
    )
    return f"{before} → {after} of {n}"


def _shift(lane: ModelCloud) -> str:
    return DASH if lane.measured is None or lane.measured.shift is None else with_interval(lane.measured.shift.mean)


def _others(lane: ModelCloud) -> str:
    found = lane.measured.shift if lane.measured is not None else None
    return DASH if found is None or found.others is None else with_interval(found.others)


def _silhouette(lane: ModelCloud) -> str:
    if lane.measured is None:
        return DASH
    return " → ".join(with_interval(lane.measured.silhouette[when]) for when in ("before", "after"))


def _scatter(lane: ModelCloud) -> str:
    if lane.measured is None:
        return DASH
    found, whose = lane.measured.among, "attacked images alone"
    if found is None:
        found, whose = lane.measured.scatter, "all reference images, the attacked in their new places"
    return f"{number(found['before'])} → {number(found['after'])} ({whose})"


def _off(lane: ModelCloud) -> str:
    if lane.measured is None:
        return DASH
    far = lane.measured.off_map[lane.right]
    if len(far) == 1:
        return f"{'yes' if far[0] > OFF_MAP else 'no'}: farther than {far[0]:.0f} % of them"
    return f"{share(int((far > OFF_MAP).sum()), len(far))}; median: farther than {np.median(far):.0f} %"


def _auc(lane: ModelCloud, key: str) -> str:
    found = lane.measured.detections[key] if lane.measured is not None else None
    if found is None:
        return f"{DASH} (none fell)" if lane.measured is not None else DASH
    n = len(found.attacked)
    return f"{with_interval(found.auc)}, {n} fallen image{'s' * (n > 1)} before and after"


def notes(cloud: FeatureCloud) -> list[str]:
    """How to take the numbers."""
    lines = [
        "All numbers are measured in the full feature space, none on the picture. In brackets: 95 % intervals over the images, "
        "which cover the choice of images, not what a stronger attack would do.",
        "The shift of an image is how far its features went along the line from its own class's centre to that of its false "
        "class (the target; else what the model takes it for in the end; else the nearest wrong centre). An untargeted "
        "attack's false class is known only afterwards: part of the shift lies in that choice, which is what the control is for.",
        "The detectors see the features and the predicted class, and nothing was fitted to this attack. An attack that knows of a "
        "detector would do better against it.",
    ]
    if cloud.request.batch.pick == "hand":
        lines.insert(1, "Images chosen by hand stand for no others: read the intervals as a spread.")
    if any(lane.draws > 1 for lane in cloud.lanes):
        lines.append("A random model's features are means over several passes, the same draws at each step.")
    spent = ", ".join(
        f"{title(lane.model)} {lane.conditions['forwards']:,} forward and {lane.conditions['backwards']:,} backward passes"
        for lane in cloud.lanes
        if "forwards" in lane.conditions
    )
    if spent:
        kind = cloud.lanes[0].conditions["threat"].capitalize()
        lines.append(f"{kind}, each model by itself; {spent}; {seconds(cloud.seconds)} of computing.")
    return lines


def steps(lane: ModelCloud, total: int) -> list[str]:
    """What each frame of a lane is; `total`: steps that the attack plans."""
    total = max(total, int(lane.steps[-1]) - 1)
    said = [
        "before the attack" if k == 0 else f"step {k - 1} of {total}" if k > 1 else "start" for k in lane.steps.tolist()
    ]
    if lane.finished and len(said) > 1:
        said[-1] = "the best found"
    return said

"""What was measured in feature space: of the models' clusters, and of an attack once it has ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from explorer.engine.cloud_measures import Measured
from explorer.engine.featurespace import FeatureCloud, ModelCloud
from explorer.features.measures import DETECTORS
from explorer.plots import features as plots
from explorer.ui.components.conditions import as_json, bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.text import features as words

Done = tuple[int, ModelCloud, Measured]  # the lane's number, the lane, what was measured


def show(cloud: FeatureCloud) -> None:
    """The attack's numbers and figures, with their conditions."""
    st.header("What was measured", anchor=False)
    st.markdown(words.measured_table(cloud, cloud.labels))
    _figures(cloud)
    bullets(words.notes(cloud))
    with st.expander("All conditions"):
        as_json([dict(lane.conditions) for lane in cloud.lanes])


def _figures(cloud: FeatureCloud) -> None:
    done = [(k, lane, lane.measured) for k, lane in enumerate(cloud.lanes) if lane.measured is not None]
    if not done:
        return
    places = [*st.columns(2, gap="large"), *st.columns(2, gap="large")]
    for place, (k, lane, measured) in zip(places, done, strict=False):
        with place:
            ways = [way for way in measured.distances if way is not None]
            own, toward = (np.stack([getattr(way, name) for way in ways], axis=1) for name in ("own", "toward"))
            st.markdown(f"**Distance to the class centres: {words.title(lane.model)}**")
            chart(plots.distances(lane.steps.tolist(), own, toward, dark=dark()), f"features.distances.{k}")
            st.caption(
                f"Mean of {len(ways)} image{'s' * (len(ways) > 1)}; the band holds their middle half. The lines go "
                "from the original over the attack's start to its last step; the large marks are the best found, which all numbers "
                "above are of."
            )
    with places[len(done)]:
        _shift_figure(done)
    with places[len(done) + 1]:
        _roc_figure(done)


def _shift_figure(done: Sequence[Done]) -> None:
    rows = []
    for k, lane, measured in done:
        found, name = measured.shift, words.title(lane.model)
        if found is None:
            continue
        both = (
            (f"{name}:<br>to its false class", found.each, found.mean),
            (f"{name}:<br>to the others", None, found.others),
        )
        for label, each, mean in both:
            if mean is not None:
                rows.append(plots.Moved(label, k, each, mean.value, mean.low, mean.high, mean.n))
    st.markdown("**Shift toward the false class**")
    chart(plots.shifts(rows, dark=dark()), "features.shifts")
    st.caption(
        "Each small mark one image; the diamond their mean with its 95 % interval. 1 is as far as from one centre to the other."
    )


def _roc_figure(done: Sequence[Done]) -> None:
    curves = []
    for k, lane, measured in done:
        for kind, (key, detector) in enumerate(DETECTORS.items()):
            found = measured.detections[key]
            if found is not None:
                name = f"{words.title(lane.model)}:<br>{detector.title.lower()}, AUC {found.auc.value:.2f} (n={len(found.attacked)})"
                curves.append(plots.Curve(name, k, kind, found.false_alarms, found.caught))
    st.markdown("**Could a detector tell?**")
    if not curves:
        st.caption("No image fell, so there is nothing to detect.")
        return
    chart(plots.detection(curves, dark=dark()), "features.roc")
    st.caption(" ".join(detector.explanation for detector in DETECTORS.values()))

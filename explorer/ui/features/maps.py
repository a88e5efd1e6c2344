"""Maps of what the models see, with an attack's images on them: drawn as soon as they are there, then moved in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from explorer.engine import Future
from explorer.engine.featurespace import FeatureCloud, aligned, maps_work, paths_on
from explorer.features import OFF_MAP, FeatureMap, Maps, NoMap, regions
from explorer.features.maps import Regions
from explorer.features.umap_map import Embedding
from explorer.models import zoo
from explorer.ui.components.features_map import Ground, Moves, features_map
from explorer.ui.features.choice import VIEWS
from explorer.ui.frame import leave_if_wanted
from explorer.ui.notices import draw_anew
from explorer.ui.page_run import Task
from explorer.ui.session import engine, look_again
from explorer.ui.text import features as words

POLL = 0.6  # seconds between two looks
PATIENCE = 0.3  # seconds a drawing may wait for the maps
REGION_CELLS, REGION_MARGIN = 120, 0.5  # a side; beyond the reference images, in parts of their width and height
MAPS: Task[tuple[Maps, ...]] = Task("features.maps")
OF = "features.maps.of"  # in st.session_state: whose maps they are, names and weights


def begin(models: tuple[str, ...]) -> Future[tuple[Maps, ...]]:
    """The work that makes the maps of these models, with these weights; begun when it is first asked for. Raises Busy."""
    wanted = tuple((name, zoo.card(name).identity) for name in models)
    kept = MAPS.future
    if kept is None or st.session_state.get(OF) != wanted or kept.state == "cancelled":
        MAPS.submit(maps_work(engine(), models))
        st.session_state[OF] = wanted
    assert MAPS.future is not None
    return MAPS.future


def grounds_of(maps: Sequence[Maps], key: str) -> tuple[FeatureMap, ...]:
    """The models' maps in the view `key`, laid onto each other. Raises NoMap."""
    _, method, axes = VIEWS[key]
    return aligned(tuple(maps), method, axes)


@dataclass(frozen=True, eq=False)
class View:
    """What is on show: the maps, and an attack on these models if there was one."""

    key: str  # of VIEWS
    models: tuple[str, ...]
    maps: Future[tuple[Maps, ...]]
    cloud: Future[FeatureCloud] | None
    run: int  # a new one is a new walk on the maps

    @property
    def standing(self) -> tuple[bool, bool]:
        """Which of the two has ended."""
        return self.maps.finished, self.cloud is None or self.cloud.finished


def watch(view: View) -> None:
    """The maps; looked at again and again while something runs, and at rest otherwise."""
    standing = view.standing
    look_again(_stage, view, standing, every=None if all(standing) else POLL, key="features.stage")


def _stage(view: View, before: tuple[bool, bool]) -> None:
    leave_if_wanted()
    view.maps.wait_for(lambda maps: True, PATIENCE)
    if view.maps.latest is None:
        _say_about_maps(view)
    else:
        _draw(view, view.maps.latest, view.cloud.latest if view.cloud is not None else None)
    if view.standing != before:
        draw_anew()  # draws everything that waits for the end, and without polling


def _say_about_maps(view: View) -> None:
    if view.maps.state == "failed":
        st.error(str(view.maps.error), icon=":material/error:")
        return
    done = [engine().plane(name).progress for name in view.models]
    parts = [f"{name}: {p[0]:,} of {p[1]:,}" for name, p in zip(map(words.title, view.models), done, strict=True) if p]
    what = "Reference images through the model, " + "; ".join(parts) if parts else "Loading the model"
    st.info(f"{what}. The map comes in a moment.", icon=":material/hourglass:")


def _draw(view: View, maps: tuple[Maps, ...], cloud: FeatureCloud | None) -> None:
    try:
        grounds = grounds_of(maps, view.key)
    except NoMap as error:
        why = "A UMAP map is missing" if error.reason == "missing" else str(error).partition(":")[0].rstrip(".")
        st.info(f"{why}, so **PCA** is shown. Below the map it can be computed.", icon=":material/arrow_downward:")
        view = replace(view, key="pca")
        grounds = grounds_of(maps, "pca")
    _, method, axes = VIEWS[view.key]
    first = maps[0].reference
    st.markdown(f"## {words.opening(first, len(maps)) if cloud is None else words.headline(cloud)}")
    features_map(
        [_ground(view, maps, at, ground) for at, ground in enumerate(grounds)],
        first.rows.numpy(),
        first.labels.numpy(),
        first.classes,
        first.dataset,
        None if cloud is None else _moves(cloud, grounds, view.run),
        key="features.map",
        live=view.cloud is not None and not view.cloud.finished,
    )
    if view.cloud is None:
        st.caption("Press **Attack** to watch some images move.")
    else:
        _say_about_attack(view.cloud)
    for ground, name, own in zip(grounds, view.models, maps, strict=True):
        kept = own.kept(method, axes) if method == "umap" or view.maps.finished else None
        st.caption(f"**{words.title(name)}**, {ground.method}: {words.kept_words(ground, kept)}.")
    if view.maps.state == "failed":
        st.error(str(view.maps.error), icon=":material/error:")
    if cloud is not None:
        st.caption(words.conditions(cloud))


def _say_about_attack(future: Future[FeatureCloud]) -> None:
    """Below the maps: how far it is, or what became of it."""
    cloud = future.latest
    if not future.finished:
        waiting = f"Waiting for your {future.position} earlier run(s)." if future.position else "Choosing the pictures."
        st.caption(waiting if cloud is None else words.progress(cloud))
    kept = "What was computed until then is shown; nothing is measured."
    if future.state == "failed":
        st.error(str(future.error) if cloud is None else f"{future.error} {kept}", icon=":material/error:")
    if future.state == "cancelled":
        st.info(f"Stopped. {kept}", icon=":material/stop_circle:")


def _ground(view: View, maps: Sequence[Maps], at: int, ground: FeatureMap) -> Ground:
    drawn: dict[str, Any] = {}
    if ground.points.shape[1] == 2 and not ground.directions:  # a region of one direction would say nothing
        weights = tuple(own.weights for own in maps[: at + 1])  # the second is turned onto the first
        made = _regions(
            weights, view.key, ground.facts.get("recipe") if isinstance(ground, Embedding) else None, ground
        )
        drawn = {"regions": made.classes, "extent": (made.x[0], made.x[-1], made.y[0], made.y[-1])}
    title = words.title(view.models[at])
    return Ground(title, ground.axes, ground.points.numpy(), ground.centroids.numpy(), **drawn)


@st.cache_resource(show_spinner=False, max_entries=32)
def _regions(weights: tuple[str, ...], view: str, recipe: Mapping[str, Any] | None, _ground: FeatureMap) -> Regions:
    """Weights, view and recipe say which map it is."""
    return regions(_ground, size=REGION_CELLS, margin=REGION_MARGIN)


def _moves(cloud: FeatureCloud, grounds: Sequence[FeatureMap], run: int) -> Moves:
    lanes = cloud.lanes
    return Moves(
        rows=cloud.rows,
        labels=cloud.labels,
        paths=[paths_on(ground, lane) for ground, lane in zip(grounds, lanes, strict=True)],
        predicted=[lane.predicted for lane in lanes],
        attacked=[lane.right for lane in lanes],
        off=[None if lane.measured is None else lane.measured.off_map > OFF_MAP for lane in lanes],
        steps=[words.steps(lane, cloud.request.batch.one.frames - 2) for lane in lanes],
        images=[lane.images if lane.finished else None for lane in lanes],
        name=str(run),
    )

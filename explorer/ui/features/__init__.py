"""The Feature space page: images on maps of what one model or two make of them, and where an attack takes them."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from explorer import __version__
from explorer.core import ExplorerError, InvalidValue
from explorer.data import raw
from explorer.engine.featurespace import CloudRequest, FeatureCloud, cloud_work
from explorer.features import NoMap
from explorer.ui.components.features_map import thumbnails
from explorer.ui.components.save import save_place
from explorer.ui.features import choice, making, maps, result
from explorer.ui.frame import row
from explorer.ui.inputs import attack as controls
from explorer.ui.page_run import PageRun, Work, gone_back, set_link
from explorer.ui.session import engine
from explorer.ui.text import features as words


class FeaturesRun(PageRun[CloudRequest, FeatureCloud]):
    """An attack on images whose features are followed. Nothing is attacked unasked: the maps alone are worth a look."""

    prefix = "features."
    names = frozenset({*CloudRequest.link, "map"})
    about = (
        "Every mark is a picture, placed by what the model's last hidden layer makes of it: pictures that the model finds alike "
        "stand together, and an attack carries them away from their own."
    )

    def open(self) -> None:
        first = controls.show_default() or self.key not in st.session_state
        st.session_state.setdefault(self.key, None)
        request = self.linked() if first or gone_back() else None
        if request is not None:
            self.show(request)
        self.prepare()
        if request is None:
            return
        if not {"attack", "rows", "count"} & st.query_params.to_dict().keys():  # the link names a map alone
            self.forget()
            self.shown = None
        elif not self.is_shown(request):
            self.start(request)

    def prepare(self) -> None:
        choice.prepare()

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        known = controls.filled(query, picture=False)
        return known if choice.NAMED & query.keys() else choice.usual(known["data"], known.get("target")) | known

    def of_link(self, query: Mapping[str, str]) -> CloudRequest:
        if query.get("map", "pca") not in choice.VIEWS:
            raise InvalidValue(f"map must be one of {', '.join(choice.VIEWS)}; got {query['map']!r}.")
        return CloudRequest.from_query(query).within()

    def current(self) -> CloudRequest:
        return choice.request().checked().within()

    def show(self, request: CloudRequest) -> None:
        query = st.query_params.to_dict()
        choice.show(request, details=bool((choice.NAMED | {"attack"}) & query.keys()))
        st.session_state["features.view"] = query.get("map", "pca")

    def same(self, shown: CloudRequest, request: CloudRequest) -> bool:
        return shown.beside == request.beside and controls.same_walk(shown.batch, request.batch)

    def work(self, request: CloudRequest) -> Work[FeatureCloud]:
        return cloud_work(engine(), request)

    def link(self, request: CloudRequest) -> dict[str, str]:
        return request.to_query()

    def draw(self, item: FeatureCloud, request: CloudRequest, finished: bool) -> None:
        """It is drawn on the maps (`watch`)."""

    def watch(self) -> None:
        """The maps, and on them an attack on these models if there was one."""
        models, key = choice.chosen_models(), st.session_state["features.view"]
        try:
            made = maps.begin(models)
        except ExplorerError as error:
            st.error(str(error), icon=":material/error:")
            return
        shown = self.shown if self.shown is not None and self.shown.models == models else None
        cloud = self.future if shown is not None else None
        link = {"data": st.session_state["dataset"], "model": models[0]}
        if shown is not None and cloud is not None:
            link = self.link(shown)
        if len(models) > 1:
            link["beside"] = models[1]
        set_link(link | ({} if key == "pca" else {"map": key}))
        with st.container(key=self.stage_key):
            maps.watch(maps.View(key, models, made, cloud, self.run))


FEATURES = FeaturesRun()


def headline() -> None:
    """Which model, beside which, on which map; then the attack and its button."""
    choice.model_boxes()
    attack, wish, button = row([3, 3, 3.2])
    controls.attack_boxes(attack, wish, choice.own_classes())
    FEATURES.button(button)


def missing_maps() -> None:
    """Under the maps: which UMAP is missing."""
    if st.session_state["features.view"] == "umap" and maps.MAPS.latest is not None:
        making.show(maps.MAPS.latest)


def outcome() -> None:
    """The numbers: of the models' clusters, and of the attack once it has ended."""
    work = maps.MAPS.future
    if work is None or work.latest is None:
        return
    made = work.latest
    models = tuple(own.name for own in made)
    cloud = FEATURES.latest
    if cloud is not None and cloud.finished and cloud.request.models == models:
        result.show(cloud)
    if not made[0].reference.directions:
        st.header("How the classes hold together", anchor=False)
        st.markdown(words.clusters_table(models, [own.clusters() if work.state == "done" else None for own in made]))
        st.caption(
            "In the full feature space, not on the map; in brackets: 95 % intervals. An image is no neighbour of itself."
        )
    save_place(
        "features-" + "-".join(name.partition("/")[2] for name in models),
        about=f"{' beside '.join(models)}. Robustness Explorer {__version__}.",
        figures={"features.shifts": "Shifts", "features.roc": "Detection"},
        key="features.save",
    )
    st.header("How to read the map", anchor=False)
    try:
        grounds = maps.grounds_of(made, st.session_state["features.view"])
    except NoMap:
        grounds = maps.grounds_of(made, "pca")
    st.markdown(words.how_to_read(grounds))


def pictures() -> None:
    """The thumbnails, for all maps of this page; last, so that nothing waits for them."""
    name = st.session_state["dataset"]
    thumbnails(name, raw(name, "test", "sample")[0].numpy(), key="features.thumbnails")

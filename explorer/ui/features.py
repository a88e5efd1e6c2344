"""The page of feature space: images on maps of what one model or two make of them, and where an attack takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from explorer.core import ExplorerError, InvalidValue
from explorer.data import dataset, raw
from explorer.engine import Future
from explorer.engine.batch_request import ManyRequest
from explorer.engine.featurespace import (
    MAX_IMAGES,
    CloudRequest,
    FeatureCloud,
    ModelCloud,
    aligned,
    cloud_work,
    maps_work,
    paths_on,
)
from explorer.engine.mapmaking import Making, MapMaker
from explorer.features import OFF_MAP, FeatureMap, Maps, NoMap, regions
from explorer.features.measures import DETECTORS
from explorer.models import zoo
from explorer.plots import features as plots
from explorer.ui import controls, frame, stage
from explorer.ui import features_words as words
from explorer.ui.features_map import Ground, Moves, features_map, thumbnails
from explorer.ui.session import engine, look_again, session_id, still_open

POLL = 0.6  # seconds between two looks at a running attack
MAP_POLL = 1.0  # ... at a map that is being computed
REGION_CELLS, REGION_MARGIN = 120, 0.5  # a side; beyond the reference images, in parts of their width and height
NONE = "no second model"
FAVOURITES = ("cifar10/baseline", "cifar10/pgd-linf")  # what the defence did to the clusters
VIEWS = {"pca": ("PCA", "pca", 2), "pca3": ("PCA, 3-D", "pca", 3), "umap": ("UMAP", "umap", 2)}
WHO = {"many": "many pictures", "picture": "one picture"}


# What is asked for


def open_page() -> None:
    """A first visit, or a step in the browser's history: what the link asks for, else the settings of the other pages.

    Nothing is attacked unasked.
    """
    state = st.session_state
    if "features.run" not in state:
        state["features.run"], state["features.future"], state["features.shown"], state["features.maps"] = (
            0,
            None,
            None,
            None,
        )
    elif not stage.gone_back():
        return
    query = st.query_params.to_dict()
    if not {"data", "model"} & query.keys():
        _show_default()
        return
    try:
        view = query.get("map", "pca")
        if view not in VIEWS:
            raise InvalidValue(f"map must be one of {', '.join(VIEWS)}; got {view!r}.")
        request = CloudRequest.from_query(query).within()
    except ExplorerError as error:
        state["notice"] = controls.not_followed(error)
        _show_default()
        return
    batch = request.batch
    controls.show(batch.one)
    state["features.view"], state["features.beside"] = view, request.beside or NONE
    single = batch.pick == "hand" and batch.count == 1
    state["features.who"] = "picture" if single else "many"
    if single:
        state["image"] = batch.rows[0]
    state["features.rows"] = batch.rows if batch.count > 1 else ()
    if batch.pick != "hand" and {"count", "class", "pick"} & query.keys():
        _show_choice(batch)
    if not {"attack", "rows", "count"} & query.keys():  # the link names a map alone
        _end()
    elif state["features.shown"] is None or not _same_walks(state["features.shown"], request):
        _start(request)


def _show_choice(batch: ManyRequest) -> None:
    state = st.session_state
    state["features.of"] = controls.EVERY if batch.of is None else batch.classes[batch.of]
    state["features.count"], state["features.shuffle"] = batch.count, batch.shuffle
    state["features.right"] = batch.pick == "right"


def _show_default() -> None:
    if "image" not in st.session_state:
        controls.show(controls.default_request())


def pictures_panel() -> None:
    """Whom the attack is on: one picture, or many of a class or of all."""
    state = st.session_state
    st.session_state.setdefault("dataset", "cifar10")
    name = state["dataset"]
    classes = dataset(name).classes
    first = classes[int(controls.sample(name).y[controls.FIRST_PICTURES.get(name, 0)])]
    for key, default in (("who", "many"), ("count", 16), ("right", True), ("shuffle", 0), ("rows", ())):
        st.session_state.setdefault(f"features.{key}", default)
    st.session_state.setdefault("features.of", first)
    if state["features.of"] not in (controls.EVERY, *classes):
        state["features.of"] = first
    st.segmented_control(
        "Attack", list(WHO), key="features.who", persist_state="session", format_func=WHO.get, required=True, width="stretch",
    )  # fmt: skip
    if state["features.who"] == "picture":
        controls.image_panel(chosen_models())
        return
    st.subheader("Pictures", anchor=False)
    controls.dataset_box()
    if state["features.rows"]:
        st.caption(f"The {len(state['features.rows'])} pictures that the link names.")
        st.button(
            "Draw others", on_click=_forget_rows, width="stretch", icon=":material/shuffle:", key="features.forget"
        )
        return
    st.selectbox(
        "Class", [controls.EVERY, *classes], key="features.of", persist_state="session", help="The cloud of one class, or a mix of all.",
    )  # fmt: skip
    st.slider("How many", 1, MAX_IMAGES, key="features.count", persist_state="session")
    st.toggle(
        "Only what the models get right",
        key="features.right",
        persist_state="session",
        help="Pictures that are wrong before any attack are never attacked; with this on, none is among them.",
    )
    st.button(
        "Draw others",
        on_click=_draw_others,
        width="stretch",
        icon=":material/shuffle:",
        help=f"Draw number {state['features.shuffle']} of the random choice: the same number, the same pictures.",
    )


def _forget_rows() -> None:
    st.session_state["features.rows"] = ()


def _draw_others() -> None:
    st.session_state["features.shuffle"] = (st.session_state["features.shuffle"] + 1) % 2**31


def headline() -> None:
    """Which model, beside which, on which map; then the attack and its button."""
    state = st.session_state
    titles = controls.model_titles()
    first = FAVOURITES[0] if FAVOURITES[0] in titles else next(iter(titles))
    if state.get("model") not in titles:
        state["model"] = first
    st.session_state.setdefault("model", first)
    others = [name for name in titles if name != state["model"]]
    beside = next((name for name in reversed(FAVOURITES) if name in others), NONE)
    st.session_state.setdefault("features.beside", beside)
    if state["features.beside"] not in (NONE, *others):
        state["features.beside"] = beside
    st.session_state.setdefault("features.view", "pca")
    one, two, three = st.columns([3, 3, 3.2], vertical_alignment="bottom")
    one.selectbox("What this model sees", list(titles), key="model", persist_state="session", format_func=titles.get)
    two.selectbox(
        "beside this one", [NONE, *others], key="features.beside", persist_state="session", format_func=lambda name: titles.get(name, name),
    )  # fmt: skip
    three.segmented_control(
        "on this map",
        list(VIEWS),
        key="features.view",
        persist_state="session",
        format_func=lambda key: VIEWS[key][0],
        required=True,
        help="PCA is exact and linear. UMAP keeps neighbours together, and preserves no distances.",
    )
    controls.attack_row(
        st.columns([3, 3, 3.2], vertical_alignment="bottom"), running(), begin, cancel, own=_own_classes()
    )


def _own_classes() -> list[int] | None:
    """Classes that cannot be wished for: that of the pictures, where there is one."""
    state = st.session_state
    if state["features.who"] == "picture":
        return None
    if state["features.rows"]:
        labels = controls.sample(state["dataset"]).y
        return sorted({int(labels[row]) for row in state["features.rows"]})
    of = state["features.of"]
    return [] if of == controls.EVERY else [dataset(state["dataset"]).classes.index(of)]


def chosen_models() -> tuple[str, ...]:
    """The model, and the one beside it if there is one; of the first moment, too."""
    state = st.session_state
    beside = state.get("features.beside", NONE)
    return (state["model"],) if beside in (NONE, state["model"]) else (state["model"], beside)


def current_request() -> CloudRequest:
    """What the controls say, checked; raises ExplorerError with one sentence."""
    beside = (chosen_models()[1:] or (None,))[0]
    return CloudRequest(_current_batch(), beside).checked().within()


def _current_batch() -> ManyRequest:
    state, settings = st.session_state, controls.attack_settings()
    if state["features.who"] == "picture":
        if not isinstance(state["image"], int):
            raise InvalidValue("Your own picture is none of the sample's: choose one of those on this page.")
        return ManyRequest(pick="hand", rows=(state["image"],), **settings)
    if state["features.rows"]:
        return ManyRequest(pick="hand", rows=state["features.rows"], **settings)
    of = None if state["features.of"] == controls.EVERY else state["features.of"]
    pick = "right" if state["features.right"] else "random"
    count, shuffle = state["features.count"], state["features.shuffle"]
    return ManyRequest(pick=pick, count=count, of=of, shuffle=shuffle, **settings)


def _same_walks(shown: CloudRequest, request: CloudRequest) -> bool:
    return shown.beside == request.beside and stage.same_walk(shown.batch, request.batch)


# The runs


def begin() -> None:
    """Attack with what the controls say; a request that cannot be made becomes a notice."""
    try:
        _start(current_request())
    except ExplorerError as error:
        st.session_state["notice"] = str(error)


def _end() -> None:
    """No attack is on show."""
    state = st.session_state
    if state["features.future"] is not None:
        state["features.future"].cancel()
    state["features.shown"], state["features.future"] = None, None


def _start(request: CloudRequest) -> None:
    state = st.session_state
    _end()
    state["features.run"] += 1
    state["features.shown"] = request
    try:
        state["features.future"] = engine().submit(session_id(), cloud_work(engine(), request), alive=still_open())
    except ExplorerError as error:
        state["notice"] = str(error)


def running() -> bool:
    """Whether this session's attack is under way."""
    future = st.session_state["features.future"]
    return future is not None and not future.finished


def cancel() -> None:
    st.session_state["features.future"].cancel()


def notices() -> None:
    """What stands above the maps: that the settings differ from what is shown, and what went wrong."""
    state = st.session_state
    shown: CloudRequest | None = state["features.shown"]
    wrong = ""
    try:
        request = current_request()
        if shown is not None and not _same_walks(shown, request):
            st.info("The settings have changed: press **Attack** to try them.", icon=":material/arrow_upward:")
    except ExplorerError as error:
        wrong = str(error)
        st.error(wrong, icon=":material/error:")
    stage.say_notice(wrong)


def _maps_future(models: tuple[str, ...]) -> Future[tuple[Maps, ...]] | None:
    """The work that makes the maps of these models, with these weights; begun when it is first asked for."""
    state = st.session_state
    wanted = tuple((name, zoo.card(name).sha256) for name in models)
    kept = state["features.maps"]
    if kept is not None and kept[0] == wanted and kept[1].state != "cancelled":
        return kept[1]
    if kept is not None:
        kept[1].cancel()
    try:
        future = engine().submit(session_id(), maps_work(engine(), models), alive=still_open())
    except ExplorerError as error:
        st.error(str(error), icon=":material/error:")
        return None
    state["features.maps"] = (wanted, future)
    return future


@dataclass(frozen=True, eq=False)
class _View:
    """What is on show: the maps, and an attack on these models if there was one."""

    key: str  # of VIEWS
    models: tuple[str, ...]
    maps: Future[tuple[Maps, ...]]
    cloud: Future[FeatureCloud] | None

    @property
    def standing(self) -> tuple[bool, bool]:
        """Which of the two has ended."""
        return self.maps.finished, self.cloud is None or self.cloud.finished


def watch() -> None:
    """The maps; looked at again and again while something runs, and at rest otherwise."""
    state = st.session_state
    models, key = chosen_models(), state["features.view"]
    maps = _maps_future(models)
    if maps is None:
        return
    shown: CloudRequest | None = state["features.shown"]
    ours = shown is not None and shown.models == models and state["features.future"] is not None
    view = _View(key, models, maps, state["features.future"] if ours else None)
    link = shown.to_query() if ours else {"data": state["dataset"], "model": models[0]}
    if len(models) > 1:
        link["beside"] = models[1]
    stage.set_link(link | ({} if key == "pca" else {"map": key}))
    standing = view.standing
    look_again(_stage, view, standing, every=None if all(standing) else POLL, key="features.stage")


def _stage(view: _View, before: tuple[bool, bool]) -> None:
    if frame.WANTED in st.session_state:
        st.rerun()  # of the whole app, which goes to that page
    stage.await_first(view.maps)
    if view.maps.latest is None:
        _say_about_maps(view)
    else:
        _draw(view, view.maps.latest, view.cloud.latest if view.cloud is not None else None)
    if view.standing != before:
        stage.draw_anew()  # draws everything that waits for the end, and without polling


def _say_about_maps(view: _View) -> None:
    if view.maps.state == "failed":
        st.error(view.maps.error, icon=":material/error:")
        return
    done = [engine().plane(name).progress for name in view.models]
    parts = [f"{name}: {p[0]:,} of {p[1]:,}" for name, p in zip(map(words.title, view.models), done, strict=True) if p]
    what = "Reference images through the model, " + "; ".join(parts) if parts else "Loading the model"
    st.info(f"{what}. The map comes in a moment.", icon=":material/hourglass:")


def _draw(view: _View, maps: tuple[Maps, ...], cloud: FeatureCloud | None) -> None:
    _, method, axes = VIEWS[view.key]
    try:
        grounds = aligned(maps, method, axes)
    except NoMap as error:
        why = "A UMAP map is missing" if error.reason == "missing" else str(error).partition(":")[0].rstrip(".")
        st.info(f"{why}, so **PCA** is shown. Below the map it can be computed.", icon=":material/arrow_downward:")
        view = _View("pca", view.models, view.maps, view.cloud)
        _, method, axes = VIEWS["pca"]
        grounds = aligned(maps, method, axes)
    first = maps[0].reference
    st.markdown(f"#### {words.opening(len(first.labels), len(maps)) if cloud is None else words.headline(cloud)}")
    features_map(
        [_ground(view, maps, at, ground) for at, ground in enumerate(grounds)],
        first.rows.numpy(),
        first.labels.numpy(),
        first.classes,
        first.dataset,
        None if cloud is None else _moves(cloud, grounds),
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
        st.error(view.maps.error, icon=":material/error:")
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
        st.error(future.error if cloud is None else f"{future.error} {kept}", icon=":material/error:")
    if future.state == "cancelled":
        st.info(f"Stopped. {kept}", icon=":material/stop_circle:")


def _ground(view: _View, maps: Sequence[Maps], at: int, ground: FeatureMap) -> Ground:
    drawn = {}
    if ground.points.shape[1] == 2:
        weights = tuple(own.weights for own in maps[: at + 1])  # the second is turned onto the first
        made = _regions(weights, view.key, ground.facts.get("recipe") if ground.method == "UMAP" else None, ground)
        drawn = {"regions": made.classes, "extent": (made.x[0], made.x[-1], made.y[0], made.y[-1])}
    title = words.title(view.models[at])
    return Ground(title, ground.axes, ground.points.numpy(), ground.centroids.numpy(), **drawn)


@st.cache_resource(show_spinner=False, max_entries=32)
def _regions(weights: tuple[str, ...], view: str, recipe: dict | None, _ground: FeatureMap):
    """Weights, view and recipe say which map it is."""
    return regions(_ground, size=REGION_CELLS, margin=REGION_MARGIN)


def _moves(cloud: FeatureCloud, grounds: Sequence[FeatureMap]) -> Moves:
    lanes = cloud.lanes
    return Moves(
        rows=cloud.rows,
        labels=cloud.labels,
        paths=[paths_on(ground, lane) for ground, lane in zip(grounds, lanes, strict=True)],
        predicted=[lane.predicted for lane in lanes],
        attacked=[lane.right for lane in lanes],
        off=[None if lane.measured is None else lane.measured.off_map > OFF_MAP for lane in lanes],
        steps=[_step_words(lane, cloud.request.batch.one.frames - 2) for lane in lanes],
        images=[lane.images if lane.finished else None for lane in lanes],
        name=str(st.session_state["features.run"]),
    )


def _step_words(lane: ModelCloud, total: int) -> list[str]:
    total = max(total, int(lane.steps[-1]) - 1)
    said = [
        "before the attack" if k == 0 else f"step {k - 1} of {total}" if k > 1 else "start" for k in lane.steps.tolist()
    ]
    if lane.finished and len(said) > 1:
        said[-1] = "the best found"
    return said


# Maps that are not there yet


@st.cache_resource(show_spinner=False)
def maker() -> MapMaker:
    """Who computes UMAP maps in the background, one at a time for all sessions."""
    return MapMaker()


def missing_maps() -> None:
    """Under the maps: which UMAP is missing and why; to be computed in the background, watched and stopped."""
    kept = st.session_state["features.maps"]
    if st.session_state["features.view"] != "umap" or kept is None or kept[1].latest is None:
        return
    for maps in kept[1].latest:
        try:
            maps.umap()
        except NoMap as why:
            making = maker().of(maps.name)
            polling = making is not None and making.state == "running"
            every, key = MAP_POLL if polling else None, f"features.missing.{maps.name}"
            look_again(_missing, maps.name, str(why), polling, every=every, key=key)


def _missing(name: str, why: str, polling: bool) -> None:
    making: Making | None = maker().of(name)
    state = making.state if making is not None else "none"
    if polling != (state == "running"):
        stage.draw_anew()  # to begin looking again and again, or to end it
    with st.container(border=True):
        left, right = st.columns([4, 1.4], vertical_alignment="center")
        if state == "running":
            left.markdown(
                f"**Computing the UMAP map of {words.title(name)}**, {making.seconds:.0f} s. {making.doing.rstrip(' .')} …"
            )
            left.caption(
                "In a process of its own, with one thread: a minute or more. Other pages can be used meanwhile."
            )
            right.button(
                "Cancel",
                icon=":material/stop_circle:",
                on_click=making.cancel,
                width="stretch",
                key=f"features.stop.{name}",
            )
            return
        left.markdown(f"{why} PCA is shown until then.")
        if state == "failed":
            left.error(f"It could not be computed. {making.doing}", icon=":material/error:")
        if state == "cancelled":
            left.caption("Stopped; nothing half-made was kept.")
        right.button(
            "Compute it", type="primary", on_click=_make, args=(name,), width="stretch", key=f"features.make.{name}"
        )


def _make(name: str) -> None:
    try:
        maker().start(name)
    except ExplorerError as error:
        st.session_state["notice"] = str(error)


# What was measured


def outcome() -> None:
    """The numbers: of the models' clusters, and of the attack once it has ended."""
    state = st.session_state
    kept = state["features.maps"]
    if kept is None or kept[1].latest is None:
        return
    maps: tuple[Maps, ...] = kept[1].latest
    models = tuple(own.name for own in maps)
    future: Future[FeatureCloud] | None = state["features.future"]
    cloud = future.latest if future is not None else None
    if cloud is not None and cloud.finished and cloud.request.models == models:
        _measured(cloud)
    st.subheader("How the classes hold together", anchor=False)
    st.markdown(words.clusters_table(models, [own.clusters() if kept[1].state == "done" else None for own in maps]))
    st.caption(
        "In the full feature space, not on the map; in brackets: 95 % intervals. An image is no neighbour of itself."
    )
    st.subheader("How to read the map", anchor=False)
    _, method, axes = VIEWS[state["features.view"]]
    try:
        grounds = aligned(maps, method, axes)
    except NoMap:
        grounds = aligned(maps, "pca", 2)
    st.markdown(words.how_to_read(grounds))


def _measured(cloud: FeatureCloud) -> None:
    st.subheader("What was measured", anchor=False)
    st.markdown(words.measured_table(cloud, cloud.labels))
    _figures(cloud)
    st.markdown("\n".join(f"- {line}" for line in words.notes(cloud)))
    with st.expander("All conditions"):
        st.code(
            json.dumps([dict(lane.conditions) for lane in cloud.lanes], indent=1, ensure_ascii=False), language="json"
        )


def _figures(cloud: FeatureCloud) -> None:
    done = [(k, lane) for k, lane in enumerate(cloud.lanes) if lane.measured is not None]
    if not done:
        return
    places = [*st.columns(2, gap="large"), *st.columns(2, gap="large")]
    for place, (k, lane) in zip(places, done, strict=False):
        with place:
            ways = [way for way in lane.measured.distances if way is not None]
            own, toward = (np.stack([getattr(way, name) for way in ways], axis=1) for name in ("own", "toward"))
            st.markdown(f"**Distance to the class centres: {words.title(lane.model)}**")
            st.plotly_chart(
                plots.distances(lane.steps, own, toward, dark=_dark()),
                key=f"features.distances.{k}",
                theme=None,
                config=PLAIN,
            )
            st.caption(
                f"Mean of {len(ways)} image{'s' * (len(ways) > 1)}; the band holds their middle half. 0 is the untouched image, 1 the "
                "attack's start; the large mark the best found, which all numbers above are of."
            )
    with places[len(done)]:
        _shift_figure(done)
    with places[len(done) + 1]:
        _roc_figure(done)


def _shift_figure(done: Sequence[tuple[int, ModelCloud]]) -> None:
    rows = []
    for k, lane in done:
        found, name = lane.measured.shift, words.title(lane.model)
        both = (
            (f"{name}:<br>to its false class", found.each, found.mean),
            (f"{name}:<br>to the others", None, found.others),
        )
        for label, each, mean in both:
            if mean is not None:
                rows.append(plots.Moved(label, k, each, mean.value, mean.low, mean.high, mean.n))
    st.markdown("**Shift toward the false class**")
    st.plotly_chart(plots.shifts(rows, dark=_dark()), key="features.shifts", theme=None, config=PLAIN)
    st.caption(
        "Each small mark one image; the diamond their mean with its 95 % interval. 1 is as far as from one centre to the other."
    )


def _roc_figure(done: Sequence[tuple[int, ModelCloud]]) -> None:
    curves = []
    for k, lane in done:
        for kind, (key, detector) in enumerate(DETECTORS.items()):
            found = lane.measured.detections[key]
            if found is not None:
                name = f"{words.title(lane.model)}:<br>{detector.title.lower()}, AUC {found.auc.value:.2f} (n={len(found.attacked)})"
                curves.append(plots.Curve(name, k, kind, found.false_alarms, found.caught))
    st.markdown("**Could a detector tell?**")
    if not curves:
        st.caption("No image fell, so there is nothing to detect.")
        return
    st.plotly_chart(plots.detection(curves, dark=_dark()), key="features.roc", theme=None, config=PLAIN)
    st.caption(" ".join(detector.explanation for detector in DETECTORS.values()))


PLAIN = {"displayModeBar": False}


def _dark() -> bool:
    return st.context.theme.type == "dark"


def pictures() -> None:
    """The thumbnails, for all maps of this page; last, so that nothing waits for them."""
    name = st.session_state["dataset"]
    thumbnails(name, raw(name, "test", "sample")[0].numpy(), key="features.thumbnails")

"""Choices that several pages offer: dataset, model, attack, class; and the bundled pictures to choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import streamlit as st
import torch

from explorer.data import Images, dataset, load
from explorer.defenses import GROUPS as RECIPE_GROUPS
from explorer.defenses import RECIPES
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.ui.components.gallery import Thumb
from explorer.ui.components.pictures import thumb_url
from explorer.ui.text.choosers import model_label

ANY = "any wrong class"
EVERY = "all classes"
FAVOURITE = "cifar10/baseline"  # shown first: it falls at once
# A frog that nobody mistakes, but the favourite takes for a cat after six steps; a squirrel that is seen as one.
FIRST_PICTURES = {"cifar10": 317, "photos": 6}


def named(titles: Mapping[str, str]) -> Callable[[str], str]:
    """For `format_func`: the title of a key; an unknown one as it is."""
    return lambda key: titles.get(key, key)


def model_titles() -> dict[str, str]:
    """Name and title of each model made for the chosen dataset, family by family."""
    return _told_apart({card.name: card.title for card in _of_dataset()})


def model_labels() -> dict[str, str]:
    """Name and label of each model made for the chosen dataset; the label holds whatever one would search for."""
    return _told_apart({card.name: model_label(card) for card in _of_dataset()})


def _of_dataset() -> list[Card]:
    return [card for card in families() if card.dataset == st.session_state["dataset"]]


def _told_apart(labels: dict[str, str]) -> dict[str, str]:
    """With its name behind each label that several have: a recipe run twice. Streamlit finds a choice again by its label."""
    often = Counter(labels.values())
    return {name: f"{label} · {name}" if often[label] > 1 else label for name, label in labels.items()}


def families() -> list[Card]:
    """The zoo's cards, each dataset's as the Training page groups their recipes; those of no recipe come last."""

    def place(card: Card) -> tuple[str, int]:
        group = RECIPES.entry(card.recipe).group if card.recipe in RECIPES else ""
        return card.dataset, RECIPE_GROUPS.index(group) if group in RECIPE_GROUPS else len(RECIPE_GROUPS)

    return sorted(zoo.cards(), key=place)  # inside a family by name


def rows_of_class(name: str, wanted: str) -> list[int]:
    """Rows of the sample that show this class, or EVERY."""
    labels = sample(name).y
    if wanted == EVERY:
        return list(range(len(labels)))
    return torch.nonzero(labels == dataset(name).classes.index(wanted)).flatten().tolist()


def classes_with_pictures(name: str) -> list[str]:
    """Those that the sample shows: of the photographs' 1,000 a few."""
    images = sample(name)
    return [images.classes[k] for k in images.y.unique().tolist()]


@st.cache_resource(show_spinner=False)
def sample(name: str) -> Images:
    """The bundled pictures of a dataset, decoded once per process; read only."""
    return load(name, split="test", source="sample")


@st.cache_data(show_spinner=False, max_entries=512)
def thumbs(name: str, rows: tuple[int, ...]) -> list[Thumb]:
    """The sample's pictures in these rows, for a gallery."""
    images = sample(name)
    return [
        Thumb(row, thumb_url(images.x[row].numpy()), f"{images.classes[images.y[row]]}, picture {row}") for row in rows
    ]


def draw_others(key: str, for_whom: str = "") -> None:
    """A button that draws other pictures at random; `key` keeps the number of the draw."""

    def draw() -> None:
        st.session_state[key] = (st.session_state[key] + 1) % 2**31

    st.button(
        "Draw others",
        on_click=draw,
        width="stretch",
        icon=":material/shuffle:",
        help=f"Draw number {st.session_state[key]} of the random choice: the same number, the same pictures{for_whom}.",
    )


def classes_of(rows: Iterable[int]) -> list[int]:
    """The classes of these pictures of the chosen dataset."""
    labels = sample(st.session_state["dataset"]).y
    return sorted({int(labels[row]) for row in rows})


def class_number(name: str) -> int:
    """Of a class of the chosen dataset."""
    return dataset(st.session_state["dataset"]).classes.index(name)

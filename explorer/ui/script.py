"""The script that Streamlit runs for every page: the frame around it, and nothing else."""

import streamlit as st

from explorer.core.paths import app
from explorer.ui import frame, room
from explorer.ui.session import slow_down

PAGES = app().parent / "pages"

slow_down("page")
frame.prepare()
pages = {
    name: st.Page(PAGES / f"{name}.py", title=title, icon=f":material/{icon}:", default=name == "attack")
    for name, title, icon in (
        ("attack", "Attack", "bolt"),
        ("compare", "Compare", "compare"),
        ("features", "Feature space", "scatter_plot"),
        ("many", "Many pictures", "grid_view"),
        ("certify", "Certify", "verified_user"),
        ("lab", "Lab", "science"),
        ("models", "Models", "model_training"),
        ("training", "Training", "fitness_center"),
        ("lessons", "Lessons", "school"),
    )
}
groups = {
    "Explore": ("attack", "compare", "features"),
    "Measure": ("many", "certify", "lab", "models"),
    "Class": ("lessons", "training"),
}
page = st.navigation({group: [pages[name] for name in names] for group, names in groups.items()}, position="top")
frame.go_on_to(pages, page)
frame.name_page(page.title)
above = room.bar()
with frame.one_sentence_for_errors():
    page.run()
frame.footer()
room.lead(above)

"""Robustness Explorer: `streamlit run app.py`. The frame around the pages, and nothing else."""

from pathlib import Path

import streamlit as st

from explorer.ui import frame

HERE = Path(__file__).parent

frame.prepare()
pages = {
    "attack": st.Page(HERE / "pages" / "attack.py", title="Attack", icon=":material/bolt:", default=True),
    "compare": st.Page(HERE / "pages" / "compare.py", title="Compare", icon=":material/compare:"),
    "many": st.Page(HERE / "pages" / "many.py", title="Many pictures", icon=":material/grid_view:"),
    "features": st.Page(HERE / "pages" / "features.py", title="Feature space", icon=":material/scatter_plot:"),
    "certify": st.Page(HERE / "pages" / "certify.py", title="Certify", icon=":material/verified_user:"),
    "training": st.Page(HERE / "pages" / "training.py", title="Training", icon=":material/fitness_center:"),
    "models": st.Page(HERE / "pages" / "models.py", title="Models", icon=":material/model_training:"),
}
page = st.navigation(list(pages.values()), position="top")
frame.go_on_to(pages)
with frame.one_sentence_for_errors():
    page.run()
frame.footer()

"""Robustness Explorer: `streamlit run app.py`. The frame around the pages, and nothing else."""

from pathlib import Path

import streamlit as st

from explorer.ui import frame

HERE = Path(__file__).parent

frame.prepare()
page = st.navigation(
    [
        st.Page(HERE / "pages" / "attack.py", title="Attack", icon=":material/bolt:", default=True),
        st.Page(HERE / "pages" / "models.py", title="Models", icon=":material/model_training:"),
    ],
    position="top",
)
with frame.one_sentence_for_errors():
    page.run()
frame.footer()

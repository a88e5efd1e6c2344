"""Training: choose a recipe, start it, watch it learn; it goes on in the background."""

import streamlit as st

from explorer.ui import frame, training

frame.inside("training")
training.open_page()
training.headline()
with st.sidebar:
    training.panel()
notes = st.container()  # always there, so that what is below keeps its place
with notes:
    training.notices()
training.show()

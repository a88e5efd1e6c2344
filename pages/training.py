"""Training: choose a recipe, start it, watch it learn; it goes on in the background."""

import streamlit as st

from explorer import __version__
from explorer.ui import frame
from explorer.ui.components.save import save_place
from explorer.ui.notices import say_notice
from explorer.ui.training import acts, choice, runs

frame.inside("training")
runs.open_page()
choice.headline(acts.start)
with st.sidebar:
    choice.panel()
with frame.notes():
    say_notice()
runs.show()
save_place("training", about=f"Training on this computer. Robustness Explorer {__version__}.", key="training.save")

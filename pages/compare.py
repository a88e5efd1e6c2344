"""Several models beside each other: the same picture, the same attack, the players in step."""

from functools import partial

import streamlit as st

from explorer.ui import compare, frame, gate
from explorer.ui.compare import COMPARE
from explorer.ui.inputs.attack import attack_panel
from explorer.ui.inputs.picture import image_panel
from explorer.ui.inputs.withstood import withstood_button
from explorer.ui.text.keys import MAP, PLAY

frame.inside("compare")
COMPARE.open()
with st.sidebar:
    models = st.session_state["models"]
    image_panel(models, partial(withstood_button, models), (PLAY, MAP))
compare.headline()
with st.sidebar:
    attack_panel(st.session_state["models"])
    gate.toggle()
with frame.notes():
    COMPARE.notices()
COMPARE.watch()
compare.outcome()

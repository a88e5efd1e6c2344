"""Many pictures at once: choose a strip, press one button, and see how many are fooled."""

import streamlit as st

from explorer.ui import frame, gate, many
from explorer.ui.inputs.attack import attack_panel
from explorer.ui.many import MANY
from explorer.ui.many.choice import pictures_panel

frame.inside("many")
MANY.open()
with st.sidebar:
    pictures_panel()
many.headline()
with st.sidebar:
    attack_panel()
    gate.toggle()
with frame.notes():
    MANY.notices()
MANY.watch()
many.outcome()
many.method()

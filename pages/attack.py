"""Attack one picture: choose it, choose a model, press one button, watch."""

import streamlit as st

from explorer.ui import attack, frame, gate, own_attack
from explorer.ui.attack import ATTACK
from explorer.ui.inputs.attack import attack_panel
from explorer.ui.inputs.picture import image_panel
from explorer.ui.inputs.withstood import withstood_button
from explorer.ui.text.keys import MAP, PLAY

frame.inside("attack")
ATTACK.open()
with st.sidebar:
    image_panel(beside=withstood_button, more_keys=(PLAY, MAP))
attack.headline()
with st.sidebar:
    attack_panel()
    gate.toggle()
with frame.notes():
    ATTACK.notices()
ATTACK.watch()
attack.outcome()
own_attack.show()

"""Attack one picture: choose it, choose a model, press one button, watch."""

import streamlit as st

from explorer.core import ExplorerError
from explorer.ui import controls, stage

if "shown" not in st.session_state and "image" not in st.session_state:
    request, complaint = controls.first_request()
    controls.show(request)
    stage.start(request)  # the page opens with an attack being played
    st.session_state["notice"] = complaint

with st.sidebar:
    controls.image_panel()
pressed = controls.headline()
with st.sidebar:
    controls.attack_panel()
if notice := st.session_state.pop("notice", None):
    st.warning(notice, icon=":material/info:")
try:
    request = controls.current_request()
except ExplorerError as error:
    st.error(str(error), icon=":material/error:")
else:
    if pressed:
        stage.start(request)
    elif request != st.session_state.get("shown"):
        st.caption("The settings have changed: press **Attack** to play them. Below is the walk before the change.")
stage.watch()
stage.outcome()

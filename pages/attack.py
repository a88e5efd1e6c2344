"""Attack one picture: choose it, choose a model, press one button, watch."""

import streamlit as st

from explorer.ui import controls, frame, stage

frame.inside("attack")
if "image" not in st.session_state:
    request, complaint = controls.first_request()
    controls.show(request)
    stage.start(request)  # the page opens with an attack being played
    if complaint:
        st.session_state["notice"] = complaint
elif stage.gone_back():  # to an earlier walk, or forward again
    request, complaint = controls.first_request()
    if not stage.is_shown(request):
        controls.show(request)
        stage.start(request)
    if complaint:
        st.session_state["notice"] = complaint
elif "future" not in st.session_state:
    stage.begin()  # another page has been here first: what was chosen there

with st.sidebar:
    controls.image_panel()
controls.headline(stage.running(), begin=stage.begin, cancel=stage.cancel)
with st.sidebar:
    controls.attack_panel()
notes = st.container()  # always there, so that the stage below keeps its place
with notes:
    stage.say_settings(lambda: stage.is_shown(controls.current_request()), "play")
stage.watch()
stage.outcome()

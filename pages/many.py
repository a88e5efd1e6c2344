"""Many pictures at once: choose a strip, press one button, and see how many are fooled."""

import streamlit as st

from explorer.ui import controls, frame, many, stage

frame.inside("many")
many.open_page()
with st.sidebar:
    many.pictures_panel()
controls.headline(many.running(), begin=many.begin, cancel=many.cancel, own=many.own_classes())
with st.sidebar:
    controls.attack_panel()
notes = st.container()  # always there, so that what is below keeps its place
with notes:
    stage.say_settings(lambda: many.is_shown(many.current_request()), "try")
many.watch()
many.outcome()
many.method()

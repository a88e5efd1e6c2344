"""Several models beside each other: the same picture, the same attack, the players in step."""

import streamlit as st

from explorer.ui import compare, controls, frame, stage

frame.inside("compare")
compare.open_first()

with st.sidebar:
    controls.image_panel(compare.chosen_models())
compare.headline()
with st.sidebar:
    controls.attack_panel()
notes = st.container()  # always there, so that the players below keep their place
with notes:
    stage.say_settings(lambda: compare.is_shown(compare.current_request()), "play")
compare.watch()
compare.outcome()

"""Several models beside each other: the same picture, the same attack, the players in step."""

import streamlit as st

from explorer.core import ExplorerError
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
    try:
        if not compare.is_shown(compare.current_request()):
            st.info("The settings have changed: press **Attack** to play them.", icon=":material/arrow_upward:")
    except ExplorerError as error:
        st.error(str(error), icon=":material/error:")
    stage.say_notice()
compare.watch()
compare.outcome()

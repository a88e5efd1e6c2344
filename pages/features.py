"""Feature space: where the models see images, and where an attack takes them."""

import streamlit as st

from explorer.ui import controls, features, frame

frame.inside("features")
features.open_page()
with st.sidebar:
    features.pictures_panel()
features.headline()
with st.sidebar:
    controls.attack_panel()
notes = st.container()  # always there, so that the maps below keep their place
with notes:
    features.notices()
features.watch()
features.missing_maps()
features.outcome()
features.pictures()

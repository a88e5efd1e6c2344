"""Feature space: where the models see images, and where an attack takes them."""

import streamlit as st

from explorer.ui import features, frame
from explorer.ui.features import FEATURES
from explorer.ui.features.choice import chosen_models, pictures_panel
from explorer.ui.inputs.attack import attack_panel

frame.inside("features")
FEATURES.open()
with st.sidebar:
    pictures_panel()
features.headline()
with st.sidebar:
    attack_panel(chosen_models())
with frame.notes():
    FEATURES.notices()
FEATURES.watch()
features.missing_maps()
features.outcome()
features.pictures()

"""The models: what was measured on each, which gives up how much, each card in full; and adding one."""

import streamlit as st

from explorer.ui import add_model, frame, model_cards, model_table
from explorer.ui.notices import say_notice

frame.inside("models")
model_cards.open_link()
add_model.open_page()
with st.sidebar:
    fitting = model_table.chooser()
say_notice()
model_table.show(fitting)
model_table.smoke_runs()
add_model.panel()
model_cards.details()

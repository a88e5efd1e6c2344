"""A Streamlit page with nothing but a line that says for which theme it was drawn."""

import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from explorer.ui.components.theme_change import follow_theme

state = st.session_state
state["runs"] = state.get("runs", 0) + 1
st.markdown(f"Drawn for a {st.context.theme.type} page.")
st.markdown(f"Run {state['runs']}.")
follow_theme()

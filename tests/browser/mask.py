"""A Streamlit page with nothing but the form of an attack whose mask is painted, and the mask it gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import streamlit as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from explorer.attacks.localized import LocalizedPGD
from explorer.ui.components.pictures import to_url
from explorer.ui.inputs.forms import Scene, form_for

st.session_state.setdefault("m.area", "drawn")
st.session_state.setdefault("m.mask", "8000000000000000")
grey = np.linspace(0, 1, 3 * 32 * 32, dtype=np.float32).reshape(3, 32, 32)
values = form_for(LocalizedPGD, "m", Scene(to_url(grey), {}))
st.text(f"mask {values['mask']}")

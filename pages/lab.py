"""Lab: many pictures: accuracy over eps, gradient masking, random models, transfer, ROC curves, the board, and papers repeated."""

import streamlit as st

from explorer.ui import frame
from explorer.ui.lab import board, curves, draws, papers, real, roc, transfer, views

PARTS = {
    views.CURVES: curves,
    views.REAL: real,
    views.DRAWS: draws,
    views.TRANSFER: transfer,
    views.ROC: roc,
    views.BOARD: board,
    views.PAPERS: papers,
}

frame.inside("lab")
view = views.chosen()
part = PARTS[view]
if view not in (views.BOARD, views.PAPERS):
    part.open_page()
with st.sidebar:
    part.panel()
part.show()

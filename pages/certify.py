"""Certify: how far an answer is proven, for one picture, for a test set, and by every kind of certificate in a table."""

import streamlit as st

from explorer.ui import frame
from explorer.ui.certify import choice, explained, looks, picture, price, published, table, test_set
from explorer.ui.certify.picture import CERTIFICATE
from explorer.ui.certify.table import TABLE
from explorer.ui.certify.test_set import SET
from explorer.ui.inputs.picture import image_panel

frame.inside("certify")
with st.sidebar:
    view = choice.view()
run = {choice.SET: SET, choice.TABLE: TABLE}.get(view, CERTIFICATE)
run.open()
with st.sidebar:
    if view == choice.SET:
        test_set.pictures_panel()
    elif view == choice.TABLE:
        table.pictures_panel()
    else:
        image_panel([st.session_state["certify.model"]])
{choice.SET: test_set, choice.TABLE: table}.get(view, picture).headline()
if view != choice.TABLE:
    with st.sidebar:
        choice.panel()
with frame.notes():
    run.notices()
run.watch()
if view == choice.SET:
    published.compare()
elif view == choice.ONE:
    looks.show()
    explained.outcome()
else:
    price.show()

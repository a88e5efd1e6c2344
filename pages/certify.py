"""Certify: how far a smoothed model's answer is proven, for one picture and for many."""

import streamlit as st

from explorer.ui import certify, certify_set, controls, frame

frame.inside("certify")
certify.open_page()
certify_set.open_page()
with st.sidebar:
    view = certify.view_box()
if view == certify.SET:
    with st.sidebar:
        certify_set.pictures_panel()
    certify_set.headline()
else:
    if st.session_state["certify.shown"] is None:
        certify.begin()
    with st.sidebar:
        controls.image_panel([st.session_state["certify.model"]])
    certify.headline()
with st.sidebar:
    certify.panel()
notes = st.container()  # always there, so that what is below keeps its place
if view == certify.SET:
    with notes:
        certify_set.notices()
    certify_set.watch()
    certify_set.compare()
else:
    with notes:
        certify.notices(certify.current_request, certify.is_shown)
    certify.watch()
    certify.outcome()

"""How a class comes into a room: its code, the addresses at which this computer can be reached, and one of them as a QR code."""

from __future__ import annotations

import ipaddress
import socket

import psutil
import segno
import streamlit as st

from explorer.classroom.room import Room
from explorer.jobs.access import is_loopback


@st.cache_data(ttl=30, show_spinner=False)
def addresses() -> list[str]:
    """Addresses of this computer on its networks; of an app that listens on one address, that one alone."""
    own = st.config.get_option("server.address")
    if own and own not in ("0.0.0.0", "::"):
        return [own]
    found = {
        address.address
        for name in psutil.net_if_addrs().values()
        for address in name
        if address.family == socket.AF_INET and not ipaddress.ip_address(address.address).is_loopback
    }
    return sorted(found, key=lambda text: (not ipaddress.ip_address(text).is_private, text)) or ["127.0.0.1"]


def url(room: Room, address: str) -> str:
    """Where a student goes."""
    base = st.config.get_option("server.baseUrlPath").strip("/")
    path = f"/{base}/lessons" if base else "/lessons"
    return f"http://{address}:{st.config.get_option('server.port')}{path}?room={room.code}"


def qr(text: str, size: str) -> str:
    """The text as a QR code, an SVG: dark on white with its quiet zone, whatever the page's theme."""
    image = segno.make(text, error="m").svg_data_uri(scale=8, dark="#000", light="#fff")
    return f'<img src="{image}" alt="QR code of {text}" style="width:{size};max-width:100%">'


def large(room: Room) -> None:
    """On the lecturer's screen, for the last row."""
    known = addresses()
    left, right = st.columns([1, 1.6], gap="large", vertical_alignment="center")
    with right:
        address = known[0]
        if len(known) > 1:
            address = st.selectbox("This computer's address, as the class reaches it", known, key="room.address")
        link = url(room, address)
        st.markdown(f"Open **{link.partition('?')[0].removeprefix('http://')}** and type the code")
        st.title(room.code, anchor=False)
        if is_loopback(address):
            st.warning(
                "This app is reached from this computer alone. Start it with `--server.address 0.0.0.0` and the instructor's "
                "password to let a class in.",
                icon=":material/wifi_off:",
            )
    with left:
        st.html(qr(link, "20rem"))


def small(room: Room) -> None:
    """In the sidebar, for who comes late."""
    with st.expander(f"Room {room.code}: QR code", icon=":material/qr_code:"):
        st.html(qr(url(room, addresses()[0]), "100%"))

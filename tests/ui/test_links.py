"""Links that name one thing alone: what is left out is the page's default, so nothing "has changed" before anybody touched it."""

import pytest
from streamlit.testing.v1 import AppTest

from .app import ENTRY, texts

ALONE = {
    "attack": ({"norm": "l2"}, {"target": "cat"}),
    "compare": ({"attack": "fgsm"}, {"craft": "transfer"}),
    "features": ({"attack": "fgsm"}, {"attack": "fgsm", "target": "frog"}, {"shuffle": "2"}, {"rows": "4,7"}, {"count": "2"}),
    "many": ({"attack": "fgsm"}, {"pick": "right"}),
    "lab": ({"norm": "l2"}, {"models": "cifar10/lenet"}, {"attacks": "square"}),
    "certify": ({"view": "table"}, {"view": "set"}, {"precision": "bfloat16"}, {"sigma": "0.5"}, {"sound": "1"}),
}  # fmt: skip
CASES = [(page, link) for page, links in ALONE.items() for link in links]


@pytest.mark.parametrize(("page", "link"), CASES, ids=[f"{page} {'+'.join(link)}" for page, link in CASES])
def test_a_link_with_one_parameter_is_what_the_controls_say(page, link):
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state["wanted page"] = page
    for key, value in link.items():
        app.query_params[key] = value
    app.run()
    try:
        said = texts(app)
        assert not app.exception and "settings have changed" not in said and "could not be followed" not in said
    finally:
        for key in ("future", "features.future", "features.maps", "compare.future", "many.future", "certify.future"):
            if key in app.session_state and app.session_state[key] is not None:
                app.session_state[key].cancel()
                assert app.session_state[key].wait(60)

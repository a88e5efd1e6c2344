"""Predict first, on the pages: nothing begins before the lock, not even by a choice; then the answer stands beside what came."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from explorer.ui import gate

ENTRY = str(Path(__file__).parents[1] / "entry.py")


def words(app: AppTest) -> str:
    return "\n".join(element.value for kind in (app.markdown, app.subheader) for element in kind)


def test_nothing_begins_before_the_lock():
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state[gate.ON] = True
    for key, value in {"data": "cifar10", "image": "317", "model": "cifar10/lenet", "attack": "fgsm"}.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception and app.session_state["future"] is None
    assert "Will the attack lead the network to a wrong class?" in words(app)
    app.session_state["image"] = 306  # another picture: it is shown, and its question asked
    app.run()
    assert app.session_state["future"] is None and app.session_state["shown"].image == 306
    app.session_state["image"] = 317
    app.run()
    app.button_group[0].set_value("no").run()
    app.button(key="lesson-lock").click().run()
    assert app.session_state["future"].wait(60)
    app.run()
    assert "You said **no, 70 % sure**. It came to **yes** :material/close: · Brier score of 1 answer 0.49" in words(
        app
    )

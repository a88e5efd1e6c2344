"""`models --markdown --into FILE`: a table in a document is made anew from the cards."""

import pytest

from explorer.evaluation import tables
from explorer.models import zoo


def test_a_table_in_a_document_is_replaced_and_the_rest_stays(cli, tiny, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- models: begin -->\nold\n<!-- models: end -->\nafter\n", "utf-8")
    assert cli("models", "--markdown", "--into", page).code == 0
    own = [card for card in zoo.cards() if zoo.card_path(card.name).is_relative_to(zoo.OWN_ROOT)]
    table = tables.markdown(own)
    assert "cifar10/lenet" in table and tiny.name not in table
    assert page.read_text("utf-8") == f"before\n<!-- models: begin -->\n{table}\n<!-- models: end -->\nafter\n"


def test_one_models_measures_go_between_its_own_lines(cli, tiny, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {tiny.name}: begin -->\n<!-- {tiny.name}: end -->\n", "utf-8")
    assert cli("models", tiny.name, "--markdown", "--into", page).code == 0
    assert tables.measures(zoo.card(tiny.name)) in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("no lines", ["--markdown"], "must hold the lines <!-- models: begin --> and <!-- models: end -->"),
        ("<!-- models: begin -->\n", ["--markdown"], "must hold the lines"),
        (None, ["--markdown"], "cannot read"),
        ("", [], "--into FILE belongs to `models --markdown`."),
    ],
)
def test_a_document_without_the_lines_is_left_as_it_is(cli, tmp_path, text, words, reason):
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text, "utf-8")
    said = cli("models", *words, "--into", page)
    assert said.code == 2 and reason in said.err
    assert text is None or page.read_text("utf-8") == text

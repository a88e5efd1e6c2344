"""`python -m explorer evaluate --reports`, and measuring what the reports' tables ask of a model."""

import json

import pytest

from explorer.evaluation import published, report_tables, reports
from explorer.models import zoo


@pytest.fixture(autouse=True)
def no_full_set(monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)


def test_the_tables_are_printed_and_written(cli, tiny, tmp_path):
    said = cli("evaluate", "--reports", "--json", tmp_path / "r.json")
    assert said.code == 0, said.err
    assert "68.74" in said.out and "not measured" in said.out and "cannot be plain accuracies" in said.out
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert [table["key"] for table in found] == [table.key for table in report_tables.tables()]
    page = cli("evaluate", "--reports", "--markdown")
    assert (
        page.out.startswith("# The reports' tables beside ours")
        and "| FGSM, L∞ 0.01, trained on PGD images | 68.74 |" in page.out
    )


def test_what_the_tables_ask_of_a_model_enters_its_card_and_the_table(cli, tiny, tmp_path, monkeypatch):
    asks = (report_tables.Ask("cifar10/tiny"), report_tables.fgsm("cifar10/tiny", 0.01))
    rows = (report_tables.Row("natural", "10.0", asks[:1]), report_tables.Row("attacked", "5", asks[1:]))
    table = report_tables.Table("t", "A table", published.SLIDES, rows)
    for module in (report_tables, reports):
        monkeypatch.setattr(module, "tables", lambda: (table,))
    said = cli("evaluate", "cifar10/tiny", "--reports-settings", "--n", "20", "--write")
    assert said.code == 0, said.err
    assert [(m["kind"], m["n"], m["eps"]) for m in zoo.card("cifar10/tiny").measures] == [
        ("clean", 2000, None),
        ("white-box", 20, 0.01),
    ]
    (found,) = reports.result(zoo.cards())
    assert all(row["ours"][0]["value"] is not None for row in found["rows"])
    again = cli(
        "evaluate", "cifar10/tiny", "--reports-settings", "--n", "20", "--write", "--json", tmp_path / "again.json"
    )
    assert (
        json.loads((tmp_path / "again.json").read_text("utf-8"))["measures"] == [] and again.code == 0
    )  # the card lacks nothing
    more = cli(
        "evaluate", "cifar10/tiny", "--reports-settings", "--n", "30", "--write", "--json", tmp_path / "more.json"
    )
    assert [m["n"] for m in json.loads((tmp_path / "more.json").read_text("utf-8"))["measures"]] == [
        30
    ] and more.code == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "needs a model"),
        (("cifar10/tiny", "--reports"), "all models"),
        (("cifar10/tiny", "--markdown"), "--reports"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, tiny, words, what):
    said = cli("evaluate", *words)
    assert said.code == 2 and what in said.err

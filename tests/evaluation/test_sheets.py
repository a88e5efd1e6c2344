"""Repeat-a-paper sheets: every cell of the reports' tables and figures is there, with a state, a reason and a way to measure it."""

from dataclasses import replace

from explorer.evaluation import published, reports, sheets
from explorer.models import zoo


def test_every_cell_of_every_table_has_a_state_and_a_reason():
    cards = zoo.cards()
    found = sheets.cells(cards)
    of_tables = sum(max(len(row["ours"]), 1) for table in reports.result(cards) for row in table["rows"])
    assert len(found) > of_tables and sum(sheets.counts(found).values()) == len(found)
    assert all(cell.state in sheets.STATES and cell.reason for cell in found)
    assert all(cell.command for cell in found if cell.state == sheets.NOT_MEASURED)
    assert all(cell.ours and cell.n for cell in found if cell.state == sheets.SAME)


def test_without_cards_nothing_is_the_same():
    found = sheets.cells([])
    told = sheets.counts(found)
    assert told[sheets.SAME] == told[sheets.OTHER] == 0 and told[sheets.NOT_MEASURED] > 100


def test_figures_of_the_reports_are_listed_though_no_card_can_hold_them():
    whats = {(cell.paper, cell.what.partition(":")[0]) for cell in sheets.cells([])}
    figures = {what for paper, what in whats if paper == published.FASHION.what and what.startswith("Figure")}
    assert {f"Figure 3.{k}" for k in (1, 2, 3, 7, 8, 9)} <= figures
    assert any("Figure 3.5" in what for what in figures)


def test_the_published_number_inside_our_interval_is_the_same():
    for cell in sheets.cells(zoo.cards()):
        if cell.state in (sheets.SAME, sheets.OTHER) and cell.table != "Claims in numbers":
            low, high = map(float, cell.ours.partition("[")[2].rstrip("]").split(", "))
            inside = low - 0.1 <= float(cell.published) <= high + 0.1  # both ends are rounded
            assert inside or cell.state == sheets.OTHER, cell


def test_pretraining_asks_for_both_twins_and_names_them_once_they_are_there():
    def pretrained(cards):
        (cell,) = [cell for cell in sheets.cells(cards) if "pretraining" in cell.what]
        return cell

    one, other = (
        replace(zoo.card("cifar10/nfgsm"), name=f"cifar10/{key}", recipe=key)
        for key in ("lite0-imagenet", "lite0-scratch")
    )
    assert pretrained([one]).command == "python -m explorer train lite0-scratch"
    assert pretrained([]).state == sheets.NOT_MEASURED
    assert "cifar10/lite0-imagenet and cifar10/lite0-scratch" in pretrained([one, other]).reason

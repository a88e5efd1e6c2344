"""The table of other libraries' attacks: ours exist, what is missing says why, and what is compared stands in it."""

from explorer.attacks import ATTACKS
from explorer.evaluation.coverage import COVERAGE
from explorer.evaluation.peers.library import PEERS
from explorer.evaluation.peers.setting import ADAPTERS


def test_every_row_names_one_of_ours_or_says_why_not():
    assert set(COVERAGE) == {peer.name for peer in PEERS}
    for rows in COVERAGE.values():
        names = [row.attack for row in rows]
        assert len(names) == len(set(names))
        for row in rows:
            assert (row.ours in ATTACKS) != bool(row.why) and bool(row.ours) != bool(row.why)


def test_what_is_compared_stands_in_it():
    for library, attack, _ in ADAPTERS:
        assert attack in {row.ours for row in COVERAGE[library]}

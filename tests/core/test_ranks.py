"""Processes that work as one: two real ones meet, exchange and fail together; one alone never asks torch.distributed."""

import pytest
import torch
import torch.distributed as dist

from explorer.core import InvalidValue, ranks
from explorer.core.ranks import PeerFailed, Ranks
from tests.core.at_once import meet
from tests.processes import together


@pytest.fixture
def environment(monkeypatch):
    """As torchrun would set it."""

    def put(**values):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    put()
    return put


def test_without_torchrun_a_process_is_alone(environment):
    assert ranks.current() == Ranks(0, 1, 0) and ranks.current().is_first
    environment(WORLD_SIZE="8")  # some clusters set it for a job of one process
    assert ranks.current() == Ranks()
    environment(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    assert ranks.current() == Ranks()


def test_torchruns_environment_says_the_place(environment):
    environment(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1")
    assert ranks.current() == Ranks(5, 8, 1) and not ranks.current().is_first


@pytest.mark.parametrize(
    "values",
    [
        {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "0", "LOCAL_RANK": "0"},
        {"RANK": "zero", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "2"},
    ],
)
def test_a_place_that_cannot_be_is_refused(environment, values):
    environment(**values)
    with pytest.raises(InvalidValue, match="torchrun"):
        ranks.current()
    assert ranks.is_reporter()


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 6, 7, 20])
def test_shards_are_balanced_and_cover_each_row_once(world, n):
    shards = [Ranks(rank, world, rank).shard(n) for rank in range(world)]
    assert sorted(row for shard in shards for row in shard) == list(range(n))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_process_alone_answers_itself_and_initialises_nothing(environment):
    tensor = torch.tensor([3.0])
    with ranks.start("cpu") as alone:
        assert alone.gather([4, 5]) == [4, 5]
        assert alone.all_reduce_mean(tensor) is tensor and tensor.item() == 3.0
        assert alone.any_rank(True) is True and alone.any_rank(False) is False
        assert list(alone.shard(3)) == [0, 1, 2]
        assert not dist.is_initialized()
    assert ranks.is_reporter()


def test_devices_that_the_processes_cannot_have_are_refused_before_they_meet(environment, monkeypatch):
    environment(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InvalidValue, match="there are 1 here"), ranks.start("cuda"):
        pass
    with pytest.raises(InvalidValue, match="mps"), ranks.start("mps"):
        pass
    assert not dist.is_initialized()


def test_the_reason_for_not_meeting_is_said(environment, monkeypatch):
    environment(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(PeerFailed, match="MASTER_ADDR"), ranks.start("cpu"):
        pass


def test_two_processes_exchange_rows_means_and_flags():
    ended = together(meet, "well")
    assert [one.code for one in ended] == [0, 0]
    for rank, one in enumerate(ended):
        answer = one.answer
        assert answer["rank"] == rank and answer["shard"] == [[0, 2, 4], [1, 3]][rank]
        assert answer["gathered"] == [{"row": row} for row in range(5)] and answer["none"] == []
        assert answer["mean"] == [0.5, 1.0]
        assert answer["anybody"] is True and answer["nobody"] is False and answer["inner"] is False
        assert answer["after inner"] == answer["again"] == [0, 1]
        assert answer["parted"] is True


def test_a_failure_on_one_ends_the_other_with_its_sentence():
    consequence, cause = (one.answer for one in together(meet, "fails"))
    assert cause["error"] == "FloatingPointError" and cause["speaks"] is True
    assert consequence["error"] == "PeerFailed" and consequence["speaks"] is False
    assert consequence["text"] == "Process 2 of 2 failed: the loss is not finite"
    assert cause["left"] and consequence["left"]


def test_a_process_that_is_killed_does_not_leave_the_other_waiting():
    left, killed = together(meet, "dies")
    assert killed.code == -9 and killed.answer is None
    assert left.answer["error"] == "PeerFailed" and left.answer["speaks"] is True
    assert "without a word" in left.answer["text"]
    assert left.after < 20  # seconds, against a patience of a day


def test_rows_that_are_no_shards_are_refused_everywhere():
    for one in together(meet, "no shards"):
        assert one.answer["error"] == "ValueError" and "[3, 0] rows" in one.answer["text"]

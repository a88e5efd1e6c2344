"""What each of two processes does in `test_ranks.py`."""

import os
import signal

import torch
import torch.distributed as dist

from explorer.core import ranks


def meet(how: str) -> dict:
    try:
        return _meet(how)
    except Exception as error:
        return {
            "error": type(error).__name__, "text": str(error), "speaks": ranks.is_reporter(), "left": not dist.is_initialized(),
        }  # fmt: skip


def _meet(how: str) -> dict:
    with ranks.start("cpu") as mine:
        found = {
            "rank": mine.rank,
            "shard": list(mine.shard(5)),
            "gathered": mine.gather([{"row": row} for row in mine.shard(5)]),
            "none": mine.gather([]),
            "mean": mine.all_reduce_mean(torch.tensor([float(mine.rank), 1.0])).tolist(),
            "anybody": mine.any_rank(not mine.is_first),
            "nobody": mine.any_rank(False),
        }
        with ranks.start("cpu") as inner:
            found["inner"] = inner.any_rank(False)
        if how == "fails" and not mine.is_first:
            raise FloatingPointError("the loss is not finite\nand more")
        if how == "dies" and not mine.is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "no shards":
            mine.gather([1, 2, 3] if mine.is_first else [])
        found["after inner"] = mine.gather([mine.rank])
    found["parted"] = not dist.is_initialized()
    with ranks.start("cpu") as again:
        found["again"] = again.gather([again.rank])
    return found

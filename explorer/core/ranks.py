"""torch.distributed ranks: several processes that work as one. Which this is, its rows, how they meet and how they fail.

`torchrun` (python -m torch.distributed.run) starts the processes and tells each its place in environment variables.
One process alone is `Ranks()`: it never touches torch.distributed, and everything here then returns at once.

Every process must call the same methods in the same order; each call waits for all. What they exchange is pickled, as
torch.distributed does it: the other processes are this very program, started by the same person.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from explorer.core.errors import ExplorerError, InvalidValue

if TYPE_CHECKING:  # what waits for its turn reads its place without torch
    import torch
    from torch import Tensor
    from torch.distributed import Store

T = TypeVar("T")

RENDEZVOUS_TIMEOUT = timedelta(minutes=5)  # until all processes have arrived
SILENCE_TIMEOUT = timedelta(days=1)  # of one that lives and says nothing: a slower computer, a batch more, a full disk
FAILURE = "failure"  # the store's key: the sentence of the process that failed first


class PeerFailed(ExplorerError):
    """Another process of this run failed, so this one ends, too; the message is the other's where it left one."""


@dataclass(frozen=True)
class Ranks:
    """This process among `world` of them; the defaults are a process alone."""

    rank: int = 0  # in [0, world)
    world: int = 1
    local_rank: int = 0  # among those on this computer: its CUDA device

    @property
    def is_first(self) -> bool:
        """The one that prints, writes cards and saves checkpoints."""
        return self.rank == 0

    def shard(self, n: int) -> range:
        """Which of the rows 0..n-1 are this process's: every world-th; the shares differ by one row at most."""
        return range(self.rank, n, self.world)

    def gather(self, mine: Sequence[T]) -> list[T]:
        """All rows in order, on every process, of what each has for its `shard`. Raises PeerFailed, ValueError."""
        if self.world == 1:
            return list(mine)
        import torch.distributed as dist

        parts: list[Any] = [None] * self.world
        with _meeting():
            dist.all_gather_object(parts, list(mine))
        rows: list[Any] = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            if len(part) != len(range(rank, len(rows), self.world)):
                raise ValueError(
                    f"the processes hold {[len(p) for p in parts]} rows, which are no shards of one whole."
                )
            rows[rank :: self.world] = part
        return rows

    def all_reduce_mean(self, tensor: Tensor) -> Tensor:
        """`tensor`, overwritten by its mean over the processes (all weigh the same). Raises PeerFailed."""
        if self.world > 1:
            import torch.distributed as dist

            with _meeting():
                dist.all_reduce(tensor)
            tensor /= self.world
        return tensor

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any process; also a place where all wait for each other. Raises PeerFailed."""
        if self.world == 1:
            return bool(flag)
        import torch
        import torch.distributed as dist

        raised = torch.tensor([int(flag)])
        with _meeting():
            dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return bool(raised.item())


ALONE = Ranks()


def current() -> Ranks:
    """This process's place, as torchrun's environment says; alone if it says nothing. Raises InvalidValue."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return ALONE
    rank, world = _number("RANK"), _number("WORLD_SIZE")
    if world == 1:
        return ALONE
    if not 0 <= rank < world:
        raise InvalidValue(f"RANK must lie in [0, WORLD_SIZE); got {rank} of {world}. Start the processes by torchrun.")
    return Ranks(rank, world, _number("LOCAL_RANK"))


@contextmanager
def start(device: torch.device | str, timeout: timedelta = SILENCE_TIMEOUT) -> Iterator[Ranks]:
    """Meet the other processes, and part at the end; alone, or inside another `start`, nothing happens.

    On CUDA each process gets the device of its local rank as the current one, and tensors there meet over NCCL;
    everything else over gloo. `timeout`: how long one process waits for another that is alive but silent; one that has
    ended is noticed at once.

    If a process fails, the others end, too: at their next meeting, which raises PeerFailed with the first one's sentence;
    under torchrun at once, wherever they are. Raises InvalidValue for a device that so many processes cannot have.
    """
    global _is_reporter
    ranks = current()
    if ranks.world == 1:
        yield ranks
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        yield ranks
        return
    device = torch.device(device)
    _check_device(ranks, device)
    kind = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(ranks.local_rank)
        kind = "cpu:gloo,cuda:nccl"
    _is_reporter = None
    own = dist.PrefixStore(f"meeting {_count_meeting()}", _the_store())
    try:
        with _meeting():
            dist.init_process_group(kind, store=own, rank=ranks.rank, world_size=ranks.world, timeout=timeout)
        yield ranks
    except BaseException as error:
        first = _first_failure(f"Process {ranks.rank + 1} of {ranks.world} failed: {_sentence(error)}")
        _is_reporter = first is None
        if dist.is_initialized():
            dist.group.WORLD.abort()  # type: ignore[union-attr]  # nothing that is under way may keep this process
        if first is not None and isinstance(error, RuntimeError | PeerFailed):
            raise PeerFailed(first) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_reporter() -> bool:
    """Whether this process tells people about a failure: the one that failed first; before they met, the first."""
    if _is_reporter is not None:
        return _is_reporter
    try:
        return current().is_first
    except InvalidValue:  # its place is what has failed
        return True


_store: Store | None = None
_meetings = 0
_is_reporter: bool | None = None  # None: nothing has failed since the processes met


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise InvalidValue(f"{name} must be a whole number, as torchrun sets it; got {text!r}.")
    return int(text)


def _check_device(ranks: Ranks, device: torch.device) -> None:
    import torch

    if device.type not in ("cpu", "cuda"):
        raise InvalidValue(f"several processes compute on cpu or cuda; got {device.type}.")
    if device.type == "cuda" and ranks.local_rank >= (there := torch.cuda.device_count()):
        raise InvalidValue(
            f"each process needs a CUDA device of its own: there are {there} here, and this is process "
            f"{ranks.local_rank + 1} on this computer. Start fewer, or choose --device cpu."
        )


def _the_store() -> Store:
    """What the processes find each other by; the same for the whole life of this one."""
    global _store
    if _store is None:
        from torch.distributed.rendezvous import rendezvous

        try:
            _store, _, _ = next(rendezvous("env://", timeout=RENDEZVOUS_TIMEOUT))
        except (RuntimeError, ValueError) as error:  # nobody there; MASTER_ADDR or MASTER_PORT missing
            raise PeerFailed(f"The processes of this run did not meet: {_sentence(error)}") from error
    return _store


def _count_meeting() -> int:
    global _meetings
    _meetings += 1
    return _meetings


@contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise when another process is gone
        raise PeerFailed("Another process of this run ended without a word, so this one stops, too.") from error


def _first_failure(sentence: str) -> str | None:
    """None if this process is the first to fail, which leaves its sentence; else the sentence of the first."""
    assert _store is not None
    with suppress(RuntimeError):  # the store is gone with the process that held it: nobody else can speak
        said = _store.compare_set(FAILURE, "", sentence).decode()
        return None if said == sentence else said
    return None


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

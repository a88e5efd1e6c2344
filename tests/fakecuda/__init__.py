"""A CUDA device, impersonated on a computer that has none, to find what would fail, or make the host wait, only there.

    with impersonate(devices=2):  # in this thread and those begun inside
        net = net.to("cuda")
        with watching() as log, memory.limited(8 * 2**30):  # torch.OutOfMemoryError beyond
            work()
        log.waited, log.waits, log.operators, memory.peak

A tensor on it is a wrapper below torch's own autograd and autocast (`tensors`) whose operators are checked by PyTorch's
own table (`rules`). Not shown: speed, CUDA's own numbers (TF32, sums, random streams), races between streams, cuDNN's
workspaces, fragmentation, NCCL, other processes, compiled code. Everything on it: `python -m tests.fakecuda.all`.
"""

from tests.fakecuda.patches import impersonate
from tests.fakecuda.record import memory, watching

__all__ = ["impersonate", "memory", "watching"]

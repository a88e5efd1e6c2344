"""torch.cuda as a program sees it, on a computer without CUDA; and the mode in every thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from tests.fakecuda import generator, guard
from tests.fakecuda.record import memory, wait
from tests.fakecuda.tensors import CudaTensor, Impersonation

_mode = Impersonation()
_engine = torch.autograd.graph._engine_run_backward


@contextmanager
def _thread() -> Iterator[None]:
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made on the CPU and then sent
    torch._C._set_multithreading_enabled(False)  # backward in this thread: autograd's own ones have no mode
    try:
        with _mode:
            yield
    finally:
        torch._C._set_multithreading_enabled(True)
        torch._C._set_only_lift_cpu_tensors(False)


def _backward_elsewhere(outputs: Any, *args: Any, **options: Any) -> Any:
    """A backward pass on "cuda" runs in another thread, as autograd's do: context variables do not reach it."""
    if not any(isinstance(t, CudaTensor) for t in (outputs if isinstance(outputs, (list, tuple)) else [outputs])):
        return _engine(outputs, *args, **options)
    answer: list[Any] = []
    casts = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")

    def work() -> None:
        torch.set_autocast_enabled("cuda", casts[0])
        torch.set_autocast_dtype("cuda", casts[1])
        try:
            answer.append((_engine(outputs, *args, **options), None))
        except BaseException as error:
            answer.append((None, error))

    thread = threading.Thread(target=work, name="fakecuda backward")
    thread.start()
    thread.join()
    if answer[0][1] is not None:
        raise answer[0][1]
    return answer[0][0]


def _torch_cuda(devices: int, name: str) -> dict[str, Any]:
    """What replaces functions of torch.cuda."""
    true, nothing = ("is_available", "is_initialized", "_is_compiled"), ("_lazy_init", "init", "empty_cache")
    return {
        **{name: lambda: True for name in true}, **{name: lambda: None for name in nothing},
        "device_count": lambda: devices, "current_device": guard.current_device,
        "set_device": lambda device: guard.set_device(guard.index_of(device)),
        "synchronize": lambda device=None: wait("synchronize"),
        "get_device_name": lambda device=None: name, "is_bf16_supported": lambda including_emulation=True: True,
        "manual_seed_all": lambda seed: [generator.default(index).manual_seed(seed) for index in range(devices)],
        "memory_allocated": lambda device=None: memory.now, "max_memory_allocated": lambda device=None: memory.peak,
        "mem_get_info": lambda device=None: (memory.limit - memory.now, memory.limit),
        "is_current_stream_capturing": lambda: False, "_is_in_bad_fork": lambda: False,
    }  # fmt: skip


@contextmanager
def impersonate(devices: int = 1, name: str = "Impersonated GPU") -> Iterator[None]:
    """Inside the block this computer has `devices` CUDA devices, for this thread and all threads begun inside."""
    from torch.optim import optimizer as optimizers

    began = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        with _thread():
            began(thread)

    with ExitStack() as stack:
        stack.enter_context(guard.installed())
        stack.enter_context(mock.patch.multiple(torch.cuda, **_torch_cuda(devices, name)))
        stack.enter_context(mock.patch.object(torch, "Generator", generator.Generator))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run))
        for module in (torch.autograd, torch.autograd.graph):
            stack.enter_context(mock.patch.object(module, "_engine_run_backward", _backward_elsewhere))
        foreach = [*optimizers._foreach_supported_types, CudaTensor]  # as on CUDA: many parameters in one kernel
        stack.enter_context(mock.patch.object(optimizers, "_foreach_supported_types", foreach))
        stack.enter_context(_thread())
        stack.callback(guard.set_device, 0)
        yield

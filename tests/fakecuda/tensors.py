"""A tensor that says it lies on cuda:0 and holds a CPU tensor; every operator on it is checked as CUDA would check it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fakecuda import guard, rules
from tests.fakecuda.generator import default, known
from tests.fakecuda.record import memory, operator, wait

aten = torch.ops.aten
_pinned: set[int] = set()  # storages


def _batch_norm(x, weight, bias, mean, var, training, momentum, eps):
    return (*aten.native_batch_norm(x, weight, bias, mean, var, training, momentum, eps), torch.empty(0).byte())


def _batch_norm_backward(x, grad, weight, mean, var, saved_mean, saved_var, eps, reserve):
    return aten.native_batch_norm_backward(grad, x, weight, mean, var, saved_mean, saved_var, True, eps, [True] * 3)


# What CUDA has and a CPU has not.
STAND_INS = {"cudnn_batch_norm": _batch_norm, "cudnn_batch_norm_backward": _batch_norm_backward}


class _Held:
    """Gives a tensor's memory back when the tensor goes."""

    def __init__(self, key: int) -> None:
        self.key = key

    def __del__(self) -> None:
        memory.release(self.key)


class CudaTensor(torch.Tensor):
    """`inner` holds the numbers, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> CudaTensor:
        key = memory.hold(inner)
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=device,
        )  # fmt: skip
        self.inner = inner
        self._held = _Held(key)  # no weak reference to the tensor: nn.Module.to could not swap it in
        return self

    def __init__(self, inner: torch.Tensor, device: torch.device) -> None:
        pass

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __tensor_flatten__(self) -> tuple[list[str], Any]:  # having it, nn.Module.to swaps such tensors in
        return ["inner"], self.device

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], device: torch.device, *_: Any) -> CudaTensor:
        return CudaTensor(inner["inner"], device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return execute(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            with torch.no_grad():
                made = CudaTensor(self.inner.detach().clone(memory_format=torch.preserve_format), self.device)
            is_parameter = isinstance(self, torch.nn.Parameter)
            made = torch.nn.Parameter(made, self.requires_grad) if is_parameter else made
            memo[id(self)] = made.requires_grad_(self.requires_grad)
        return memo[id(self)]


class Impersonation(TorchDispatchMode):
    """While it is active in a thread, "cuda" is a device there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if rules.is_composed(func.name()):
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return execute(func, args, kwargs or {})


def execute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operator: refused as CUDA would refuse it, counted, computed on the CPU tensors, and wrapped again."""
    if kwargs.get("generator") is not None:
        kwargs = kwargs | {"generator": known(kwargs["generator"])}
    tensors: list[torch.Tensor] = []
    _collect(args, tensors)
    _collect(tuple(kwargs.values()), tensors)
    there = [t for t in tensors if isinstance(t, CudaTensor)]
    asked = _device(kwargs.get("device"))
    base = func._schema.name.split("::")[1]
    if not there and (asked is None or asked.type != "cuda"):
        return _on_cpu(func, base, args, kwargs, tensors)
    if torch.is_inference_mode_enabled() and rules.is_composed(func.name()):
        found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
    if base == "_local_scalar_dense":
        wait("item()/bool()/float()")
        return func(there[0].inner)
    target = asked or there[0].device
    _check(func, base, args, kwargs, tensors, there, target)
    _count(func, base, args, kwargs, target)
    return _computed(func, base, args, kwargs, tensors, target)


def _device(device: Any) -> torch.device | None:
    where = None if device is None else torch.device(device)
    if where is None or where.type != "cuda":
        return where
    if guard.index_of(where) >= torch.cuda.device_count():
        raise RuntimeError("CUDA error: invalid device ordinal")
    return torch.device("cuda", guard.index_of(where))


def _collect(values: Any, found: list[torch.Tensor]) -> None:
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif type(value) in (list, tuple):
            _collect(value, found)


def _mapped(change: Any, value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_mapped(change, one) for one in value)
    return {k: _mapped(change, one) for k, one in value.items()} if type(value) is dict else change(value)


def _on_cpu(func: Any, base: str, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor]) -> Any:
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cuda":
        raise RuntimeError("Expected a 'cpu' device type for generator but found 'cuda'")
    if base == "is_pinned":
        return tensors[0].untyped_storage().data_ptr() in _pinned
    pinned = base == "_pin_memory" or kwargs.pop("pin_memory", None)
    made = tensors[0].clone() if base == "_pin_memory" else func(*args, **kwargs)
    if pinned:
        _pinned.add(made.untyped_storage().data_ptr())
    return made


def _check(func, base, args, kwargs, tensors, there, target) -> None:
    """Raises what CUDA would raise."""
    name, generator = func.name(), kwargs.get("generator")
    if not rules.works_on_cuda(name):
        raise NotImplementedError(f"Could not run '{name}' with arguments from the 'CUDA' backend.")
    if generator is not None and target.type == "cuda" and generator.device != target:
        raise RuntimeError(f"Expected a '{target}' generator device but found '{generator.device}'")
    if base in rules.FLOATING_ONLY and any(t.dtype in rules.WHOLE for t in tensors):
        raise RuntimeError(f"\"{base}_cuda\" not implemented for '{tensors[0].dtype}'")
    if base in rules.INDEXING:
        _check_indexing(base, args)
    elif base not in rules.ANY_DEVICES:
        _check_one_device(func, args, kwargs, tensors, there)


def _check_one_device(func, args, kwargs, tensors, there) -> None:
    outputs, scalars = _outputs(func, args, kwargs), 0
    for t in tensors:
        if t.device != there[0].device:
            lone = not isinstance(t, CudaTensor) and t.ndim == 0 and not any(t is o for o in outputs)
            scalars += lone and not rules.is_checked(func.name())
            if not lone or scalars != 1:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, "
                    f"{there[0].device} and {t.device}! (when checking arguments of {func.name()})"
                )


def _check_indexing(base: str, args: Any) -> None:
    own = args[0].device
    for index in args[1]:
        if isinstance(index, torch.Tensor) and index.device != own and index.device.type != "cpu":
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({own})")
    if "put" in base and args[2].device != own and not (args[2].ndim == 0 and args[2].device.type == "cpu"):
        raise RuntimeError(f"expected self and values to be on the same device, but got {own} and {args[2].device}")


@cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Which arguments the operator writes into."""
    found = enumerate(func._schema.arguments)
    return tuple((at, a.name) for at, a in found if a.alias_info is not None and a.alias_info.is_write)


def _outputs(func: Any, args: Any, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    _collect([kwargs.get(name, args[at] if at < len(args) else None) for at, name in _written(func)], found)
    return found


@cache
def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _count(func: Any, base: str, args: Any, kwargs: dict[str, Any], target: torch.device) -> None:
    """The operator, and whether the host waits for it."""
    if base in ("_to_copy", "copy_", "copy"):
        source, end = (args[0], target.type) if base == "_to_copy" else (args[1], args[0].device.type)
        unawaited = kwargs.get("non_blocking") or (base != "_to_copy" and len(args) > 2 and args[2])
        is_pinned = end == "cuda" and source.device.type == "cpu" and source.untyped_storage().data_ptr() in _pinned
        if source.device.type != end and not (unawaited and (is_pinned or end == "cpu")):
            wait(f"copy to the {'GPU' if end == 'cuda' else 'host'}")
    if base not in rules.VIEWS and not _is_view(func):
        operator(base)
    if base in rules.WAITS and kwargs.get("output_size") is None:
        wait(base)
    if base in rules.INDEXING:
        given = [i for i in args[1] if isinstance(i, torch.Tensor)]
        fills = "put" in base and args[2].ndim == 0 and args[2].device.type == "cpu"  # a masked_fill
        if any(i.dtype in (torch.bool, torch.uint8) for i in given) and not fills:
            wait("mask as index (nonzero)")
        if any(i.device.type == "cpu" for i in given):
            wait("index on the CPU (copied to the GPU)")


@cache
def _draws(func: Any) -> bool:
    return any(a.name == "generator" for a in func._schema.arguments)


def _computed(func: Any, base: str, args: Any, kwargs: dict[str, Any], tensors: list, target: torch.device) -> Any:
    back = {id(t.inner) if isinstance(t, CudaTensor) else id(t): t for t in tensors}
    plain_args, plain = _mapped(lambda v: v.inner if isinstance(v, CudaTensor) else v, (args, kwargs))
    if plain.get("device") is not None:
        plain["device"] = torch.device("cpu")
    plain.pop("pin_memory", None)
    if _draws(func) and target.type == "cuda":
        sizes = args[0] if args and isinstance(args[0], (list, tuple)) else ()
        count = tensors[0].numel() if tensors else torch.Size(s for s in sizes if isinstance(s, int)).numel()
        plain["generator"] = (plain.get("generator") or default(target.index)).drawing(count)
    made = STAND_INS.get(base, func)(*plain_args, **plain)
    if base == "_to_copy":  # always a copy, also where the device is the same underneath
        return made if target.type == "cpu" else CudaTensor(made, target)

    def outer(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, CudaTensor):
            return value
        return (
            back.get(id(value)) if id(value) in back else CudaTensor(value, target) if target.type == "cuda" else value
        )

    result = _mapped(outer, made)
    for own in _outputs(func, args, kwargs):
        if isinstance(own, CudaTensor) and (own.shape != own.inner.shape or own.stride() != own.inner.stride()):
            raise NotImplementedError(f"{func} changes its output's shape in place, which this harness cannot follow")
    return result

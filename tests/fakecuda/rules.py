"""What CUDA would say: which devices an operator's tensors may lie on, and which dtypes and operators it has.

The rules are not written down by hand: PyTorch's own table of operators, `native_functions.yaml`, comes with the wheel
(torchgen). An operator without `device_check: NoCheck` gets a generated check in front of its CUDA kernel, which wants all
its tensors on one device, 0-dim CPU tensors included. One with it checks by itself: through TensorIterator, which lets
one 0-dim CPU tensor that is no output join CUDA tensors.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import torch

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
ANY_DEVICES = {"copy_", "copy", "_to_copy", "lift_fresh", "lift", "lift_fresh_copy", "detach", "alias", "set_"}
VIEWS = {"detach", "alias", "lift_fresh", "_unsafe_view", "view", "_reshape_alias"}
WAITS = {  # operators whose result's shape, or whose answer, lies on the GPU
    "nonzero", "masked_select", "equal", "is_nonzero", "bincount", "_unique2", "unique_dim", "unique_consecutive",
    "repeat_interleave", "linalg_eigh", "_linalg_eigh", "_linalg_svd", "linalg_inv_ex", "_linalg_solve_ex", "linalg_qr",
}  # fmt: skip
# No such kernel for whole numbers: "addmm_impl_cuda" not implemented for 'Long'
FLOATING_ONLY = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "addbmm", "dot", "vdot", "convolution", "linear"}
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


@cache
def _unchecked() -> frozenset[str]:
    import torchgen

    text = (Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml").read_text("utf-8")
    blocks = re.split(r"^- func: ", text, flags=re.MULTILINE)[1:]
    return frozenset(block.partition("(")[0] for block in blocks if "\n  device_check: NoCheck" in block)


@cache
def is_checked(name: str) -> bool:
    """Whether a generated check wants all tensors of this operator ("aten::mm") on one device."""
    return name.startswith("aten::") and name.removeprefix("aten::") not in _unchecked() and has_cuda_kernel(name)


@cache
def has_cuda_kernel(name: str) -> bool:
    """A kernel of CUDA's own."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")


@cache
def works_on_cuda(name: str) -> bool:
    """A kernel of CUDA's own or one that is composed of others."""
    return torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CUDA")


@cache
def is_composed(name: str) -> bool:
    """Of other operators only; seen in inference mode."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd") and not has_cuda_kernel(
        name
    )

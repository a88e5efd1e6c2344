"""Inside: the program of a confined process. It makes somebody's network and answers with logits, features and gradients.

Started by `core/confinement.py` as a file, never imported by the app. It limits itself, then says so, then reads requests
(`core/frames.py`): `load`, `state`, `pass`, `gradient`, `convert`. What is printed goes nowhere. Whatever
the code here does to its process, it does to nobody else.
"""

from __future__ import annotations

import importlib.util
import os
import select
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

GRAPHS = 2  # passes that are kept for their gradient
WEIGHTS = (".pth", ".pt", ".safetensors", ".bin", ".ckpt")


class Refused(Exception):
    """One sentence."""


class Server:
    """The one network of this process."""

    def __init__(self) -> None:
        self.module: Any = None  # somebody's own
        self.net: Any = None  # ExternalClassifier, or a module without a linear layer
        self.last = ""
        self.graphs: OrderedDict[int, tuple[Any, Any, Any]] = OrderedDict()

    def load(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        """Import model.py of the folder, make its Net, fill it."""
        import torch

        from explorer.core import InvalidValue
        from explorer.models.external import ExternalClassifier, last_linear

        folder, shape, classes = Path(header["folder"]), tuple(header["shape"]), int(header["classes"])
        torch.manual_seed(0)
        net, how, notes = made(folder)
        net = net.to("cpu").float().eval().requires_grad_(False)
        try:
            self.last = last_linear(net, torch.zeros(2, *shape))
        except InvalidValue:
            self.last = ""
        zero, one = [0.0] * shape[0], [1.0] * shape[0]
        self.net = ExternalClassifier(zero, one, shape, classes, net, self.last) if self.last else net
        if self.last and all(t.ndim < 5 for t in net.state_dict().values() if isinstance(t, torch.Tensor)):
            self.net.to(memory_format=self.net.layout)  # as `zoo.load` lays its networks
        self.module = net
        parameters = sum(p.numel() for p in net.parameters())
        return {"how": how, "notes": notes, "last": self.last, "parameters": parameters}, {}

    def state(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        import torch

        state = {name: t for name, t in self.module.state_dict().items() if isinstance(t, torch.Tensor)}
        plain = {name: t.float() if t.dtype is torch.bfloat16 else t for name, t in state.items()}
        return {}, {name: t.detach().cpu().contiguous().numpy() for name, t in plain.items()}

    def run(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        """One pass; the graph is kept under the request's number if a gradient may be asked for."""
        import torch

        wants = bool(header["grad"])
        leaf = torch.from_numpy(arrays["x"]).requires_grad_(wants)
        parts = leaf.split(1) if header["alone"] else [leaf]
        with torch.set_grad_enabled(wants):
            found = []
            for part in parts:
                if header["seed"] is not None:
                    seed_all(int(header["seed"]))
                found.append(self._both(part))
            logits, features = (torch.cat(some) if len(some) > 1 else some[0] for some in zip(*found, strict=True))
        if wants and logits.requires_grad:
            self.graphs[int(header["number"])] = (leaf, logits, features)
            while len(self.graphs) > GRAPHS:
                self.graphs.popitem(last=False)
        answer = {"logits": logits.detach().float().numpy(), "features": features.detach().float().numpy()}
        return {"differentiable": bool(logits.requires_grad)}, answer

    def _both(self, x: Any) -> tuple[Any, Any]:
        if self.last:
            logits, features = self.net.both(x)
        else:
            logits = features = self.net(x)
        return logits, features

    def gradient(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        import torch

        graph = self.graphs.get(int(header["ticket"]))
        if graph is None:
            return {"lost": True}, {}
        leaf, *outputs = graph
        asked = [
            (output, torch.from_numpy(arrays[name]).to(output.dtype))
            for output, name in zip(outputs, ("logits", "features"), strict=True)
            if name in arrays and output.requires_grad
        ]
        if not asked:
            return {}, {"x": torch.zeros_like(leaf).detach().numpy()}
        of, along = zip(*asked, strict=True)
        (found,) = torch.autograd.grad(of, leaf, along, retain_graph=True, allow_unused=True)
        return {}, {"x": (torch.zeros_like(leaf) if found is None else found).detach().numpy()}

    def convert(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        from explorer.models import converting

        try:
            tensors, notes = converting.read(Path(header["file"]), header.get("wanted") or None)
        except converting.Unreadable as error:
            raise Refused(f"{header['name']} {error}") from error
        return {"notes": notes}, {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}


def made(folder: Path) -> tuple[Any, str, list[str]]:
    """The folder's Net with its weights, where they came from, and in words what was done to them."""
    from torch import nn

    os.chdir(folder)
    module = imported(folder, "model")
    if not hasattr(module, "Net"):
        raise Refused("model.py has no class Net.")
    net, why = guarded(lambda: module.Net(), "Net()"), ""
    if not isinstance(net, nn.Module):
        raise Refused(f"Net() must be a torch.nn.Module; it is {type(net).__name__}.")
    load: Any = getattr(net, "load_for_testing", None)
    if load is not None:
        try:
            guarded(lambda: load(project_dir=f"{folder}/"), "load_for_testing")
            return net, "load_for_testing", []
        except Refused as error:
            why = str(error)
    return (net, *filled(net, folder, why))


def filled(net: Any, folder: Path, why: str) -> tuple[str, list[str]]:
    """Fill the net from the one file in models/; `why` that is needed. Returns the file and what was done."""
    from explorer.models import converting

    files = sorted(file for file in (folder / "models").glob("*") if file.suffix.lower() in WEIGHTS)
    usual = [file for file in files if file.stem == "default_model"] or files
    if not usual and not why:
        return "nothing: an untrained network", ["no weights were found: it is untrained, as seed 0 initialises it"]
    if not usual or (len(usual) > 1 and usual[0].stem != "default_model"):
        names = ", ".join(file.name for file in usual[:4]) or "none"
        raise Refused(
            f"{why or 'it has no load_for_testing.'} And models/ must hold one file of weights; it has {names}."
        )
    reason = ""
    for file in sorted(usual, key=lambda one: one.suffix != ".safetensors"):
        try:
            tensors, notes = converting.read(file, list(net.state_dict()))
            net.load_state_dict(tensors)
            first = (
                [f"load_for_testing did not work ({why.removeprefix('load_for_testing: ').rstrip('.')})"] if why else []
            )
            return f"models/{file.name}", [*first, *notes]
        except converting.Unreadable as error:
            reason = f"models/{file.name} {error}"
        except Exception as error:  # its names or shapes are others
            reason = f"models/{file.name} does not fit Net: {words(error)}"
    raise Refused(f"{why} {reason}".strip())


def imported(folder: Path, name: str) -> Any:
    """A module of this folder, whose siblings Python finds beside it."""
    sys.path.insert(0, str(folder))
    sys.argv = [f"{name}.py"]
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    if spec is None or spec.loader is None or not (folder / f"{name}.py").is_file():
        raise Refused(f"there is no {name}.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    guarded(lambda: loader.exec_module(module), f"{name}.py")
    return module


def guarded(action: Callable[[], Any], what: str) -> Any:
    """What somebody's code returns; Refused with its reason whatever it raises."""
    try:
        return action()
    except SystemExit as error:
        raise Refused(f"{what}: it ends the program (SystemExit).") from error
    except BaseException as error:  # anything may go wrong in somebody's code
        raise Refused(f"{what}: {words(error)}.") from error


def words(error: BaseException) -> str:
    """The kind of an error and its first line, short."""
    lines = str(error).splitlines()
    said = " ".join(line.strip() for line in lines[:2])[:200]
    return f"{type(error).__name__}: {said}".rstrip(": .")


def seed_all(seed: int) -> None:
    """Every generator that a network may draw from."""
    import random

    import numpy as np
    import torch

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # what somebody's code draws from


def serve(channel: Any, handlers: dict[str, Callable[..., Any]]) -> None:
    """Answer requests until nobody asks any more."""
    from explorer.core.memory import is_out_of_memory

    clock = time.process_time
    while True:
        header, arrays = channel.receive()
        number = header["number"]
        try:
            answer, found = handlers[header["what"]](header, arrays)
        except Refused as error:
            answer, found = {"refused": str(error)}, {}
        except BaseException as error:  # anything may go wrong in somebody's code; the next request is another
            memory = "memory ran out" if is_out_of_memory(error) else words(error)
            answer, found = {"refused": f"it failed: {memory}."}, {}
        channel.send({"number": number, "cpu": clock(), **answer}, found)


def locked_channel(kind: str, threads: int) -> Any:
    """The pipes to who asks, once this process has been limited, silenced and locked."""
    from explorer.core import lockdown
    from explorer.core.frames import Channel

    lockdown.limit(files=kind == "confined")
    import numpy  # noqa: F401
    import torch

    import explorer.models.external  # noqa: F401

    torch.set_num_threads(threads)
    read, write = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for end in (0, 1, 2):
        os.dup2(nothing, end)
    lockdown.refuse_calls()
    threading.Thread(target=_until_left, args=(read,), daemon=True).start()
    return Channel(read, write, patient=True)


def _until_left(read: int, end: Callable[[int], None] = os._exit) -> None:
    """End with who asked, even in the middle of an endless loop."""
    poll = select.poll()
    poll.register(read, 0)  # a hang-up alone
    poll.poll()
    end(0)


def main() -> None:
    package = Path(__file__).resolve().parents[1]
    sys.path.append(str(package.parent))
    channel = locked_channel(sys.argv[1], int(sys.argv[2]))
    server = Server()
    handlers = {
        "load": server.load, "state": server.state, "pass": server.run, "gradient": server.gradient,
        "convert": server.convert,
    }  # fmt: skip
    from explorer.core.frames import Broken

    try:
        serve(channel, handlers)
    except Broken:
        return


if __name__ == "__main__":
    main()

"""The program of a confined process that runs somebody's attack file on a copy of the model, and records what it asks.

Started by `own_attack.py` as a file. Requests: `open` (the file, the model), `walk` (images, labels, eps), `test` (the test
functions of the file). A recorder sees every input at which the attack asks the model: these are its steps.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOM = 128 << 20  # bytes of recorded steps
STEPS = ("iters", "steps", "num_iter", "num_iters", "iterations", "n_iter", "num_steps", "nb_iter", "max_iter")
LENGTHS = ("alpha", "step_size", "lr", "eta", "stepsize")
BATCHES = 4  # of a test function's loader, of which the last alone is right


class AttackServer:
    """One attack file and one model."""

    def __init__(self) -> None:
        self.model: Any = None
        self.module: Any = None
        self.attack: Any = None
        self.is_class = False

    def open(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        from explorer.models.inside import imported

        self.model = model_of(header["model"]).eval().requires_grad_(False)
        file = Path(header["file"])
        self.module = imported(file.parent, file.stem)
        name, self.attack, self.is_class = found_in(self.module, header.get("function") or None)
        return {"function": name, "class": self.is_class}, {}

    def walk(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        """Run the attack; its steps (T,N,C,H,W), its end (N,C,H,W), and what it left behind."""
        import torch
        from torch import nn

        from explorer.models.inside import Refused, guarded, seed_all

        x, y = torch.from_numpy(arrays["x"]).clone(), torch.from_numpy(arrays["y"]).clone()
        model: Any = self.model
        if header.get("flat"):
            model = flat(model).eval()
        before, image, recorder = state(model), x.clone(), Recorder(model, x)
        seed_all(int(header["seed"]))
        try:
            call = self._by_class if self.is_class else self._by_function
            end = guarded(lambda: call(model, x, y, float(header["eps"]), str(header["norm"])), "attack")
        finally:
            recorder.remove()
        if not isinstance(end, torch.Tensor) or end.shape != x.shape:
            got = tuple(end.shape) if isinstance(end, torch.Tensor) else type(end).__name__
            raise Refused(f"attack must return images of shape {tuple(x.shape)}; got {got}.")
        left = changes(before, state(model))
        left += ["the original images were changed in place"] if not torch.equal(image, x) else []
        left += ["what it returns hangs on the graph: return x.detach()"] if end.requires_grad else []
        assert isinstance(model, nn.Module)
        frames = recorder.frames or [image]
        facts = {
            "forwards": recorder.forwards,
            "backwards": recorder.backwards,
            "left": left,
            "seen": len(recorder.frames),
        }
        return facts, {"frames": torch.stack(frames).numpy(), "end": end.detach().float().contiguous().numpy()}

    def _by_function(self, model: Any, x: Any, y: Any, eps: float, norm: str) -> Any:
        return self.attack(model, x, y, eps, **further(self.attack, eps, norm))

    def _by_class(self, model: Any, x: Any, y: Any, eps: float, norm: str) -> Any:
        from explorer.core import Ball, Goal, run, seeded
        from explorer.core.ball import as_norm

        ball = Ball(as_norm(norm), eps)
        goal = Goal.untargeted(y)
        return run(self.attack().walk(model, x, goal, ball, seeded(0)), goal).x

    def test(self, header: dict[str, Any], arrays: Any) -> tuple[dict[str, Any], Any]:
        """What each test function of the file says of batches of which the last alone is right."""
        import torch

        x = torch.from_numpy(arrays["x"])
        with torch.no_grad():
            right = self.model(x).argmax(1)
        wrong = (right + 1) % header["classes"]
        parts = zip(x.chunk(BATCHES), right.chunk(BATCHES), wrong.chunk(BATCHES), strict=True)
        loader = [(some, good if i == BATCHES - 1 else bad) for i, (some, good, bad) in enumerate(parts)]
        said = {}
        for name, function in vars(self.module).items():
            needs = needed(function) if name.startswith("test") and inspect.isfunction(function) else []
            if 2 <= len(needs) <= 3 and needs[2:] in ([], ["num_samples"], ["samples"], ["device"]):
                value = function(self.model, loader, *[torch.device("cpu") if n == "device" else 1 for n in needs[2:]])
                value = value[0] if isinstance(value, tuple) and value else value
                if isinstance(value, (int, float)):
                    said[name] = float(value)
        return {"said": said, "last": len(loader[-1][0]), "all": len(x)}, {}


class Recorder:
    """Every input at which the model is asked; passes are counted image by image."""

    def __init__(self, model: Any, x: Any) -> None:
        self.shape, self.room = x.shape, ROOM
        self.frames: list[Any] = []
        self.forwards = self.backwards = 0
        self._handle = model.register_forward_hook(self._see)

    def _see(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x = inputs[0].detach()
        self.forwards += len(x)
        size = x.numel() * 4
        if x.shape == self.shape and size <= self.room:
            self.room -= size
            self.frames.append(x.float().clone())
        if output.requires_grad:
            output.register_hook(lambda gradient: setattr(self, "backwards", self.backwards + len(gradient)))

    def remove(self) -> None:
        self._handle.remove()


def flat(model: Any) -> Any:
    """The model with all logits zero, whose gradient is zero everywhere."""
    from torch import nn

    class Zero(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return 0 * self.inner(x)

    return Zero(model)


def model_of(about: dict[str, Any]) -> Any:
    """The copy of the model that is attacked: the small network of tests, a card's, or a submission's."""
    if about["kind"] == "small":
        from explorer.testing.networks import small_case

        return copy.deepcopy(small_case()[0])
    if about["kind"] == "submission":
        from explorer.models.inside import made

        net, _, _ = made(Path(about["path"]))
        forget_modules(Path(about["path"]))
        return net
    from explorer.models import zoo

    return zoo.load_file(Path(about["path"]))


def forget_modules(folder: Path) -> None:
    """The submission's siblings are not the attack's: each finds its own `utils.py`."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry != str(folder)]


def found_in(module: Any, name: str | None) -> tuple[str, Any, bool]:
    """The attack of a file: what is named, else the function `attack`, else its one class of ours."""
    from explorer.core import Attack
    from explorer.models.inside import Refused

    own = {n: v for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
    classes = [n for n, v in own.items() if inspect.isclass(v) and issubclass(v, Attack)]
    name = name or ("attack" if inspect.isfunction(own.get("attack")) else classes[0] if len(classes) == 1 else None)
    if name is None or name not in own or not callable(own[name]):
        functions = ", ".join(n for n, v in own.items() if inspect.isfunction(v)) or "none"
        wanted = "no function attack(model, x, y, eps)" if name is None else f"no {name!r}"
        raise Refused(f"the file has {wanted}; its functions: {functions}.")
    return name, own[name], inspect.isclass(own[name])


def needed(function: Any) -> list[str]:
    """The parameters that have no default."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind < 2]


def further(function: Callable[..., Any], eps: float, norm: str) -> dict[str, Any]:
    """Values of what a function needs beyond (model, x, y, eps), by the usual names."""
    from explorer.models.inside import Refused

    known = dict.fromkeys(STEPS, 20) | dict.fromkeys(LENGTHS, eps / 4) | {"norm": norm, "device": "cpu"}
    wanted = needed(function)[4:]
    if unknown := [name for name in wanted if name not in known]:
        raise Refused(f"attack needs {', '.join(unknown)} beside (model, x, y, eps): give it a default.")
    return {name: known[name] for name in wanted}


def state(model: Any) -> dict[str, Any]:
    """What an attack must leave as it was."""
    modules = dict(model.named_modules())
    return {
        "weights": {n: t.detach().clone() for n, t in model.state_dict().items()},
        "mode": {n: m.training for n, m in modules.items()},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "hooks": {
            n: len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for n, m in modules.items()
        },
        "forward": [n for n, m in modules.items() if "forward" in vars(m)],
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """In words what is not as it was."""
    import torch

    said = []
    weights = [n for n, t in before["weights"].items() if not torch.equal(t, after["weights"].get(n, t + 1))]
    if weights:
        said.append(f"the model's {weights[0]} changed")
    for what, words in (("mode", "the model is left in training mode"), ("requires_grad", "requires_grad of its weights changed"),
                        ("hooks", "hooks are left on the model"), ("forward", "the model's forward was replaced")):  # fmt: skip
        if before[what] != after[what]:
            said.append(words)
    return said


def main() -> None:
    package = Path(__file__).resolve().parents[1]
    sys.path.append(str(package.parent))
    from explorer.core.frames import Broken
    from explorer.models.inside import locked_channel, serve

    channel = locked_channel(sys.argv[1], int(sys.argv[2]))
    server = AttackServer()
    try:
        serve(channel, {"open": server.open, "walk": server.walk, "test": server.test})
    except Broken:
        return


if __name__ == "__main__":
    main()

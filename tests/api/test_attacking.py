"""`explorer.attack`: what it returns is judged anew, repeats, and each wrong input is one sentence."""

import numpy as np
import pytest
import torch
from torch import nn

import explorer
from explorer.attacks import ATTACKS
from explorer.core import Ball, ExplorerError, Goal, InvalidValue, UnknownName, run, seeded
from explorer.data import load
from explorer.testing.networks import WithNoise, classes_of, small_case

BIAS = 0.2


class Half(nn.Module):
    """Class 1 where the mean of four pixels exceeds a half: the nearest boundary in L2 is |sum - 2| / 2 away."""

    def forward(self, pixels):
        gap = 4 * (pixels.flatten(1).mean(1) - 0.5)
        return torch.stack([-gap, gap], 1)


@pytest.fixture
def half():
    x = torch.tensor([0.3, 0.45, 0.8])[:, None, None, None].expand(3, 1, 2, 2).clone()
    return Half().eval(), x, torch.tensor([0, 0, 1])


@pytest.fixture(scope="module")
def small():
    return small_case()


def test_it_is_the_walk_run_and_judged(small):
    model, x, y = small
    found = explorer.attack(model, x, y, "pgd", eps=0.1, steps=5, seed=3, precision="float32")
    walk = ATTACKS["pgd"](steps=5).walk(model, x, Goal.untargeted(y), Ball("linf", 0.1), seeded(3))
    same = run(walk, Goal.untargeted(y))
    assert torch.equal(found.x, same.x) and torch.equal(found.distance, same.distance)
    assert torch.equal(found.success, classes_of(model, found.x) != y) and 0 < int(found.success.sum()) < len(y)
    assert found.trace is None and isinstance(found, explorer.core.Outcome)
    reached = int(found.success.sum())
    assert repr(found).startswith(f"pgd, linf 0.1: the goal is reached on {reached} of 48 images, median distance 0.1")


def test_any_module_numpy_labels_and_a_target(half):
    model, x, _ = half
    found = explorer.attack(model, x, np.array([0, 0, 1]), "pgd", eps="1/10", target=torch.tensor([1, 1, 0]))
    assert found.success.tolist() == [False, True, False]
    assert explorer.attack(model, x[:2], [0, 0], "pgd", norm="l2", target=1).success.tolist() == [
        True,
        True,
    ]  # usual eps 0.5


def test_a_minimal_attack_finds_the_nearest_boundary(half):
    model, x, y = half
    found = explorer.attack(model, x, y, "deepfool", norm="l2")
    assert found.success.all()
    assert torch.allclose(found.distance, torch.tensor([0.4, 0.1, 0.6], dtype=torch.float64), rtol=0.05)


def test_each_image_may_have_its_own_eps(half):
    model, x, y = half
    eps = torch.tensor([0.25, 0.02, 0.25])
    for batch in (None, 1, 2):
        found = explorer.attack(model, x, y, "fgsm", eps=eps, batch=batch)
        assert found.success.tolist() == [True, False, False]
        assert torch.allclose(found.distance, eps.double(), atol=1e-6) and bool((found.distance <= eps.double()).all())
    assert "of each its own eps" in repr(found)


def test_the_norm_is_the_attacks_own_where_none_is_named(half):
    assert repr(explorer.attack(*half, "cw", steps=20)).startswith("cw, l2: ")
    assert repr(explorer.attack(*half, "fgsm")).startswith("fgsm, linf 8/255: ")


def test_a_random_models_success_is_the_majority_of_fresh_draws(small):
    inner, x, y = small

    class Coin(WithNoise):
        """Wrong in a fifth of the draws, whatever the image."""

        def forward(self, pixels):
            rng = explorer.core.current_rng(pixels.device)
            wrong = torch.rand(len(pixels), 1, generator=rng) < 0.2
            right = nn.functional.one_hot(y[:1].expand(len(pixels)), 4).float() + 0 * pixels.flatten(1).sum(
                1, keepdim=True
            )
            return torch.where(wrong, -right, right)

    same = x[y == y[0]]
    found = explorer.attack(Coin(inner).eval(), same, y[y == y[0]], "pgd", eps=0.01, steps=5)
    assert not found.success.any()  # six looks at one draw each would call three in four of them fooled


def test_batches_join_to_one_result_and_repeat(small):
    model, x, y = small
    ask = {"eps": 0.1, "steps": 3, "seed": 1, "precision": "float32"}
    whole = explorer.attack(model, x, y, "pgd", random_start=False, **ask)
    parts = explorer.attack(model, x, y, "pgd", random_start=False, batch=20, trace=True, **ask)
    assert torch.allclose(whole.x, parts.x, atol=1e-6) and torch.equal(whole.success, parts.success)
    assert torch.equal(whole.forwards, parts.forwards) and len(parts.trace) == len(x)
    again = explorer.attack(model, x, y, "pgd", batch=20, **ask)
    assert torch.equal(again.x, explorer.attack(model, x, y, "pgd", batch=20, **ask).x)


def test_when_memory_runs_out_half_as_many_images_are_tried(small):
    inner, x, y = small

    class Narrow(nn.Module):
        sizes = []

        def forward(self, pixels):
            self.sizes.append(len(pixels))
            return inner(pixels if len(pixels) <= 12 else torch.empty(2**60))

    narrow = Narrow().eval()
    found = explorer.attack(narrow, x, y, "fgsm", eps=0.1)
    assert {48, 24, 12} <= {*narrow.sizes} and torch.equal(
        found.success, explorer.attack(inner, x, y, "fgsm", eps=0.1).success
    )
    with pytest.raises(RuntimeError, match="allocate"):
        explorer.attack(narrow, x, y, "fgsm", batch=48)  # asked for
    assert explorer.robustness(narrow, x, y, "fgsm", eps=0.1).robust == 1 - float(found.success.float().mean())


def test_bfloat16_is_the_attacks_and_not_the_verdicts(small, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model, x, y = small
    found = explorer.attack(model, x, y, "fgsm", eps=0.1)  # "auto", of 48 images
    assert found.x.dtype == torch.float32 and torch.equal(found.success, classes_of(model, found.x) != y)
    assert found.precision == "bfloat16" and repr(found).startswith("fgsm, linf 0.1, gradients in bfloat16: the goal")
    exact = explorer.attack(model, x, y, "fgsm", eps=0.1, precision="float32")
    assert not torch.equal(found.loss, exact.loss) and "bfloat16" not in repr(exact)
    for some, more in ((15, {}), (48, {"trace": True})):  # few pictures, and walks, are as they were
        walked = explorer.attack(model, x[:some], y[:some], "fgsm", eps=0.1, **more)
        assert walked.precision == "float32" and torch.equal(walked.x, exact.x[:some])


def test_the_trace_is_the_walk_of_each_image(small):
    model, x, y = small
    found = explorer.attack(model, x, y, "pgd", eps=0.1, steps=4, seed=5, trace=True)
    assert torch.equal(found.x, explorer.attack(model, x, y, "pgd", eps=0.1, steps=4, seed=5, precision="float32").x)
    for i in (0, 30):
        trace = found.trace[i]
        assert len(trace) == 6 and np.array_equal(trace.frames[0], x[i].numpy()) and trace.label == int(y[i])
        assert np.array_equal(trace.frames[trace.best], found.x[i].numpy())
        with torch.no_grad():
            logits, features = model.both(torch.from_numpy(trace.frames))
        assert np.allclose(trace.logits, logits, atol=1e-5) and np.allclose(trace.features, features, atol=1e-5)
        assert np.array_equal(trace.reached, logits.argmax(1).numpy() != int(y[i]))
        assert trace.linf[-1] == pytest.approx(np.abs(trace.perturbation[-1]).max())
        assert trace.conditions["attack"] == "pgd" and trace.conditions["hyper"]["steps"] == 4


def test_a_model_of_the_zoo_by_its_name():
    images = load("fashion_mnist", n=10)
    found = explorer.attack("fashion_mnist/fashion-mlp", images.x, images.y, "fgsm", trace=True)
    assert (
        found.trace[0].classes == images.classes and found.trace[0].conditions["model"] == "fashion_mnist/fashion-mlp"
    )


def test_the_model_is_left_as_it_was(small):
    model, x, y = small
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    explorer.attack(model, x, y, "pgd", steps=2)
    explorer.robustness(model, x, y, "fgsm")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state) and all(p.grad is None for p in model.parameters())


NAN = torch.full((3, 1, 2, 2), float("nan"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": torch.rand(1, 2, 2)}, r"x must be a tensor \(N,C,H,W\) of at least one image; got shape \(1, 2, 2\)"),
        ({"x": torch.rand(0, 1, 2, 2)}, "at least one image"),
        ({"x": np.zeros((3, 1, 2, 2))}, "got ndarray"),
        ({"x": torch.zeros(3, 1, 2, 2, dtype=torch.uint8)}, "8-bit levels / 255"),
        ({"x": torch.full((3, 1, 2, 2), 1.5)}, r"pixels in \[0,1\], not normalised ones; got values from 1.5 to 1.5"),
        ({"x": NAN}, "got values from nan to nan"),
        ({"y": [0, 0, 2]}, r"y must lie in \[0, 1\], the model's classes; got 2"),
        ({"y": [0, -1, 1]}, "got -1"),
        ({"y": [0, 1]}, r"y must be 3 whole numbers, one for each image; got shape \(2,\)"),
        ({"y": [0.0, 1.0, 0.0]}, "whole numbers"),
        ({"y": "cat"}, "whole numbers, one for each image; got str"),
        ({"model": Half().train()}, "evaluation mode"),
        ({"model": "cifar10/pgd-lnf"}, "Did you mean 'cifar10/pgd-linf'"),
        ({"model": "cifar10/lenet"}, r"images of shape \(3, 32, 32\) for this model; got \(1, 2, 2\)"),
        ({"model": lambda x: x}, "torch.nn.Module; got function"),
        ({"method": "pdg"}, "Unknown attack 'pdg'. Did you mean 'pgd'"),
        ({"method": 3}, "method must be an attack's key"),
        ({"step": 3}, "Unknown hyper-parameter of PGD 'step'. Did you mean 'steps'.*Known: .*rel_step"),
        ({"steps": 0}, r"steps must be a whole number in \[1, 1000\]; got 0"),
        ({"method": ATTACKS["pgd"](), "steps": 3}, r"steps is a setting: give it to PGD\(...\) itself"),
        ({"method": "cw", "norm": "linf"}, "norm must be l2 for CW; got 'linf'"),
        ({"norm": "l3"}, "norm must be one of linf, l2, l1, l0; got 'l3'"),
        ({"norm": "l0", "eps": 2}, "norm must be linf or l2 for PGD; got 'l0'"),
        ({"method": "deepfool", "eps": 0.1}, "eps does not belong to DeepFool"),
        ({"eps": 8}, "Did you mean 8/255"),
        ({"eps": "a lot"}, "eps must be a number, a fraction"),
        ({"eps": torch.tensor([0.1, 0.2])}, "one for each of 3 images; got 2"),
        ({"target": 0}, "target must differ from the image's own class; got 0 for both"),
        ({"target": 5}, r"target must lie in \[0, 1\]"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(half, change, said):
    model, x, y = half
    asked = {"model": model, "x": x, "y": y} | change
    with pytest.raises((InvalidValue, UnknownName), match=said) as refusal:
        explorer.attack(asked.pop("model"), asked.pop("x"), asked.pop("y"), **asked)
    assert isinstance(refusal.value, ExplorerError) and "\n" not in str(refusal.value)

"""`precision="auto"`: which attacks climb in bfloat16, that logits and gradients come back in float32, and that as many are fooled."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import InvalidValue, as_classifier, seeded, use_generator
from explorer.core.precision import climbing_precision, rounded
from explorer.evaluation.precisions import both_precisions
from explorer.testing.networks import WithNoise, small_case


@pytest.fixture
def hardware(monkeypatch):
    """A CPU that multiplies in bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def asked(precision, key, n, model):
    return climbing_precision(precision, ATTACKS[key](), n, model)


def test_auto_takes_bfloat16_for_many_images_where_it_is_faster_and_climbs_as_well(hardware, monkeypatch):
    model, _, _ = small_case()
    assert asked("auto", "pgd", 16, model) == asked("auto", "apgd-ce", 128, model) == "bfloat16"
    assert asked("auto", "pgd", 15, model) == "float32"
    for delicate in ("deepfool", "fab", "cw", "fmn", "square", "nes", "autoattack", "hopskipjump", "minmax"):
        assert asked("auto", delicate, 128, model) == "float32"
        assert asked("bfloat16", delicate, 1, model) == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    assert asked("auto", "pgd", 128, model) == "float32"


def test_what_autocast_does_not_reach_is_not_called_bfloat16(hardware, monkeypatch):
    model, _, _ = small_case()
    monkeypatch.setattr(type(model), "rounds", False)
    assert asked("auto", "pgd", 128, model) == "float32"
    with pytest.raises(InvalidValue, match="precision must be float32 or auto for a confined model"):
        asked("bfloat16", "pgd", 128, model)
    with pytest.raises(InvalidValue, match="precision must be one of auto, float32, bfloat16; got 'half'"):
        asked("half", "pgd", 128, model)


def test_passes_are_rounded_and_what_comes_back_is_float32():
    model, x, _ = small_case()
    assert rounded(model, "float32") is model
    seen, leaf = rounded(model, "bfloat16"), x.clone().requires_grad_(True)
    logits, features = seen.both(leaf)
    (gradient,) = torch.autograd.grad(logits.sum(), leaf)
    assert logits.dtype == features.dtype == gradient.dtype == torch.float32 and gradient.shape == x.shape
    exact = model(x)
    assert torch.equal(seen(x), logits) and not torch.equal(logits, exact)
    assert (logits - exact).abs().max() < 0.02 * exact.abs().max()
    assert torch.equal(seen.features(x), features) and not torch.is_autocast_enabled("cpu")
    assert seen.num_classes == model.num_classes and not seen.training


def test_a_random_model_draws_as_before():
    model, x, _ = small_case()
    seen = rounded(as_classifier(WithNoise(model).eval(), like=x), "bfloat16")
    with use_generator(seeded(3)):
        one = seen(x)
    with use_generator(seeded(3)):
        assert torch.equal(seen(x), one) and seen.stochastic


def test_as_many_are_fooled():
    for found in both_precisions("fashion_mnist/fashion-mlp", ["pgd", "mifgsm"], n=64):
        one, other = found.fooled
        assert found.as_well and abs(one - other) <= 1 and one > 5
        assert found.bfloat16.precision == "bfloat16 attack, float32 verdict" and found.float32.precision == "float32"

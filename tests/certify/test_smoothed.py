"""CERTIFY and PREDICT as a whole, on networks whose answer under noise is known."""

import dataclasses
import json
import time
import weakref

import pytest
import torch
from scipy.stats import binom, norm

from explorer.certify import Certificate, Smoothed, certify, largest_radius, predict, smoothed
from explorer.certify.noise import SELECTION
from explorer.certify.votes import in_fast_layout
from explorer.core import Cancelled, InvalidValue
from explorer.models import ARCHITECTURES

SIGMA = 0.25


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_radius_approaches_the_margin_and_stays_below(halfspace, image, sigma):
    """A linear model's certified radius tends to its L2 margin, 0.3, for every sigma (p_A = Phi(margin / sigma))."""
    certificate = certify(halfspace(0.2), image, sigma, n=100_000, seed=1, batch=10_000)
    assert certificate.label == 0
    assert 0.28 < certificate.radius < 0.3
    assert certificate.p_lower < norm.cdf(0.3 / sigma)
    assert certificate.estimation[0] / 100_000 == pytest.approx(norm.cdf(0.3 / sigma), abs=0.006)


def test_never_beyond_the_cap(function_model, image):
    always = function_model(lambda pixels: torch.tensor([0.0, 1.0, 0.0]).expand(len(pixels), 3), num_classes=3)
    certificate = certify(always, image, SIGMA, n=1000, seed=1)
    assert (certificate.label, certificate.estimation) == (1, (0, 1000, 0))
    assert certificate.radius == largest_radius(SIGMA, 1000, 0.001)


def test_abstains_at_the_decision_boundary(halfspace, image):
    certificate = certify(halfspace(0.5), image, SIGMA, n=1000, seed=1)
    assert certificate.abstained and certificate.label is None and certificate.radius == 0
    assert 0.4 < certificate.p_lower < 0.5
    prediction = predict(halfspace(0.5), image, SIGMA, seed=1)
    assert prediction.abstained and prediction.p_value > 0.001


def test_predict_finds_the_majority(halfspace, image):
    prediction = predict(halfspace(0.3), image, SIGMA, n=1000, seed=1)
    assert prediction.label == 0 and prediction.p_value < 0.001
    assert sum(prediction.counts) == 1000 and prediction.invalid == 0
    assert predict(halfspace(0.7), image, SIGMA, n=1000, seed=1).label == 1


def test_predict_pass_by_pass_is_the_same(halfspace, image):
    model = Smoothed(halfspace(0.3), SIGMA, batch=64)
    *before, last = model.iter_predict(image, n=300, seed=1)
    assert last == model.predict(image, n=300, seed=1) and before == [None] * 5
    with pytest.raises(InvalidValue, match="n must be"):
        model.iter_predict(image, n=0)


def test_certificate_carries_its_conditions(halfspace, image):
    certificate = certify(halfspace(0.2), image, SIGMA, n0=50, n=200, alpha=0.01, seed=5)
    assert sum(certificate.selection) == 50 and sum(certificate.estimation) == 200
    told = json.loads(json.dumps(dataclasses.asdict(certificate)))
    assert told | {"sigma": 0.25, "n0": 50, "n": 200, "alpha": 0.01, "seed": 5, "precision": "float32"} == told
    assert told["sound"] is False and certificate.caveat == "not sound in floating point"


def false_certificates(coin, runs=1000):
    """How many of the runs certify a class that a fair coin does not favour (alpha 0.05, n0 = n = 100)."""
    model, image = coin(0.5), torch.full((1, 1, 1), 0.5)
    return sum(certify(model, image, SIGMA, n0=100, n=100, alpha=0.05, seed=s).label is not None for s in range(runs))


def too_many(count, runs=1000, alpha=0.05):
    """More than chance would give once in 10,000 times if the false rate were alpha."""
    return binom.sf(count - 1, runs, alpha) < 1e-4


def test_false_certificates_stay_below_alpha(coin):
    count = false_certificates(coin)
    assert count > 0 and not too_many(count)


def test_that_check_catches_reused_draws(coin, monkeypatch):
    monkeypatch.setattr(smoothed, "ESTIMATION", SELECTION)
    assert too_many(false_certificates(coin))


def test_selection_and_estimation_share_no_draw(halfspace, image):
    model = halfspace(0.2)
    certify(model, image, SIGMA, n0=100, n=300, seed=1)
    assert len(model.inputs) == 400 == len(torch.unique(model.inputs.flatten(1), dim=0))


def test_noise_is_added_to_pixels_and_never_clipped(function_model):
    shape = (3, 8, 8)
    model = function_model(lambda pixels: pixels.flatten(1)[:, :2], input_shape=shape)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    certify(model, x, 0.5, n=2000, seed=1)
    assert model.inputs.min() < -0.5 and model.inputs.max() > 1.5
    noise = (model.inputs - x).double()
    assert noise.std() == pytest.approx(0.5, rel=0.01) and abs(noise.mean()) < 0.005


def test_seed_repeats_everything_and_is_recorded(halfspace, image):
    first = certify(halfspace(0.4), image, SIGMA, n=500)
    assert 0 <= first.seed < 2**53
    assert certify(halfspace(0.4), image, SIGMA, n=500, seed=first.seed) == first
    assert certify(halfspace(0.4), image, SIGMA, n=500).seed != first.seed
    drawn = predict(halfspace(0.4), image, SIGMA)
    assert predict(halfspace(0.4), image, SIGMA, seed=drawn.seed) == drawn


def test_batch_size_changes_nothing(halfspace, image):
    """Not a bit of what the network sees, and so not a count."""
    seen, found = [], []
    for batch in (1, 7, 64, 1000):
        model = halfspace(0.4)
        found.append(certify(model, image, SIGMA, n=1000, seed=3, batch=batch))
        seen.append(model.inputs)
        assert max(map(len, model.seen)) <= batch
    assert all(torch.equal(one, seen[0]) for one in seen)
    assert all(one == found[0] for one in found)


def test_stochastic_models_follow_the_seed(coin):
    model, image = coin(0.7), torch.full((1, 1, 1), 0.5)
    state = torch.random.get_rng_state()
    first = certify(model, image, SIGMA, n=500, seed=1)
    assert certify(model, image, SIGMA, n=500, seed=1) == first
    assert certify(model, image, SIGMA, n=500, seed=2).estimation != first.estimation
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.estimation[0] / 500 == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_broken_networks_earn_no_radius(function_model, image, bad):
    broken = function_model(lambda pixels: torch.full((len(pixels), 3), bad), num_classes=3)
    certificate = certify(broken, image, SIGMA, n=500, seed=1)
    assert certificate.abstained and certificate.radius == 0 and certificate.p_lower == 0
    assert certificate.invalid == 600 and certificate.selection == certificate.estimation == (0, 0, 0)
    prediction = predict(broken, image, SIGMA, n=500, seed=1)
    assert prediction.abstained and prediction.p_value == 1 and prediction.invalid == 500


def test_invalid_draws_count_against_every_class(function_model, image):
    """A network that is NaN on half of its inputs and class 1 on the rest certifies nothing."""

    def half_nan(pixels):
        logits = torch.tensor([0.0, 1.0]).repeat(len(pixels), 1)
        logits[pixels.flatten(1)[:, 0] > 0.5, 0] = float("nan")
        return logits

    certificate = certify(function_model(half_nan), image, SIGMA, n=1000, seed=1)
    assert certificate.abstained and certificate.selected == 1
    assert certificate.estimation[0] == 0 and 400 < certificate.estimation[1] < 600
    assert sum(certificate.selection) + sum(certificate.estimation) + certificate.invalid == 1100
    assert certificate.p_lower < 0.5


def test_bfloat16_is_off_unless_asked_and_recorded(function_model, image):
    weight = torch.eye(4)
    model = function_model(lambda pixels: pixels.flatten(1) @ weight, num_classes=4)
    kinds = []
    model.head.register_forward_hook(lambda _, __, logits: kinds.append(logits.dtype))
    assert certify(model, image, SIGMA, n=64, seed=1).precision == "float32"
    assert set(kinds) == {torch.float32}
    kinds.clear()
    assert certify(model, image, SIGMA, n=64, seed=1, precision="bfloat16").precision == "bfloat16"
    assert set(kinds) == {torch.bfloat16}


def test_skips_the_estimation_of_a_wrong_selection(halfspace, image):
    model = halfspace(0.2)
    skipped = certify(model, image, SIGMA, n=5000, seed=1, true_label=1)
    assert len(model.inputs) == 100
    assert skipped.skipped and skipped.label is None and not skipped.abstained
    assert (skipped.selected, skipped.radius, skipped.p_lower, skipped.estimation) == (0, 0, 0, (0, 0))
    full = certify(model, image, SIGMA, n=500, seed=1, true_label=0)
    assert full == certify(model, image, SIGMA, n=500, seed=1) and not full.skipped


def test_progress_is_of_the_whole_and_tells_no_votes(halfspace, image):
    told = []
    certify(halfspace(0.2), image, SIGMA, n0=10, n=200, seed=1, batch=64, progress=lambda *args: told.append(args))
    assert told == [(0, 210), (10, 210), (10, 210), (74, 210), (138, 210), (202, 210), (210, 210)]


@pytest.mark.parametrize("sound", [False, True])
def test_memory_does_not_grow_with_n(halfspace, image, sound):
    """However many draws, at most two batches of noisy pictures are there at once."""
    model, alive, most = halfspace(0.2), weakref.WeakSet(), []

    def embed(normalised):
        alive.add(normalised.untyped_storage())
        most.append(len(alive))
        return normalised.flatten(1)[:, :2]

    model.embed = embed
    certify(model, (image * 255).round() / 255, SIGMA, n0=64, n=3000, batch=64, seed=1, sound=sound)
    assert len(most) == 48 and max(most) <= 2


def test_too_few_draws_to_certify_anything_are_refused(halfspace, image):
    with pytest.raises(InvalidValue, match="n must be at least 10 to certify anything at alpha 0.001; got 9"):
        certify(halfspace(0.2), image, SIGMA, n=9)
    assert certify(halfspace(-9.0), image, SIGMA, n=10, seed=1).radius > 0  # with ten it can
    with pytest.raises(InvalidValue, match="n must be at least 14"):
        certify(halfspace(0.2), image, SIGMA, n=13, alpha=1e-4)


def test_a_network_with_convolutions_is_laid_out_for_speed_and_left_as_it_was():
    model = ARCHITECTURES["preact-resnet18"]([0.5] * 3, [0.25] * 3, (3, 32, 32), 10, width=16).freeze()
    fast = in_fast_layout(model)
    kernels = [p for p in model.parameters() if p.ndim == 4]
    assert fast is not model and all(p.is_contiguous() for p in kernels)
    assert in_fast_layout(fast) is fast and not fast.training
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fast(x), model(x), atol=1e-4)


def test_noisy_copies_are_those_that_vote(halfspace, image):
    model = halfspace(0.5)
    certificate = certify(model, image, SIGMA, n0=12, n=50, seed=3)
    seen = model.inputs[:12].clone()
    copies, classes = Smoothed(halfspace(0.5), SIGMA).noisy_copies(image, 12, seed=3)
    assert torch.allclose(copies, seen, atol=1e-6)  # what was recorded had been normalised
    assert torch.bincount(classes, minlength=2).tolist() == list(certificate.selection)


def test_stops_when_asked(halfspace, image):
    model = halfspace(0.2)
    started = time.perf_counter()
    with pytest.raises(Cancelled, match="after 228 of 10000100 draws"):
        certify(model, image, SIGMA, n=10_000_000, seed=1, batch=64, should_stop=lambda: len(model.seen) >= 4)
    assert len(model.inputs) == 228 and time.perf_counter() - started < 5


def test_leaves_the_model_and_gradients_alone(halfspace, image):
    model = halfspace(0.2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = image.clone().requires_grad_()
    modes = []
    certify(model, x, SIGMA, n=100, seed=1, progress=lambda *_: modes.append(torch.is_inference_mode_enabled()))
    assert modes and not any(modes)  # a page that draws inside its callback is not disturbed
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training and x.grad is None and torch.equal(x, image)


@pytest.mark.parametrize(
    ("radius", "digits", "text"),
    [
        (0.2999999, 3, "0.299"),
        (0.95275, 3, "0.952"),
        (0.9999, 3, "0.999"),
        (0.3, 3, "0.299"),  # the float lies just below 3/10
        (0.5, 3, "0.500"),
        (0.0, 3, "0.000"),
        (1.23999, 2, "1.23"),
    ],
)
def test_radius_is_shown_rounded_down(halfspace, image, radius, digits, text):
    certificate = dataclasses.replace(certify(halfspace(0.2), image, SIGMA, n=10, seed=1), radius=radius)
    assert certificate.radius_text(digits=digits) == text
    assert float(text) <= radius


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sigma": 0}, r"sigma must be a number in \[0.0001, 10\]; got 0"),
        ({"sigma": -1}, "sigma"),
        ({"sigma": 10.01}, r"sigma .* got 10.01"),
        ({"sigma": NAN}, "sigma .* got nan"),
        ({"sigma": INF}, "sigma .* got inf"),
        ({"sigma": None}, "sigma .* got None"),
        ({"n": 0}, r"n must be a whole number in \[1, 1e\+07\]; got 0"),
        ({"n": 10_000_001}, "n must be .* got 10000001"),
        ({"n": 10.5}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"alpha": 0}, "alpha .* got 0"),
        ({"alpha": 0.5}, "alpha .* got 0.5"),
        ({"alpha": NAN}, "alpha .* got nan"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**63}, "seed must be a whole number"),
        ({"seed": 1.0}, "seed must be a whole number"),
        ({"batch": 0}, "batch must be a whole number .* got 0"),
        ({"batch": "many"}, "batch must be a whole number .* got 'many'"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16; got 'float16'"),
        (
            {"x": torch.rand(1, 1, 2, 2)},
            r"one float image of shape \(1, 2, 2\).*got torch.float32 \(1, 1, 2, 2\)",
        ),
        ({"x": torch.rand(3, 2, 2)}, r"got torch.float32 \(3, 2, 2\)"),
        ({"x": torch.zeros(1, 2, 2, dtype=torch.uint8)}, r"got torch.uint8"),
        ({"x": [[0.5]]}, "got list"),
        ({"x": torch.full((1, 2, 2), 255.0)}, r"pixels must be finite and lie in \[0, 1\]; got values from 255 to 255"),
        ({"x": torch.tensor([[[0.0, 1.0], [NAN, 0.5]]])}, "pixels must be finite"),
        ({"x": torch.tensor([[[0.0, 1.0], [-INF, 0.5]]])}, "pixels must be finite"),
        ({"x": torch.tensor([[[0.0, 1.0], [-1e-3, 0.5]]])}, "got values from -0.001 to 1"),
    ],
)
@pytest.mark.parametrize("ask", [certify, predict])
def test_bad_values_get_a_sentence(halfspace, image, ask, change, said):
    asked = {"x": image, "sigma": SIGMA, "n": 10, "seed": 1} | change
    with pytest.raises(InvalidValue, match=said):
        ask(halfspace(0.2), **asked)


@pytest.mark.parametrize(("change", "said"), [({"n0": 0}, "n0 must be"), ({"true_label": 2}, "true_label .* got 2")])
def test_bad_values_of_certify_alone(halfspace, image, change, said):
    with pytest.raises(InvalidValue, match=said):
        certify(halfspace(0.2), image, SIGMA, n=10, **change)


def test_training_mode_is_refused(halfspace, image):
    """Batch statistics would make the draws depend on one another."""
    with pytest.raises(InvalidValue, match="evaluation mode"):
        certify(halfspace(0.2).train(), image, SIGMA, n=10)


def test_certificates_are_values(halfspace, image):
    certificate = certify(halfspace(0.2), image, SIGMA, n=10, seed=1)
    assert isinstance(certificate, Certificate) and hash(certificate) == hash(dataclasses.replace(certificate))
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.radius = 9.0

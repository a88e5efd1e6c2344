"""Any torch module as a Classifier."""

import pytest
import torch
from torch import nn

from explorer.core import Classifier, InvalidValue, as_classifier, current_rng, seeded

SHAPE = (3, 8, 8)


def bare(k: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, k)).eval()


@pytest.fixture
def x():
    return torch.rand(2, *SHAPE, generator=seeded(1))


@pytest.mark.parametrize("many", [True, False])
def test_a_bare_module_is_wrapped_as_it_is(x, many):
    net = bare()
    model = as_classifier(net, like=x if many else x[0])
    assert isinstance(model, Classifier) and (model.input_shape, model.num_classes) == (SHAPE, 4)
    assert not model.stochastic and not model.training and model.device == x.device
    assert torch.equal(model(x), net(x)) and torch.equal(model.features(x), net(x))
    logits, features = model.both(x)
    assert torch.equal(logits, features)
    assert all(p.requires_grad for p in net.parameters()) and all(p.grad is None for p in net.parameters())
    assert as_classifier(model, like=x) is model


def test_what_a_module_says_of_itself_and_its_modes_are_left_alone(x):
    net = bare()
    net.append(nn.Dropout(0.5).train())  # on purpose: dropout at test time
    net.stochastic = True
    assert as_classifier(net, like=x).stochastic and net[2].training


def test_the_pass_draws_from_no_global_generator(x):
    class Noisy(nn.Module):
        def forward(self, pixels):
            return pixels.flatten(1)[:, :2] + torch.rand(len(pixels), 2, generator=current_rng(pixels.device))

    state = torch.random.get_rng_state()
    as_classifier(Noisy().eval(), like=x)
    assert torch.equal(torch.random.get_rng_state(), state)


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.eval()

    def forward(self, pixels):
        return self.answer


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (bare().train(), "evaluation mode .*; got one in training mode"),
        ("resnet18", r"must be a torch.nn.Module; got str"),
        (Answers(torch.zeros(1, 4, 2, 2)), r"logits of shape \(N, K\), here \(1, K\); got shape \(1, 4, 2, 2\)"),
        (Answers(torch.zeros(4)), r"got shape \(4,\)"),
        (Answers(torch.zeros(2, 4)), r"got shape \(2, 4\)"),
        (Answers({"logits": torch.zeros(1, 4)}), "got dict"),
        (Answers(torch.tensor([[0.0, float("nan")]])), "logits must be finite"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(10, 4)).eval(),
            r"does not take images of shape \(3, 8, 8\): mat1 and mat2",
        ),
    ],
)
def test_what_cannot_be_a_classifier_gets_a_sentence(x, model, said):
    with pytest.raises(InvalidValue, match=said) as caught:
        as_classifier(model, like=x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("like", [torch.rand(8, 8), "x"])
def test_images_must_be_a_tensor_with_channels(like):
    with pytest.raises(InvalidValue, match=r"images must be a tensor \(C,H,W\) or \(N,C,H,W\); got"):
        as_classifier(bare(), like=like)

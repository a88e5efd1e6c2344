"""A zoo of untrained, tiny networks; engines that are closed after each test."""

import pytest
import torch

from explorer.data import dataset
from explorer.engine import Engine, model_cache
from explorer.models import ARCHITECTURES, zoo


def add(folder, name, dataset_name, seed=0, architecture="preact-resnet18", **arguments):
    """Write one untrained model with its card into a zoo."""
    spec = dataset(dataset_name)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture](spec.mean, spec.std, spec.shape, 10, **arguments)
    torch.set_rng_state(state)
    model.head.weight.data *= 20  # else all classes are nearly equal
    blank = dict.fromkeys(("title", "summary", "recipe", "recipe_hash", "file", "sha256", "command"), "")
    facts = {"hyper": {}, "training": {}, "history": [], "bytes": 0, "precision": "float16"}
    card = zoo.Card(
        name=f"{dataset_name}/{name}",
        dataset=dataset_name,
        architecture=architecture,
        arguments=arguments,
        parameters=sum(p.numel() for p in model.parameters()),
        stochastic=model.stochastic,
        **blank,
        **facts,
    )
    return zoo.write(folder / dataset_name, card, model)


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    add(folder, "tiny", "cifar10", width=4)
    add(folder, "other", "cifar10", seed=1, width=4)
    add(folder, "tiny-lwta", "cifar10", width=4, units=2)
    add(folder, "tiny", "fashion_mnist", width=4)
    layers = {"dictionaries": [[4, 4, 2], [6, 4, 2]], "inference": "deep", "iterations": 2}
    add(folder, "tiny-pursuit", "fashion_mnist", architecture="pursuit-net", **layers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_CHECKPOINTS", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def small_reference(monkeypatch):
    """Maps of 100 reference images."""
    gathering = model_cache.Gathering
    monkeypatch.setattr(model_cache, "Gathering", lambda *a, **k: gathering(*a, **(k | {"n": 100})))


@pytest.fixture
def make_engine():
    made = []

    def make(**options):
        made.append(Engine("cpu", threads=1, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make_engine):
    return make_engine()

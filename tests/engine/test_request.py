"""What may be asked for, what may not, and that a link, a title and a script say the same."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from explorer.core import Ball, ExplorerError, InvalidValue, UnknownName
from explorer.data import raw
from explorer.engine import PAGE, AttackRequest, Budget, eps_text
from explorer.engine import request as request_module
from explorer.engine.batch_request import ManyRequest
from explorer.engine.compare import CompareRequest
from explorer.engine.featurespace import CloudRequest
from explorer.models import zoo

FINE = {"dataset": "cifar10", "image": 17, "model": "cifar10/tiny"}
LABEL = int(raw("cifar10", "test", "sample")[1][17])
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OTHER = (LABEL + 1) % 10


def request(**changes):
    return AttackRequest(**(FINE | changes)).checked()


def test_what_is_left_out_has_the_attack_s_own_defaults():
    made = request()
    assert (made.attack, made.norm, made.eps, made.target, made.seed) == ("pgd", "linf", 8 / 255, None, 0)
    assert made.hyper == {} and made.method.steps == 20 and made.label == LABEL
    assert made.frames == 22 and made.passes == 41


def test_only_what_differs_is_kept_so_that_equal_requests_are_equal():
    spelled = request(
        hyper={"steps": "20", "rel_step": 0.25, "random_start": "true"}, eps="8/255", seed="0", image="17"
    )
    assert spelled == request(hyper={"rel_step": "1/4"}) and spelled.hyper == {"rel_step": 0.25}
    assert hash(spelled) == hash(request(hyper={"rel_step": 0.25})) and spelled != request()


def no_reading(*anything, **named):
    raise AssertionError("a file was read")


def test_making_and_replacing_requests_reads_no_file_and_a_checked_one_says_the_same(monkeypatch):
    checked = request(hyper={"steps": "40"}, eps="8/255")
    many = ManyRequest("cifar10", "cifar10/tiny", count=4).checked()
    with monkeypatch.context() as patch:
        for method in ("open", "stat", "read_text", "iterdir"):
            patch.setattr(Path, method, no_reading)
        patch.setattr(zoo, "card", no_reading)
        patch.setattr(request_module, "raw", no_reading)
        made = AttackRequest("cifar10", "17", "nobody/nothing", hyper={"stps": 3}, eps="far")  # refused at the border
        assert dataclasses.replace(made, eps=0.5).eps == 0.5
        assert CompareRequest(checked, ("cifar10/tiny", "no/body")).lanes[1].model == "no/body"
        assert [one.model for one in CloudRequest(many, "no/body").each] == ["cifar10/tiny", "no/body"]
        assert dataclasses.replace(checked, seed=2).title() == checked.title()
    assert checked.checked() == checked and many.checked() == many
    with pytest.raises(UnknownName, match="nobody/nothing"):
        made.checked()


@pytest.mark.parametrize("target", [OTHER, str(OTHER), CLASSES[OTHER]])
def test_a_target_by_number_or_name(target):
    assert request(target=target).target == OTHER


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"dataset": "cifar100"}, UnknownName, "Unknown dataset 'cifar100'. Did you mean 'cifar10'"),
        ({"dataset": None}, InvalidValue, "dataset must be text"),
        ({"model": "cifar10/tinny"}, UnknownName, "Did you mean 'cifar10/tiny'"),
        ({"model": "../../etc/passwd"}, UnknownName, "Unknown model"),
        ({"model": "cifar10/tiny\0"}, UnknownName, "Unknown model"),
        ({"model": 3}, InvalidValue, "model must be text"),
        ({"model": "fashion_mnist/tiny"}, InvalidValue, "made for fashion_mnist; got dataset 'cifar10'"),
        ({"attack": "pdg"}, UnknownName, "Did you mean 'pgd'"),
        ({"attack": []}, InvalidValue, "attack must be text"),
        ({"hyper": {"stps": 3}}, UnknownName, "Did you mean 'steps'"),
        ({"hyper": {"steps": 10**9}}, InvalidValue, r"steps must be a whole number in \[1, 1000\]"),
        ({"hyper": {"steps": float("nan")}}, InvalidValue, "steps must be"),
        ({"hyper": {"steps": 2.5}}, InvalidValue, "steps must be"),
        ({"hyper": {"loss": "hinge"}}, InvalidValue, "loss must be one of ce, margin"),
        ({"hyper": {"random_start": "maybe"}}, InvalidValue, "random_start must be true or false"),
        ({"hyper": "steps=3"}, InvalidValue, "hyper must be names and values"),
        ({"hyper": {1: 2}}, UnknownName, "hyper-parameter"),
        ({"attack": "fgsm", "hyper": {"steps": 3}}, UnknownName, "hyper-parameter of FGSM 'steps'"),
        ({"attack": "cw"}, InvalidValue, "norm must be l2 for .*; got 'linf'"),
        ({"norm": "l1"}, InvalidValue, "norm must be linf or l2 for PGD; got 'l1'"),
        ({"norm": None}, InvalidValue, "norm must be text"),
        ({"eps": 8}, InvalidValue, "Did you mean 8/255"),
        ({"eps": "8"}, InvalidValue, "Did you mean 8/255"),
        ({"eps": 0}, InvalidValue, "eps must lie in"),
        ({"eps": -0.1}, InvalidValue, "eps must lie in"),
        ({"eps": "nan"}, InvalidValue, "eps must lie in"),
        ({"eps": "inf"}, InvalidValue, "eps must lie in"),
        ({"eps": "8/0"}, InvalidValue, "a fraction such as"),
        ({"eps": "a lot"}, InvalidValue, "a fraction such as"),
        ({"eps": True}, InvalidValue, "a fraction such as"),
        ({"eps": None}, InvalidValue, "a fraction such as"),
        ({"norm": "l2", "eps": 128}, InvalidValue, "Did you mean 128/255"),
        ({"norm": "l2", "eps": 10**6}, InvalidValue, "eps must lie in"),
        ({"image": -1}, InvalidValue, r"image must be a whole number in \[0, 1999\]; got -1"),
        ({"image": 2000}, InvalidValue, "image must be"),
        ({"image": 1.0}, InvalidValue, "image must be"),
        ({"image": True}, InvalidValue, "image must be"),
        ({"image": "seventeen"}, InvalidValue, "image must be"),
        ({"image": "9" * 5000}, InvalidValue, "image must be"),
        ({"image": "upload:../x"}, InvalidValue, "upload:<8 to 64 hexadecimal digits>"),
        ({"image": "upload:abc"}, InvalidValue, "upload:<8 to 64"),
        ({"target": LABEL}, InvalidValue, "target must differ from the true class"),
        ({"target": 10}, InvalidValue, r"target must be a whole number in \[0, 9\]"),
        ({"target": "-1"}, InvalidValue, "target must be"),
        ({"target": "catt"}, UnknownName, "Unknown target class 'catt'. Did you mean 'cat'"),
        ({"target": 1.5}, InvalidValue, "target must be"),
        ({"seed": -1}, InvalidValue, "seed must be"),
        ({"seed": 2**63}, InvalidValue, "seed must be"),
        ({"seed": "x"}, InvalidValue, "seed must be"),
        ({"label": OTHER}, InvalidValue, "label of image 17"),
        ({"image": "upload:0123abcd", "label": 2, "target": 2}, InvalidValue, "target must differ"),
        ({"image": "upload:0123abcd", "label": "unicorn"}, UnknownName, "Unknown label class"),
    ],
)
def test_everything_unfit_is_refused_in_one_sentence(changes, kind, says):
    with pytest.raises(kind, match=says) as caught:
        request(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hyper", "says"),
    [
        (
            {"steps": 1000, "restarts": 100},
            "steps x restarts may come to at most 3,000 recorded images here; got 100,101",
        ),
        ({"draws": 512}, "draws may come to at most 128 draws per step here; got 512"),
        ({"steps": 100, "draws": 128}, "forward and backward passes here; got 25,728"),
    ],
)
def test_a_page_grants_a_bounded_amount_of_work_and_a_script_more(hyper, says):
    asked = request(hyper=hyper)
    with pytest.raises(InvalidValue, match=says):
        asked.within()
    assert asked.within(Budget(passes=10**7, draws=512, frames=10**6)) is asked
    assert request(hyper={"steps": 50, "restarts": 5, "draws": 20}).within(PAGE)


# The smallest change


def test_a_search_for_the_smallest_change_is_given_no_eps():
    made = request(attack="deepfool", norm="l2", eps=0.25)
    assert made.is_minimal and made.threat.eps == 100.0 and made == request(attack="deepfool", norm="l2", eps=3)
    assert request(attack="deepfool").threat.eps == 1.0 and not request().is_minimal
    assert "eps" not in made.to_query() and AttackRequest.from_query(made.to_query()) == made
    assert made.title() == "DeepFool against cifar10/tiny, L2, 50 steps"
    assert "minimal=True)" in made.to_python() and "smallest change" in made.to_python()
    assert "minimal" not in request().to_python()
    with pytest.raises(InvalidValue, match="eps must be"):
        request(attack="deepfool", eps="far")


def test_an_attack_says_how_long_it_takes():
    made = request(attack="deepfool", norm="l2", hyper={"steps": 10, "classes": 4, "draws": 2})
    assert made.frames == 1 + made.method.expected_frames == 12
    assert made.passes == made.method.expected_passes == 2 * (10 * (2 * 4 - 1) + 2)


# Links


def upload(**changes):
    return request(image="upload:" + "0123456789abcdef" * 4, **changes)


FRACTIONS = st.integers(1, 255).map(lambda k: k / 255)
HYPER = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.integers(1, 1000),
        "rel_step": st.floats(0.001, 2),
        "random_start": st.booleans(),
        "restarts": st.integers(1, 100),
        "draws": st.integers(1, 512),
        "loss": st.sampled_from(["ce", "margin"]),
    },
)


@given(
    image=st.integers(0, 1999) | st.just("upload:" + "f" * 64),
    hyper=HYPER,
    norm=st.sampled_from(["linf", "l2"]),
    eps=FRACTIONS | st.floats(1e-5, 1),
    target=st.none() | st.integers(0, 9),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_link_makes_the_same_request_again(image, hyper, norm, eps, target, seed):
    try:
        made = request(image=image, hyper=hyper, norm=norm, eps=eps, target=target, seed=seed)
    except InvalidValue as error:
        assert "target must differ" in str(error)
        return
    query = made.to_query()
    assert all(isinstance(part, str) for pair in query.items() for part in pair)
    assert AttackRequest.from_query(query) == made
    assert sum(len(key) + len(value) + 2 for key, value in query.items()) <= 512


def test_a_link_reads_well_and_leaves_defaults_out():
    assert request(target=OTHER, hyper={"steps": 40, "random_start": False}).to_query() == {
        "data": "cifar10",
        "image": "17",
        "model": "cifar10/tiny",
        "attack": "pgd",
        "norm": "linf",
        "eps": "8/255",
        "with": "steps:40,random_start:false",
        "target": CLASSES[OTHER],
    }
    made = upload(label="dog")
    assert AttackRequest.from_query(made.to_query()) == made and made.to_query()["label"] == "dog"


@pytest.mark.parametrize(
    ("eps", "text"),
    [(8 / 255, "8/255"), (0.5, "0.5"), (1.0, "1"), (0.3, "0.3"), (0.5 / 255, "0.5/255"), (0.123456789, "0.123456789")],
)
def test_eps_as_people_write_it(eps, text):
    assert eps_text(eps) == text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": None}, "must name data, image and model; image is missing"),
        ({"with": "steps"}, 'must look like "steps:40'),
        ({"with": "steps:3,steps:4"}, "each name once"),
        ({"with": "steps:"}, "steps must be"),
        ({"with": "x" * 600}, "at most 512 characters"),
        ({"seed": ["1"]}, "seed must be text"),
    ],
)
def test_links_that_were_tampered_with(changes, says):
    query = {key: value for key, value in (request().to_query() | changes).items() if value is not None}
    with pytest.raises(ExplorerError, match=says):
        AttackRequest.from_query(query)


def test_parameters_of_other_pages_are_ignored():
    assert AttackRequest.from_query(request().to_query() | {"embed": "true", "theme": "x" * 600}) == request()


JUNK = st.text(max_size=30) | st.sampled_from(
    ["", "-1", "1e999", "nan", "8/0", "1/1/1", "\0", "٣", "true", "steps:9", "steps:1e9", "draws:x,", ":", "None", "L∞"]
)
KEYS = ["data", "image", "model", "attack", "norm", "eps", "with", "target", "seed", "label"]


@given(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4), st.dictionaries(JUNK, JUNK, max_size=2))
@example({"with": "steps:²"}, {})
@example({"image": "²"}, {})
@example({"target": "٣"}, {})
@example({"eps": "9" * 400 + "/3"}, {})
def test_no_link_raises_anything_but_a_sentence(changed, foreign):
    try:
        AttackRequest.from_query(foreign | request().to_query() | changed)
    except ExplorerError as error:
        assert str(error)


# Words


def test_a_title_names_what_matters():
    assert request().title() == "PGD against cifar10/tiny, L∞ 8/255, 20 steps"
    made = request(norm="l2", eps=0.5, target=OTHER, hyper={"restarts": 2, "draws": 4, "steps": 1})
    assert made.title() == f"PGD against cifar10/tiny, L2 0.5, 1 step, 2 restarts, 4 draws, toward {CLASSES[OTHER]}"
    assert request(attack="cw", norm="l2").title() == "C&W against cifar10/tiny, L2, 100 steps, 9 searches"
    assert request(attack="fgsm").title() == "FGSM against cifar10/tiny, L∞ 8/255"


def test_conditions_can_be_stored_as_json():
    from explorer.engine.tracing import described

    assert json.loads(json.dumps(described(request())))["hyper"]["steps"] == 20


def test_the_script_of_an_upload_reads_the_picture_and_says_its_class(tmp_path, monkeypatch, capsys):
    from PIL import Image

    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    for made in (upload(hyper={"steps": 2}), upload(hyper={"steps": 2}, label="dog")):
        exec(compile(made.to_python(), "script", "exec"), names)
        assert names["x"].shape == (1, 3, 32, 32) and names["outcome"].success.shape == (1,)
    assert int(names["y"]) == 5 and "tensor" in capsys.readouterr().out


@pytest.mark.parametrize(("attack", "hyper", "says"), [
    ("localized", {"thickness": 1}, "only a border of 1 pixel"),
    ("localized", {"area": "background"}, "only the background, as far as it was recognised"),
    ("localized", {"area": "drawn", "mask": "8000000000000001"}, "only 2 of 64 drawn cells"),
    ("minmax", {"models": "cifar10/other"}, "together with cifar10/other"),
    ("minmax", {}, "with no other model"),
])  # fmt: skip
def test_a_title_says_where_or_against_whom_an_attack_works(attack, hyper, says):
    asked = AttackRequest("cifar10", 3, "cifar10/tiny", attack=attack, hyper=hyper).checked()
    assert asked.title().endswith(f", {says}")
    assert AttackRequest.from_query(asked.to_query()) == asked


def test_a_link_of_a_minimal_attack_in_l0_needs_no_eps():
    link = {"data": "cifar10", "image": "17", "model": "cifar10/tiny", "attack": "fmn", "norm": "l0"}
    request = AttackRequest.from_query(link)
    assert request.to_query() == link and request.threat == Ball("l0", request.eps)

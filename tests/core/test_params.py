"""Hyper-parameters that validate and describe themselves."""

from dataclasses import dataclass, fields

import pytest

from explorer.core import Hyper, InvalidValue, UnknownName, fixed, param, parse_eps, parse_number


@dataclass(frozen=True)
class Knobs(Hyper):
    presets = {"strong": {"steps": 50}}

    steps: int = param(20, "steps", lo=1, hi=100, help="How often.")
    size: float = param(0.1, "step size", lo=0.01, hi=2.0, unit="x eps", step=0.05)
    start: bool = param(True, "random start")
    loss: str = param("ce", "loss", choices=("ce", "margin"))
    note: str = param("", "note")
    free: float = param(0.0, "free")
    drawn: str = param("", "drawn", widget="mask", when=("loss", "margin"), strength=False)


def test_fields_describe_themselves():
    steps, size, start, loss, note, free, drawn = Knobs.params()
    assert (steps.name, steps.default, steps.kind, steps.lo, steps.hi) == ("steps", 20, int, 1, 100)
    assert steps.help == "How often."
    assert (size.unit, size.step, size.kind) == ("x eps", 0.05, float)
    assert start.kind is bool and loss.choices == ("ce", "margin") and note.kind is str and free.lo is None
    assert (drawn.widget, drawn.when, drawn.strength) == ("mask", ("loss", "margin"), False)
    assert (note.widget, note.when, note.strength) == ("", None, True)
    assert [p.name for p in Knobs.params()] == [f.name for f in fields(Knobs)]


def test_strings_and_whole_floats_become_the_field_s_type():
    knobs = Knobs.from_dict({"steps": "30", "size": "8/255", "start": "False", "loss": "margin"})
    assert knobs == Knobs(30, 8 / 255, False, "margin")
    assert type(Knobs(steps=30.0).steps) is int and type(Knobs(size=1).size) is float


def test_values_survive_a_round_trip():
    knobs = Knobs(steps=7, size=0.5, start=False)
    assert Knobs.from_dict(knobs.to_dict()) == knobs
    assert list(knobs.to_dict()) == [p.name for p in Knobs.params()]


@pytest.mark.parametrize(("name", "value"), [
    ("steps", 0), ("steps", 101), ("steps", 1.5), ("steps", "many"), ("steps", True), ("steps", None),
    ("steps", float("nan")), ("steps", 10**400), ("steps", "1/0"), ("steps", [1]), ("size", 0.0), ("size", 2.01),
    ("size", float("inf")), ("size", ""),
])  # fmt: skip
def test_a_bad_number_is_refused_with_name_range_and_value(name, value):
    with pytest.raises(InvalidValue, match=rf"^{name} must be a .*number in \[") as refusal:
        Knobs(**{name: value})
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize(("name", "value", "sentence"), [
    ("start", 2, "start must be true or false; got 2."),
    ("start", "maybe", "start must be true or false; got 'maybe'."),
    ("loss", "mse", "loss must be one of ce, margin; got 'mse'."),
    ("free", float("inf"), "free must be a number in [any, any]; got inf."),
])  # fmt: skip
def test_a_bad_choice_is_refused_with_what_is_allowed(name, value, sentence):
    with pytest.raises(InvalidValue) as refusal:
        Knobs(**{name: value})
    assert str(refusal.value) == sentence


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="Unknown hyper-parameter of Knobs 'step'. Did you mean 'steps'?"):
        Knobs.from_dict({"step": 1})


def test_values_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        Knobs().steps = 5


@pytest.mark.parametrize(("value", "number"), [("8/255", 8 / 255), ("0.5", 0.5), (3, 3.0), ("1e-3", 1e-3)])
def test_parse_number(value, number):
    assert parse_number(value) == number


@pytest.mark.parametrize("value", ["a", "1/2/3", None, [1]])
def test_parse_number_refuses(value):
    with pytest.raises(ValueError):
        parse_number(value)


@pytest.mark.parametrize("value", ["a", "1/0", None, True])
def test_what_is_no_eps_is_refused_in_words(value):
    assert parse_eps("4/255") == 4 / 255
    with pytest.raises(InvalidValue, match='eps must be a number or a fraction such as "8/255"; got'):
        parse_eps(value)


def test_class_keywords_change_a_default_and_nothing_else():
    @dataclass(frozen=True)
    class Patient(Knobs, steps=90, start=False):
        more: int = param(1, "more")

    names = [p.name for p in Patient.params()]
    assert names == [*(p.name for p in Knobs.params()), "more"]  # in the parent's order
    steps, start = Patient.params()[0], Patient.params()[2]
    assert (steps.default, steps.hi, steps.help, Patient().steps, Knobs().steps) == (90, 100, "How often.", 90, 20)
    assert (start.default, start.kind) == (False, bool)
    with pytest.raises(InvalidValue, match="steps"):
        Patient(steps=101)


def test_class_keywords_name_fields_only():
    with pytest.raises(TypeError, match="no inherited field 'step'"):

        class Wrong(Knobs, step=5):
            pass


def test_a_fixed_field_is_a_constant_and_no_hyper_parameter():
    @dataclass(frozen=True)
    class Single(Knobs, steps=fixed(1), size=0.5):
        pass

    assert Single().steps == 1 and "steps" not in Single().to_dict() and Single().size == 0.5
    assert [p.name for p in Single.params()] == [p.name for p in Knobs.params() if p.name != "steps"]
    for make in (lambda: Single(steps=2), lambda: Single.from_dict({"steps": 2})):
        with pytest.raises((TypeError, UnknownName)):
            make()
    assert Knobs().steps == 20

"""Hyper-parameters that describe themselves: one dataclass field is the default, the limits, the widget and the help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Self

from explorer.core.errors import InvalidValue, UnknownName


@dataclass(frozen=True)
class Param:
    """What a form, the command line and the validator need to know about one field."""

    name: str
    default: Any
    label: str
    kind: type  # int, float, bool or str
    lo: float | None
    hi: float | None
    unit: str
    help: str
    choices: tuple[str, ...]
    step: float | None  # granularity a widget should offer; not a constraint
    widget: str = ""  # what a form may draw instead of a text field: "mask" or "models"
    when: tuple[str, str] | None = None  # another field and the value of it with which this one matters
    strength: bool = True  # False: says what is attacked, not how hard; presets leave it alone

    def check(self, value: Any) -> Any:
        """`value` as the field's own type; raises InvalidValue with name, allowed range and what was given."""
        if self.kind is bool:
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
                return value.lower() in ("true", "1")
            raise InvalidValue(f"{self.name} must be true or false; got {value!r}.")
        if self.choices:
            if str(value) not in self.choices:
                raise InvalidValue(f"{self.name} must be one of {', '.join(self.choices)}; got {value!r}.")
            return str(value)
        if self.kind is str:
            return str(value)
        return self._number(value)

    def _number(self, value: Any) -> int | float:
        allowed = f"{'a whole number' if self.kind is int else 'a number'} in [{_short(self.lo)}, {_short(self.hi)}]"
        wrong = InvalidValue(f"{self.name} must be {allowed}; got {value!r}.")
        if isinstance(value, bool):
            raise wrong
        try:
            number = parse_number(value)
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise wrong from error
        if not math.isfinite(number) or (self.kind is int and number != int(number)):
            raise wrong
        if (self.lo is not None and number < self.lo) or (self.hi is not None and number > self.hi):
            raise wrong
        return int(number) if self.kind is int else float(number)


def parse_number(value: Any) -> float:
    """A float from a number, "0.5", or a fraction such as "8/255". Raises ValueError for anything else.

    Examples:
        >>> from explorer.core import parse_number
        >>> parse_number("1/4")
        0.25
    """
    if isinstance(value, str):
        top, slash, bottom = value.partition("/")
        return float(top) / float(bottom) if slash else float(top)
    if isinstance(value, (int, float)):
        return float(value)
    raise ValueError(f"not a number: {value!r}")


def parse_eps(value: Any) -> float:
    """What a person gives as eps, by `parse_number`. Raises InvalidValue for what is no number."""
    try:
        return parse_number(None if isinstance(value, bool) else value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InvalidValue(f'eps must be a number or a fraction such as "8/255"; got {value!r}.') from error


def parse_numbers(name: str, text: str) -> list[float]:
    """Of "0.1,0.2". Raises InvalidValue with the name of what is asked."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidValue(f"{name} must be numbers separated by commas; got {text!r}.") from error


def _short(limit: float | None) -> str:
    return "any" if limit is None else f"{limit:g}"


def param(
    default: Any,
    label: str,
    *,
    lo: float | None = None,
    hi: float | None = None,
    unit: str = "",
    help: str = "",
    choices: Sequence[str] = (),
    step: float | None = None,
    widget: str = "",
    when: tuple[str, str] | None = None,
    strength: bool = True,
) -> Any:
    """A dataclass field that carries its label, range, unit and one sentence of help.

    Examples:
        >>> from dataclasses import dataclass
        >>> from explorer.core import Hyper, param
        >>> @dataclass(frozen=True)
        ... class Walk(Hyper):
        ...     steps: int = param(10, "steps", lo=1, hi=100, help="How many there are.")
        >>> @dataclass(frozen=True)
        ... class LongWalk(Walk, steps=100):
        ...     pass
        >>> LongWalk()
        LongWalk(steps=100)
        >>> Walk.from_dict({"steps": "0"})
        Traceback (most recent call last):
            ...
        explorer.core.errors.InvalidValue: steps must be a whole number in [1, 100]; got '0'.
    """
    meta = {"label": label, "lo": lo, "hi": hi, "unit": unit, "help": help, "choices": tuple(choices), "step": step}
    meta |= {"widget": widget, "when": when, "strength": strength}
    return field(default=default, metadata={"param": meta})


@dataclass(frozen=True)
class fixed:
    """A class keyword's value for good: in `class FGSM(PGD, steps=fixed(1))` the field is no hyper-parameter any more."""

    value: Any


@dataclass(frozen=True)
class Hyper:
    """Base of everything with hyper-parameters (attacks, recipes): a frozen dataclass that refuses bad values."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init_subclass__(cls, **defaults: Any) -> None:
        """`class Child(Parent, steps=10)` changes the default of an inherited field; its label, range and help stay.

        `steps=fixed(10)` makes it a constant of the class. Raises TypeError for a name that is no field of a parent.
        """
        super().__init_subclass__()
        for name, default in defaults.items():
            for parent in cls.__mro__[1:]:
                inherited = vars(parent).get("__dataclass_fields__", {}).get(name)
                if inherited is not None:
                    break
            else:
                raise TypeError(f"{cls.__name__} has no inherited field {name!r} whose default could be changed.")
            if isinstance(default, fixed):
                setattr(cls, name, default.value)
                cls.__annotations__[name] = ClassVar
            else:
                setattr(cls, name, field(default=default, metadata=inherited.metadata))
                cls.__annotations__[name] = inherited.type

    def __post_init__(self) -> None:
        for p in self.params():
            object.__setattr__(self, p.name, p.check(getattr(self, p.name)))

    @classmethod
    def params(cls) -> tuple[Param, ...]:
        """Every field made by `param`, in the order of the class."""
        return _params(cls)  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """An instance from untrusted names and values (a URL, a command line); unknown names are refused."""
        known = {p.name for p in cls.params()}
        for name in values:
            if name not in known:
                raise UnknownName(f"hyper-parameter of {cls.__name__}", name, known)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in field order: what cards, URLs and exports store."""
        return {p.name: getattr(self, p.name) for p in self.params()}


@cache
def _params(cls: type[Hyper]) -> tuple[Param, ...]:
    """Once a class: a page asks hundreds of times."""
    found = []
    for f in dataclasses.fields(cls):
        meta = f.metadata.get("param")
        if meta is not None:
            found.append(Param(name=f.name, default=f.default, kind=type(f.default), **meta))
    return tuple(found)

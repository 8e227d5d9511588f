"""Options from the command line and from TOML: what each annotation takes, and what a person reads when it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.errors import ConfigError, InvalidOption, UnknownName
from blemore_harness.options import build_options, describe_options, parse_settings


@dataclass(frozen=True)
class Everything:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    word: str = "x"
    kind: Literal["small", "large"] = "small"
    number: Literal[1, 2] = 1
    sizes: tuple[int, ...] = (1, 2)
    window: tuple[float, float] = (0.0, 2.0)
    names: tuple[str, ...] = ()
    file: Path = Path("here")
    maybe_file: Path | None = None
    maybe_count: Optional[int] = None  # noqa: UP045 - the older spelling must work as well
    seconds: float | Literal["all"] = "all"
    files: tuple[Path, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    made: int = field(default=7, init=False)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise InvalidOption(f"count: expected at least 0, found {self.count}")
        if self.rate == 99:
            raise ValueError("rate: 99 is nobody's rate")


def build(**values: object) -> Everything:
    made = build_options("toy", Everything, values)
    assert isinstance(made, Everything)
    return made


GOOD: list[tuple[str, object, object]] = [
    ("count", "3", 3), ("count", " 3 ", 3), ("count", 3, 3), ("count", 3.0, 3), ("count", "1_000", 1000),
    ("rate", "1e-3", 0.001), ("rate", 2, 2.0), ("rate", "2", 2.0), ("rate", "-.5", -0.5),
    ("on", "true", True), ("on", "Yes", True), ("on", "off", False), ("on", "0", False), ("on", True, True),
    ("on", 1, True),
    ("word", "a=b", "a=b"), ("word", 7, "7"), ("word", "", ""), ("word", "none", "none"),
    ("kind", "large", "large"), ("number", "2", 2), ("number", 2, 2),
    ("sizes", "3, 4", (3, 4)), ("sizes", [3, 4], (3, 4)), ("sizes", "5", (5,)), ("sizes", "", ()), ("sizes", [], ()),
    ("window", "1,2.5", (1.0, 2.5)), ("window", [1, 2], (1.0, 2.0)),
    ("names", "a, b", ("a", "b")), ("names", ["a"], ("a",)),
    ("file", "a/b", Path("a/b")), ("file", "~/b", Path.home() / "b"),
    ("maybe_file", "none", None), ("maybe_file", "", None), ("maybe_file", "None", None),
    ("maybe_file", "w", Path("w")),
    ("maybe_count", "4", 4), ("maybe_count", "none", None), ("maybe_count", None, None),
    ("seconds", "all", "all"), ("seconds", "2", 2.0), ("seconds", 1.5, 1.5),
    ("files", "a,b", (Path("a"), Path("b"))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_value_is_read_by_its_annotation(name: str, value: object, expected: object) -> None:
    found = getattr(build(**{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


BAD: list[tuple[str, object, str]] = [
    ("count", "three", "expected a whole number, found 'three'"), ("count", "1.5", "whole number"),
    ("count", 1.5, "whole number"), ("count", True, "whole number"), ("count", "", "whole number"),
    ("count", float("inf"), "whole number"), ("count", float("nan"), "whole number"), ("count", "nan", "whole number"),
    ("count", [1], "whole number"), ("count", None, "whole number"), ("count", "9" * 5000, "whole number"),
    ("rate", "fast", "expected a number, found 'fast'"), ("rate", "nan", "number"), ("rate", "inf", "number"),
    ("rate", "-Infinity", "number"), ("rate", "1e999", "number"), ("rate", float("nan"), "number"),
    ("rate", 10**400, "number"), ("rate", False, "number"), ("rate", {"a": 1}, "number"),
    ("on", "maybe", "expected true or false, found 'maybe'"), ("on", 2, "true or false"), ("on", None, "true or false"),
    ("on", [True], "true or false"),
    ("word", True, "expected text"), ("word", ["a"], "expected text"), ("word", None, "expected text"),
    ("kind", "huge", "expected one of small, large, found 'huge'"), ("kind", 1, "one of"), ("kind", "", "one of"),
    ("number", "3", "one of 1, 2"), ("number", True, "one of"), ("number", 1.0, "one of"),
    ("sizes", "1,b", "whole number"), ("sizes", "1,", "whole number"), ("sizes", 3, "separated by commas"),
    ("sizes", [1, 2.5], "whole number"), ("sizes", {"a": 1}, "separated by commas"),
    ("window", "1", "expected 2 values separated by commas, found '1'"), ("window", "1,2,3", "expected 2 values"),
    ("file", "", "expected a path"), ("file", True, "expected a path"), ("file", ["a"], "expected a path"),
    ("file", "~nobody-of-this-name/x", "expected a path"),
    ("maybe_count", "x", "expected a whole number"), ("seconds", "half", "expected a number or expected one of all"),
    ("table", "a", "expected dict"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=lambda part: str(part)[:20])
def test_wrong_value_is_one_line_that_names_the_option(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        build(**{name: value})
    assert str(caught.value).startswith(f"toy.{name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_option_suggests() -> None:
    with pytest.raises(UnknownName, match=r"toy 'sizs'.*'sizes'"):
        build(sizs="1")
    with pytest.raises(UnknownName, match="toy 'made'"):
        build(made=1)


def test_checks_of_the_plugin_are_named_after_it() -> None:
    with pytest.raises(InvalidOption, match=r"^toy: count: expected at least 0, found -1$"):
        build(count="-1")
    with pytest.raises(InvalidOption, match=r"^toy: rate: 99 is nobody's rate$"):
        build(rate="99")


def test_settings_are_sorted_by_plugin_and_the_last_wins() -> None:
    assert parse_settings(["a.b=c=d", "a.b.c=1", "b.x= y ", "a.b=2", "a.e="]) == {
        "a": {"b": "2", "b.c": "1", "e": ""},
        "b": {"x": "y"},
    }
    assert parse_settings(["a.b=c=d"]) == {"a": {"b": "c=d"}}


@pytest.mark.parametrize("text", ["", "a", "a.b", "a=b", ".b=c", "a.=c", "=a.b", "a=b.c"])
def test_settings_of_another_shape_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"PLUGIN.OPTION=VALUE"):
        parse_settings([text])


json_like: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from([f for f in Everything.__dataclass_fields__ if f != "made"]), json_like)
def test_any_value_is_either_taken_or_an_invalid_option_and_always_describable(name: str, value: object) -> None:
    try:
        options = build(**{name: value})
    except InvalidOption:
        return
    text = json.dumps(describe_options(options), allow_nan=False)
    assert json.loads(text).keys() == Everything.__dataclass_fields__.keys()


def test_described_options_are_json_types() -> None:
    described = describe_options(build(files="a,b", maybe_file="w"))
    assert described["files"] == ["a", "b"]
    assert described["maybe_file"] == "w"
    assert described["seconds"] == "all"


@pytest.mark.parametrize("name", ["s4d", "wav2vec2", "gemini", "late"])
def test_in_tree_options_survive_a_round_trip_and_suggest(name: str) -> None:
    from blemore_harness.systems.plugins import load_plugins

    plugins = load_plugins({})
    (offer,) = plugins.offers[name]
    kind = offer.system.Options
    for given_values in ({}, dict(offer.system.demo_options)):
        options = build_options(name, kind, given_values)
        assert build_options(name, kind, describe_options(options)) == options
        json.dumps(describe_options(options), allow_nan=False)
    first = next(iter(kind.__dataclass_fields__))
    with pytest.raises(UnknownName, match=f"did you mean '{first}'"):
        build_options(name, kind, {f"{first}x": "1"})

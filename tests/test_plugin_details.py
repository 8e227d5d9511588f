"""`plugins NAME`: card, requirements and options as the classes state them, and every bundled option explained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.errors import PluginFailed
from blemore_harness.hookspecs import Card, Requirement
from blemore_harness.options import incidental, list_options
from blemore_harness.systems.details import describe_offer
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Offer, load_plugins
from toys import Noisy

OFFERS = load_plugins().offers


@dataclass(frozen=True)
class Base:
    """Options.

    Attributes:
        rate, share: numbers.
    """

    rate: float = 0.5
    share: float | None = None


@dataclass(frozen=True)
class Full(Base):
    """More options.

    Attributes:
        kind: which of two, over
            two lines.
        sizes: some.

    Other words.
    """

    kind: Literal["a", "b"] = "b"
    sizes: tuple[int, ...] = (1, 2)
    here: Path = Path("x")
    workers: int = incidental(2)
    on: bool = True


class Described(Noisy):
    """An encoder with options, a card and requirements."""

    Options = Full
    demo_options = {"kind": "a"}  # noqa: RUF012

    def card(self, options: Any) -> Card:
        return Card(weights_licence="CC0", acted="yes", acted_corpora=("CREMA-D", "MAFW"), parameters=1234567)

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        return Requirement("thing", least="2", below="3"), Requirement("KEY", "key")


def test_options_have_types_defaults_choices_and_meanings() -> None:
    found = {option.name: option for option in list_options(Full)}
    assert [(o.name, o.default) for o in found.values()] == [
        ("rate", 0.5), ("share", None), ("kind", "b"), ("sizes", [1, 2]), ("here", "x"), ("workers", 2), ("on", True),
    ]  # fmt: skip
    assert found["rate"].meaning == found["share"].meaning == "numbers."
    assert found["kind"].meaning == "which of two, over two lines."
    assert (found["kind"].choices, found["on"].choices, found["rate"].choices) == (("a", "b"), ("true", "false"), ())
    assert found["share"].type == "number or none"
    assert found["sizes"].type == "values separated by commas, each a whole number"
    assert [option.name for option in found.values() if option.incidental] == ["workers"]
    assert found["workers"].meaning == ""


@pytest.mark.parametrize("name", OFFERS)
def test_every_option_of_a_bundled_system_is_explained(name: str) -> None:
    assert [option.name for option in list_options(OFFERS[name][0].system.Options) if not option.meaning] == []


@pytest.mark.parametrize("name", ["s4d", "late", "trivial-single", "wavlm@mine"])
def test_the_command_shows_a_system_within_eighty_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemore_harness.cli.terminal.answer_console", lambda: console)
    from blemore_harness.drawing.console import PlainConsole

    console = PlainConsole(width=80, record=True)
    assert CliRunner().invoke(cli, ["plugins", name]).exit_code == 0
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    system = OFFERS[name.partition("@")[0]][0].system
    assert all(option.name in text for option in list_options(system.Options))
    assert "Apache-2.0" in text


def test_json_holds_all_of_it() -> None:
    found = json.loads(CliRunner().invoke(cli, ["plugins", "s4d", "--json"]).stdout)
    assert found["card"]["parameters"] == 100_512_877
    assert next(o for o in found["options"] if o["name"] == "train")["choices"] == ["adapters", "upper", "all"]
    assert found["demo_options"]["weights"] == "random-small"
    assert found["plugin"]["distribution"] == "blemore-harness"
    assert "HF_TOKEN" in [need["name"] for need in found["requirements"]]


def test_it_draws_what_a_plugin_declares_and_what_it_does_not() -> None:
    from blemore_harness.drawing.console import PlainConsole
    from blemore_harness.drawing.plugin_details import draw_details

    console = PlainConsole(width=80, record=True)
    console.print(draw_details(describe_offer(Offer(Described("toy"), "toys", Distribution("toys", "1.5")))))
    text = " ".join(console.export_text().split())
    for words in (
        "weights CC0", "pretraining not declared", "saw acted emotions yes: CREMA-D, MAFW", "parameters 1,234,567",
        "paid not declared", "thing from 2 below 3, key KEY", "toys 1.5 (entry point toys)", "on the demo dataset: a",
        "workers 2 whole number not documented", "sizes 1,2",
    ):  # fmt: skip
        assert words in text


def test_what_a_plugin_raises_is_its_failure() -> None:
    encoder = Described("toy")
    encoder.card = lambda options: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(PluginFailed, match="toy cannot be described: ZeroDivisionError"):
        describe_offer(Offer(encoder, "toys", Distribution("toys", "1")))


def test_unknown_names_are_usage_errors() -> None:
    refusal = CliRunner().invoke(cli, ["plugins", "s4e"]).exception
    assert "did you mean 's4d'" in str(refusal)

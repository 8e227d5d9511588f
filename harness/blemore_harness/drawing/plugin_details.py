"""Draws what an encoder or a fusion says about itself."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.hookspecs import Card, Requirement
from blemore_harness.options import Option
from blemore_harness.record.types import CardFacts
from blemore_harness.systems.details import Details

UNDECLARED = "not declared"
"""Shown for what a card leaves open."""


def describe_card(card: Card | CardFacts) -> dict[str, str]:
    """Return a card as texts by label; what is not declared says so."""
    acted = card.acted or UNDECLARED
    return {
        "code": card.code_licence or UNDECLARED,
        "weights": card.weights_licence or UNDECLARED,
        "pretraining": card.pretraining or UNDECLARED,
        "saw acted emotions": f"{acted}: {', '.join(card.acted_corpora)}" if card.acted_corpora else acted,
        "parameters": UNDECLARED if card.parameters is None else f"{card.parameters:,}",
        "paid": UNDECLARED if card.paid is None else "yes" if card.paid else "no",
        "source": card.source or UNDECLARED,
    }


def draw_details(details: Details) -> RenderableType:
    """Draw everything that `plugins NAME` shows."""
    plugin, facts = details.plugin, Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column()
    version = " ".join(filter(None, (plugin["distribution"], plugin["version"], plugin["commit"])))
    rows = {
        "input": details.modality or f"{details.takes} of its base models",
        "from": f"{version} (entry point {plugin['name']})",
        "requires": ", ".join(map(_describe_requirement, details.requirements)) or "nothing besides the harness",
        **describe_card(details.card),
    }
    for label, text in rows.items():
        facts.add_row(label, Text(text))
    title = Text(f"{details.name} ({details.kind})", style="bold")
    head: list[RenderableType] = [title, Text(details.summary), Text(), facts]
    if not details.options:
        return Group(*head, Text(), Text("no options"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("option", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=20)
    table.add_column("meaning")
    for option in details.options:
        table.add_row(Text(option.name, style="bold"), Text(_as_text(option.default)), _meaning(option, details))
    return Group(*head, table, Text(f"Set one with --set {details.name}.OPTION=VALUE.", style="dim"))


def _meaning(option: Option, details: Details) -> Text:
    words = Text(", ".join(option.choices) or option.type, style="dim")
    words.append(f"\n{option.meaning or 'not documented'}", style="not dim")
    if option.name in details.demo_options:
        words.append(f"\non the demo dataset: {_as_text(details.demo_options[option.name])}", style="dim")
    return words


def _describe_requirement(need: Requirement) -> str:
    if need.kind == "key":
        return f"key {need.name}"
    least, below = f" from {need.least}" * bool(need.least), f" below {need.below}" * bool(need.below)
    return f"{need.name}{least}{below}"


def _as_text(value: object) -> str:
    """Write a value as it is typed after `--set`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(_as_text, value))
    return "none" if value is None else str(value)

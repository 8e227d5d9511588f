"""Cards: declared by all bundled systems, true of the options, kept in the record, and no part of an identity."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.hookspecs import Card, Encoder, Fusion
from blemore_harness.options import build_options
from blemore_harness.record.types import CardFacts
from blemore_harness.systems.early_fusion import join_cards
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.resolved import find_systems, resolve_systems
from blemore_harness.systems.submission import from_plugins
from blemore_plugins.cards import CARDS
from toys import Noisy, offer, open_bench, system

BUNDLED = {
    name: offers[0].system
    for name, offers in load_plugins().offers.items()
    if type(offers[0].system).__module__.startswith("blemore_plugins")
}
ENCODERS = [name for name, system in BUNDLED.items() if isinstance(system, Encoder)]


def card_of(name: str, **given: object) -> Card:
    system = BUNDLED[name]
    options = build_options(name, system.Options, given)
    if isinstance(system, Encoder):
        options = system.resolve_options(options, frozenset())
    return system.card(options)


def test_all_bundled_systems_are_looked_at() -> None:
    assert len(ENCODERS) >= 22
    assert len(BUNDLED) - len(ENCODERS) >= 7


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("demo", [False, True])
def test_bundled_systems_declare_what_they_are(name: str, demo: bool) -> None:
    card = card_of(name, **(BUNDLED[name].demo_options if demo else {}))
    assert None not in (card.code_licence, card.weights_licence, card.pretraining, card.acted, card.paid)
    assert card.code_licence == "Apache-2.0"
    # Weights have a source, where it is known which they are; those that are not there have no data and no size.
    none = [card.weights_licence == "none", card.pretraining == "none", card.parameters == 0]
    assert all(none) or not any(none)
    assert all(none) or card.source
    assert (card.acted == "yes") == bool(card.acted_corpora)


@pytest.mark.parametrize("name", [name for name in ENCODERS if BUNDLED[name].demo_options])
def test_small_random_networks_have_no_weights(name: str) -> None:
    assert card_of(name, **BUNDLED[name].demo_options).parameters == 0


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("audio", {"model": "somebody/whisper-small"}),
        ("wav2vec2", {"model": "somebody/finetuned-on-crema-d"}),
        ("s4d", {"weights": "folder/checkpoint-best.pth"}),
        ("hicmae", {"weights": "crema-d-fold1.pth", "source": "media"}),
        ("clip", {"model": "somebody/clip", "source": "media"}),
        ("videomae", {"model": "somebody/videomae"}),
    ],
)
def test_of_other_weights_all_is_unknown(name: str, given: dict[str, object]) -> None:
    card = card_of(name, **given)
    assert (card.weights_licence, card.pretraining, card.acted) == ("unknown",) * 3
    assert (card.parameters, card.source) == (None, None)


def test_cards_follow_options() -> None:
    assert card_of("gemini").paid is True
    assert card_of("gemini", service="stand-in").paid is False
    assert card_of("wav2vec2-finetuned").parameters == 94_371_712
    assert card_of("dinov2", source="media").parameters == 86_580_480
    assert card_of("dinov2", source="released").parameters is None  # of which size they are is not published
    assert card_of("videoswin", source="media").acted == "no"
    assert card_of("videoswin", source="released").acted == "unknown"


@pytest.mark.encoders
@pytest.mark.parametrize("checkpoint", ["facebook/wav2vec2-large", "facebook/wav2vec2-base"])
def test_sizes_are_those_of_the_networks(checkpoint: str) -> None:
    import torch
    import transformers

    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    config = transformers.Wav2Vec2Config(**(large if checkpoint.endswith("large") else {}))
    with torch.device("meta"):
        network = transformers.Wav2Vec2Model(config)
    assert sum(weight.numel() for weight in network.parameters()) == CARDS[checkpoint].parameters


def test_the_record_has_the_fields_of_a_card() -> None:
    declared, recorded = ({f.name: f.type for f in dataclasses.fields(kind)} for kind in (Card, CardFacts))
    assert declared == recorded


@pytest.mark.parametrize(
    "wrong",
    [{"code_licence": 3}, {"pretraining": " "}, {"acted": "maybe"}, {"parameters": -1}, {"parameters": 1.5},
     {"paid": "no"}, {"acted_corpora": ("",)}],
)  # fmt: skip
def test_a_card_of_wrong_values_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"card's texts|acted|parameters"):
        Card(**wrong)


def test_cards_of_an_early_fusion_add_up() -> None:
    one = Card("MIT", "none", "none", "no", (), 0, False, "a")
    two = Card("MIT", "CC0", "CREMA-D", "yes", ("CREMA-D",), 5, True, "b")
    assert join_cards([one, two]) == Card("MIT", "none; CC0", "none; CREMA-D", "yes", ("CREMA-D",), 5, True, "a; b")
    unknown = join_cards([one, dataclasses.replace(one, acted="unknown"), Card()])
    assert unknown == Card()
    assert join_cards([one, dataclasses.replace(one, acted="unknown")]).acted == "unknown"


class Carded(Noisy):
    """An encoder with a card."""

    given: Any = Card(code_licence="MIT", acted="yes", acted_corpora=("CREMA-D",), parameters=7)

    def card(self, options: Any) -> Card:
        return self.given  # type: ignore[no-any-return]


def test_the_record_holds_cards(tmp_path: Path) -> None:
    plugins, _ = offer(Carded("one"), Noisy("two"))
    record, _ = open_bench(tmp_path, 6, 2).run(plugins, from_plugins(["one,two"], "late"))
    card = system(record, "one")["card"]
    assert (card["code_licence"], card["acted_corpora"], card["parameters"]) == ("MIT", ["CREMA-D"], 7)
    assert system(record, "two")["card"] == {**dict.fromkeys(card), "acted_corpora": []}
    assert system(record, "late")["card"]["weights_licence"] == "none"


def test_a_card_changes_no_identity_and_what_is_none_is_the_plugins_failure() -> None:
    encoder = Carded("one")
    found = find_systems(from_plugins(["one"]), offer(encoder)[0], demo=False)
    (plain,) = resolve_systems(found, None)
    encoder.given = Card(source="elsewhere")
    (carded,) = resolve_systems(found, None)
    assert (plain.card.source, carded.card.source, plain.digest) == (None, "elsewhere", carded.digest)
    encoder.given = "MIT"
    (wrong,) = resolve_systems(found, None)
    assert "'MIT'" in str(wrong.trouble)


def test_by_default_nothing_is_declared() -> None:
    assert Noisy("one").card(None) == Fusion().card(None) == Card()

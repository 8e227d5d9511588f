"""The named worlds that methods are compared in: how probabilities or embeddings of simulated encoders come about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from blemore_harness.errors import UnknownName
from blemore_harness.options import build_options
from blemore_lab.embeddings import EmbeddingSetting
from blemore_lab.encoders import DEFAULT_ENCODERS, Setting, check_encoders

TWELVE = (
    "s4d", "gemini", "videomae", "wav2vec2", "timesformer", "hicmae", "imagebind", "videomaev2", "clip", "wavlm",
    "hubert", "openface",
)  # fmt: skip


FOUR = ("wav2vec2", "videomae", "hubert", "clip")


@dataclass(frozen=True)
class World:
    """A setting under a name.

    Attributes:
        name: what users type after `--world`.
        summary: what is special about it, in a few words.
        setting: its parameters; the class says whether probabilities are drawn or heads are trained on embeddings.
        encoders: whose published accuracies are simulated.
    """

    name: str
    summary: str
    setting: Setting | EmbeddingSetting
    encoders: tuple[str, ...] = DEFAULT_ENCODERS

    def __post_init__(self) -> None:
        check_encoders(self.encoders)


WORLDS: Mapping[str, World] = MappingProxyType(
    {
        world.name: world
        for world in (
            World("logits", "probabilities are drawn: logits with normal errors; no head is trained", Setting()),
            World("embeddings", "heads trained on simulated embeddings of five encoders", EmbeddingSetting()),
            World(
                "weak", "four weak encoders", EmbeddingSetting(level=0.8), ("wav2vec2", "videomae", "hubert", "clip")
            ),
            World("styles", "actors show emotions in very different ways", EmbeddingSetting(style=1.0, emphasis=0.8)),
            World("identity", "embeddings show the actor more than the emotion", EmbeddingSetting(identity=3.0)),
            World("twins", "twelve encoders that err alike", EmbeddingSetting(alike=0.85), TWELVE),
            World("pair", "two unlike encoders", EmbeddingSetting(alike=0.2), ("s4d", "wav2vec2")),
        )
    }
)
"""Every world by name."""


def find_worlds(names: str, parameters: Mapping[str, object], encoders: tuple[str, ...] | None) -> tuple[World, ...]:
    """Look up worlds, with parameters and encoders other than their own where given.

    Args:
        names: separated by commas, or `all`.
        parameters: values by field of the setting, as users write them.
        encoders: in place of every world's own.

    Raises:
        UnknownName: a world, a parameter or an encoder that there is not.
        InvalidOption: a parameter outside its range.
    """
    listed = tuple(WORLDS) if names == "all" else tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    found = []
    for name in listed:
        if name not in WORLDS:
            raise UnknownName.among("world", name, [*WORLDS, "all"])
        world = WORLDS[name]
        setting: Any = world.setting
        if parameters:
            own = {field: getattr(setting, field) for field in setting.__dataclass_fields__}
            setting = build_options("world", type(setting), {**own, **parameters})
        found.append(replace(world, setting=setting, encoders=encoders or world.encoders))
    return tuple(found)

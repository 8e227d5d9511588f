"""A system made ready to run in two steps: found by name with its options, then resolved for a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.disk import digest_of, split_seed
from blemore_harness.errors import ConfigError, first_and_count
from blemore_harness.hookspecs import Card, Encoder, Fusion, NoOptions
from blemore_harness.options import build_options, describe_options, identify_options
from blemore_harness.protocol.rules import PROTOCOL_VERSION
from blemore_harness.systems.core_code import digest_core
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.early_fusion import PLUS, EarlyFusion, Part
from blemore_harness.systems.failures import Crash, blaming
from blemore_harness.systems.plugins import Offer, Plugins
from blemore_harness.systems.submission import Submission, plain_name

RESOLVING = "options"
"""What is done, in messages, while a system is asked about itself.

`resolve_options`, `feature_sets`, `identify`, `caveat`.
"""

IDENTITY_SCHEME = 3
"""Raised whenever what goes into an identity changes, so that old results are never taken for new ones."""


@dataclass(frozen=True)
class FoundSystem:
    """A system that was found by its name and its options read; no dataset has been looked at.

    Attributes:
        name: as the user wrote it.
        offer: the encoder or fusion, and who offers it.
        options: its Options as the user (or the demo) set them.
        given: the same as written.
        seed: base seed.
        base_models: the encoders of a fusion; empty for an encoder.
        parts: the encoders of an early fusion; empty for others.
        trouble: what its own code raised meanwhile, so that it can only be reported as failed; else None.
    """

    name: str
    offer: Offer
    options: Any
    given: dict[str, object]
    seed: int
    base_models: tuple[FoundSystem, ...] = ()
    parts: tuple[FoundSystem, ...] = ()
    trouble: Crash | None = None


@dataclass(frozen=True)
class ResolvedSystem:
    """A system with everything that can change its numbers.

    Attributes:
        name: as the user wrote it: a system's, a variant's (`wavlm@quick`), or an early fusion's (`imagebind+wavlm`).
        system: the encoder or fusion itself.
        plugin, distribution: who offered it.
        options: its Options.
        given: what the user (or the demo) set, as written.
        seed: base seed; a fold's seed is derived from it, the name and the fold.
        base_models: the encoders of a fusion; empty for an encoder.
        parts: the encoders of an early fusion; empty for others.
        identity: JSON-able facts; their digest names the folder of its results.
        covers: digest of the test clips and of what is read of them: a final fit is for these, folds know nothing of
            them.
        caveat: words that every table shows beside its numbers, or None.
        card: what its author declares about it; no part of the identity.
        trouble: what its own code raised while it was resolved, so that it can only be reported as failed; else None.
        is_trained: whether it needs training clips.
    """

    name: str
    system: Encoder | Fusion
    plugin: str
    distribution: Distribution
    options: Any
    given: dict[str, object]
    seed: int
    base_models: tuple[ResolvedSystem, ...]
    parts: tuple[ResolvedSystem, ...]
    identity: dict[str, object]
    covers: str
    caveat: str | None
    card: Card
    trouble: Crash | None = None
    is_trained: bool = True

    @property
    def digest(self) -> str:
        """Hex digest of the identity."""
        return digest_of(self.identity)

    @property
    def modality(self) -> str:
        """What it looks at or listens to; empty for a fusion."""
        return self.system.modality if isinstance(self.system, Encoder) else ""

    @property
    def has_embeddings(self) -> bool:
        """Whether it is an encoder that defines `embed`."""
        return gives_embeddings(self.system)

    def fold_seed(self, fold: int | None) -> int:
        """Return the seed of one fold: independent of the order in which folds are run."""
        return int(digest_of([self.seed, split_seed(self.name)[0], fold])[:8], 16)

    def describe(self) -> dict[str, object]:
        """Return what the record says about it."""
        return {
            "name": self.name,
            "kind": "encoder" if isinstance(self.system, Encoder) else "fusion",
            "modality": self.modality,
            "plugin": {"name": self.plugin, **self.distribution.describe()},
            "digest": self.digest,
            "options": describe_options(self.options),
            "options_given": self.given,
            "base_models": [base_model.name for base_model in self.base_models],
            "parts": [part.describe() for part in self.parts],
            "caveat": self.caveat,
            "card": asdict(self.card),
        }


def gives_embeddings(system: Encoder | Fusion) -> bool:
    """Return whether a system is an encoder that defines `embed`."""
    return isinstance(system, Encoder) and type(system).embed is not Encoder.embed


def gives_frames(system: Encoder | Fusion) -> bool:
    """Return whether a system is an encoder with frame-level features for a head that pools them."""
    return isinstance(system, Encoder) and (
        type(system).frame_features is not Encoder.frame_features
        or type(system).frame_source is not Encoder.frame_source
    )


def find_systems(submission: Submission, plugins: Plugins, demo: bool) -> tuple[FoundSystem, ...]:
    """Find the encoders of a submission and, last, its fusion if it has one, and read their options.

    Args:
        submission: which systems, with which options.
        plugins: where they are looked up.
        demo: whether the dataset is the generated one, where a system's demo options are its defaults.

    A system whose own code raises anything but `ConfigError` meanwhile is given with its `trouble`.

    Raises:
        ConfigError: an unknown name or option, or a value that it cannot have.
    """
    encoders = tuple(_find_encoder(name, submission, plugins, demo) for name in submission.encoders)
    if submission.fusion is None:
        return encoders
    offer = plugins.fusion(plain_name(submission.fusion))
    if offer.system.takes == "embeddings":  # type: ignore[union-attr]
        without = [encoder.name for encoder in encoders if not gives_embeddings(encoder.offer.system)]
        if without:
            raise ConfigError(
                f"'{submission.fusion}' fuses embeddings, and {first_and_count(without, 'base model')} gives none: "
                "leave it out, or fuse probabilities, as `late` does"
            )
    return (*encoders, _find(submission.fusion, offer, submission, demo, base_models=encoders))


def _find_encoder(name: str, submission: Submission, plugins: Plugins, demo: bool) -> FoundSystem:
    """Find an encoder, or an early fusion of several: `wavlm`, `wavlm@quick`, `imagebind+wavlm`."""
    found = _find_named_encoder(name, submission, plugins, demo)
    if getattr(found.options, "queries", 0) and not gives_frames(found.offer.system):
        able = sorted(each for each, offers in plugins.offers.items() if gives_frames(offers[0].system))
        raise ConfigError(
            f"{name}.queries: '{name}' has no frame-level features to attend to: set {name}.queries=0 or another head, "
            f"or use an encoder that has some ({', '.join(able)})"
        )
    return found


def _find_named_encoder(name: str, submission: Submission, plugins: Plugins, demo: bool) -> FoundSystem:
    names = name.split(PLUS)
    if len(names) == 1:
        return _find(name, plugins.encoder(plain_name(name)), submission, demo)
    parts = tuple(_find_encoder(part, submission, plugins, demo) for part in names)
    joined = _join([(part.name, part.offer.system, part.options) for part in parts])
    offer = Offer(joined, PLUS.join(part.offer.plugin for part in parts), parts[0].offer.distribution)
    return _find(name, offer, submission, demo, parts=parts)


def _find(
    name: str,
    offer: Offer,
    submission: Submission,
    demo: bool,
    *,
    base_models: tuple[FoundSystem, ...] = (),
    parts: tuple[FoundSystem, ...] = (),
) -> FoundSystem:
    plain, seed = split_seed(name)
    shared = submission.options.get(plain, {})
    given = {**(offer.system.demo_options if demo else {}), **shared, **submission.options.get(name, {})}
    options, trouble = None, next((part.trouble for part in parts if part.trouble is not None), None)
    if trouble is None:
        try:
            with _blaming(offer.system):
                options = build_options(name, offer.system.Options, given)
        except Crash as crash:
            trouble = crash
    return FoundSystem(
        name, offer, options, given, submission.seed if seed is None else seed, base_models, parts, trouble
    )


def resolve_systems(found: Sequence[FoundSystem], blinded: BlindedDataset | None) -> tuple[ResolvedSystem, ...]:
    """Resolve systems for a dataset: ask them what their options mean there, and fix their identities.

    Args:
        found: as of `find_systems`.
        blinded: the dataset; None gives identities of no dataset.

    A system whose own code raises anything but `ConfigError` meanwhile is given with its `trouble`.

    Raises:
        ConfigError: a value that an option cannot have, as the system's code says.
        DataError: released features that an encoder reads and the dataset lacks.
    """
    core = digest_core()
    resolved: list[ResolvedSystem] = []
    for each in found:
        resolved.append(_resolve(each, blinded, core, tuple(resolved) if each.base_models else ()))
    return tuple(resolved)


def _resolve(
    found: FoundSystem, blinded: BlindedDataset | None, core: str, base_models: tuple[ResolvedSystem, ...] = ()
) -> ResolvedSystem:
    parts = tuple(_resolve(part, blinded, core) for part in found.parts)
    system = _join([(p.name, p.system, p.options) for p in parts]) if parts else found.offer.system
    trouble = found.trouble or next((part.trouble for part in parts if part.trouble is not None), None)
    answers = _Answers()
    if trouble is None:
        try:
            with _blaming(system):
                answers = _ask(system, found.options, blinded)
        except Crash as crash:
            trouble = crash
    if trouble is None and answers.feature_sets and blinded and blinded.extra_digests:
        raise ConfigError(
            f"'{found.name}' reads released features, and clips of {', '.join(blinded.extra_digests)} have none: let "
            "it extract features from all clips, or leave out --extra-train"
        )
    read = {store: blinded.publish_feature_set(store) for store in answers.feature_sets} if blinded else {}
    identity: dict[str, object] = {
        "scheme": IDENTITY_SCHEME,
        "protocol": PROTOCOL_VERSION,
        "system": split_seed(found.name)[0],
        "options": answers.facts,
        "seed": found.seed,
        **found.offer.distribution.facts(),
        "core": core,
        "data": blinded.digest if blinded else "",
        "extra": dict(blinded.extra_digests) if blinded else {},
        "feature_sets": {store: digests.train for store, digests in read.items()},
        "base_models": [base_model.digest for base_model in base_models],
        "parts": [part.digest for part in parts],
    }
    tests = [
        blinded.test_digest if blinded else "",
        {store: digests.test for store, digests in read.items()},
        [each.covers for each in (*base_models, *parts)],
    ]
    return ResolvedSystem(
        found.name, system, found.offer.plugin, found.offer.distribution, answers.options, found.given, found.seed,
        base_models, parts, identity if trouble is None else {**identity, "failed": True}, digest_of(tests),
        answers.caveat, answers.card, trouble, answers.is_trained,
    )  # fmt: skip


def _join(parts: Sequence[tuple[str, Encoder | Fusion, Any]]) -> EarlyFusion:
    return EarlyFusion(tuple(Part(name, each, options) for name, each, options in parts if isinstance(each, Encoder)))


@contextmanager
def _blaming(system: Encoder | Fusion) -> Iterator[None]:
    """Turn what a system raises while it is asked about itself into a `Crash`, but for what is the user's to mend."""
    try:
        with blaming(system):
            yield
    except Crash as crash:
        if isinstance(crash.__cause__, ConfigError):
            raise crash.__cause__ from None
        raise


@dataclass(frozen=True)
class _Answers:
    """What a system says about itself before it is called for any clip."""

    options: Any = field(default_factory=NoOptions)
    feature_sets: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    caveat: str | None = None
    card: Card = field(default_factory=Card)
    is_trained: bool = True


def _ask(system: Encoder | Fusion, options: Any, blinded: BlindedDataset | None) -> _Answers:
    """Ask a system what follows from its options; what it raises passes."""
    feature_sets: tuple[str, ...] = ()
    is_trained = True
    if isinstance(system, Encoder):
        # Features that clips of other corpora lack cannot be an `auto`.
        offered = blinded.feature_sets if blinded and not blinded.extra_digests else frozenset()
        options = system.resolve_options(options, offered)
        feature_sets, is_trained = system.feature_sets(options), bool(system.is_trained(options))
    caveat, card = system.caveat(options), system.card(options)
    facts = {**identify_options(options), **system.identify(options)}
    json.dumps([facts, describe_options(options)])  # the identity and the record hold nothing but JSON types
    if not isinstance(feature_sets, tuple) or not isinstance(caveat, str | None):
        raise TypeError(
            f"expected a tuple of `feature_sets` and a text or None of `caveat`, found {feature_sets!r} and {caveat!r}"
        )
    if not isinstance(card, Card):
        raise TypeError(f"expected a Card of `card`, found {card!r}")
    return _Answers(options, feature_sets, facts, caveat, card, is_trained)

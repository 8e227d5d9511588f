"""A system made ready to run: its options resolved, its identity fixed, its mark known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.disk import digest_of
from blemore_harness.errors import ConfigError, first_and_count
from blemore_harness.hookspecs import Encoder, Fusion, NoOptions
from blemore_harness.options import build_options, describe_options, identify_options
from blemore_harness.protocol.rules import PROTOCOL_VERSION
from blemore_harness.systems.core_code import digest_core
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.early_fusion import JOINT, EarlyFusion, Part
from blemore_harness.systems.failures import Crash, blaming
from blemore_harness.systems.plugins import Offer, Plugins
from blemore_harness.systems.submission import Submission, plain_name

RESOLVING = "options"
"""What is done, in messages, while a system is asked about itself.

`resolve_options`, `feature_sets`, `identify`, `caveat`.
"""

IDENTITY_SCHEME = 2
"""Raised whenever what goes into an identity changes, so that old results are never taken for new ones."""


@dataclass(frozen=True)
class ResolvedSystem:
    """A system with everything that can change its numbers.

    Attributes:
        name: as the user wrote it: a system's, a variant's (`wavlm@quick`), or a joint's (`imagebind+wavlm`).
        system: the encoder or fusion itself.
        plugin, distribution: who offered it.
        options: its Options.
        given: what the user (or the demo) set, as written.
        seed: base seed; a fold's seed is derived from it, the name and the fold.
        base_models: the encoders of a fusion; empty for an encoder.
        parts: the encoders that an early fusion joins; empty for others.
        identity: JSON-able facts; their digest names the folder of its results.
        covers: digest of the test clips and of what is read of them: a final fit is for these, folds know nothing of
            them.
        caveat: words that every table shows beside its numbers, or None.
        trouble: what its own code raised while it was resolved, so that it can only be reported as failed; else None.
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
    trouble: Crash | None = None

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
        return isinstance(self.system, Encoder) and type(self.system).embed is not Encoder.embed

    def fold_seed(self, fold: int | None) -> int:
        """Return the seed of one fold: independent of the order in which folds are run."""
        return int(digest_of([self.seed, self.name, fold])[:8], 16)

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
        }


def resolve_systems(
    submission: Submission, plugins: Plugins, blinded: BlindedDataset | None, demo: bool
) -> tuple[ResolvedSystem, ...]:
    """Resolve the encoders of a submission and, last, its fusion if it has one.

    Args:
        submission: which systems, with which options.
        plugins: where they are looked up.
        view: the dataset; None only checks names and options, and gives identities of no dataset.
        demo: whether the dataset is the generated one, where a system's demo options are its defaults.

    A system whose own code raises anything but `ConfigError` meanwhile is given with its `trouble`.

    Raises:
        ConfigError: an unknown name or option, or a value that it cannot have, as the system's code may say as well.
        DataError: released features that an encoder reads and the dataset lacks.
    """
    core = digest_core()
    encoders = tuple(_resolve_encoder(name, submission, plugins, blinded, demo, core) for name in submission.encoders)
    if submission.fusion is None:
        return encoders
    offer = plugins.fusion(plain_name(submission.fusion))
    if offer.system.takes == "embeddings":  # type: ignore[union-attr]
        without = [encoder.name for encoder in encoders if not encoder.has_embeddings]
        if without:
            raise ConfigError(
                f"'{submission.fusion}' fuses embeddings, and {first_and_count(without, 'base model')} gives none: "
                "leave it out, or fuse probabilities, as `late` does"
            )
    return (*encoders, _resolve(submission.fusion, offer, submission, blinded, demo, core, base_models=encoders))


def _resolve_encoder(
    name: str, submission: Submission, plugins: Plugins, blinded: BlindedDataset | None, demo: bool, core: str
) -> ResolvedSystem:
    """Resolve an encoder, or the joint of several: `wavlm`, `wavlm@quick`, `imagebind+wavlm`."""
    names = name.split(JOINT)
    if len(names) == 1:
        return _resolve(name, plugins.encoder(plain_name(name)), submission, blinded, demo, core)
    parts = tuple(_resolve_encoder(part, submission, plugins, blinded, demo, core) for part in names)
    joint = EarlyFusion(tuple(Part(p.name, p.system, p.options) for p in parts if isinstance(p.system, Encoder)))
    offer = Offer(joint, JOINT.join(part.plugin for part in parts), parts[0].distribution)
    return _resolve(name, offer, submission, blinded, demo, core, parts=parts)


def _resolve(
    name: str,
    offer: Offer,
    submission: Submission,
    blinded: BlindedDataset | None,
    demo: bool,
    core: str,
    *,
    base_models: tuple[ResolvedSystem, ...] = (),
    parts: tuple[ResolvedSystem, ...] = (),
) -> ResolvedSystem:
    system = offer.system
    given = {**(system.demo_options if demo else {}), **submission.options.get(name, {})}
    trouble = next((part.trouble for part in parts if part.trouble is not None), None)
    answers = _Answers()
    if trouble is None:
        try:
            with blaming(system):
                answers = _ask(name, system, given, blinded)
        except Crash as crash:
            if isinstance(crash.__cause__, ConfigError):
                raise crash.__cause__ from None
            trouble = crash
    read = {store: blinded.publish_feature_set(store) for store in answers.feature_sets} if blinded else {}
    identity: dict[str, object] = {
        "scheme": IDENTITY_SCHEME,
        "protocol": PROTOCOL_VERSION,
        "system": name,
        "options": answers.facts,
        "seed": submission.seed,
        **offer.distribution.facts(),
        "core": core,
        "data": blinded.digest if blinded else "",
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
        name, system, offer.plugin, offer.distribution, answers.options, dict(given), submission.seed,
        base_models, parts, identity if trouble is None else {**identity, "failed": True}, digest_of(tests),
        answers.caveat, trouble,
    )  # fmt: skip


@dataclass(frozen=True)
class _Answers:
    """What a system says about itself before it is called for any clip."""

    options: Any = field(default_factory=NoOptions)
    feature_sets: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    caveat: str | None = None


def _ask(name: str, system: Encoder | Fusion, given: dict[str, object], blinded: BlindedDataset | None) -> _Answers:
    """Build the options of a system and ask what follows from them; what it raises passes."""
    options = build_options(name, system.Options, given)
    feature_sets: tuple[str, ...] = ()
    if isinstance(system, Encoder):
        options = system.resolve_options(options, blinded.feature_sets if blinded else frozenset())
        feature_sets = system.feature_sets(options)
    caveat = system.caveat(options)
    facts = {**identify_options(options), **system.identify(options)}
    json.dumps([facts, describe_options(options)])  # the identity and the record hold nothing but JSON types
    if not isinstance(feature_sets, tuple) or not isinstance(caveat, str | None):
        raise TypeError(
            f"expected a tuple of `feature_sets` and a text or None of `caveat`, found {feature_sets!r} and {caveat!r}"
        )
    return _Answers(options, feature_sets, facts, caveat)

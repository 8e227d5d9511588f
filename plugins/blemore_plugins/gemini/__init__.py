"""Gemini Embedding 2: one 3,072-d embedding per clip from a remote service, with a classification head.

See docs/how-to/gemini.md for what is sent, what it costs, and what that means for the people in the videos.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clips
from blemore_harness.context import Context
from blemore_harness.errors import ExtraMissing
from blemore_harness.hookspecs import Encoder, Modality, Requirement, hookimpl
from blemore_harness.media.audio import warn_of_silence
from blemore_harness.predictions import Embeddings
from blemore_plugins.gemini.client import GOOGLE, KEY_NAMES, find_address, find_key, open_client
from blemore_plugins.gemini.extraction import Item, extract, list_items
from blemore_plugins.gemini.options import VECTOR_SIZE, GeminiOptions
from blemore_plugins.hosted.encoder import HostedEncoder
from blemore_plugins.hosted.endpoints import Endpoint, demand_consent
from blemore_plugins.hosted.extraction import alone, read_dates, report
from blemore_plugins.requirements import need

STAND_IN = "stand-in 1"
"""Name of the stand-in in cache keys; a new number for every change of what it computes."""

ADVICE = "Try another window (gemini.start, gemini.seconds), or use zeros for these clips: gemini.refused=zero"
"""About clips that the service refuses."""

UNPAID = (
    "Use a key of a project with billing: data sent to the unpaid tier may be used to improve products and be read by "
    "human reviewers (docs/how-to/gemini.md)"
)
"""What to know before consent is given."""


class GeminiEncoder(HostedEncoder):
    """Embeddings of Gemini Embedding 2 with the harness's classification head."""

    name: ClassVar[str] = "gemini"
    summary: ClassVar[str] = "Gemini Embedding 2 through google-genai: first 2 s by default, MLP head (paid, consent)"
    # The service ignores audio tracks: without the option gemini.audio the embedding covers the video only.
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = GeminiOptions
    documentation: ClassVar[str] = "ai.google.dev/gemini-api/docs/embeddings"

    def requirements(self, options: GeminiOptions) -> tuple[Requirement, ...]:
        """Return the package, and the keys of the service, of which one is enough."""
        keys = KEY_NAMES if options.service == "google" else ()
        return (*need("google-genai"), *(Requirement(name, "key") for name in keys))

    def prepare(self, clips: Clips, options: GeminiOptions, context: Context) -> None:
        """Request the missing embeddings; if none is missing, neither key nor consent nor network is needed.

        Raises:
            ConfigError: no consent, or no key.
            ExtraMissing: google-genai or PyAV is not installed.
            ServiceError, MediaError: see `hosted.extraction.report`.
        """
        if not clips:
            with self._endpoint(options):  # checks consent and key before anything else
                return
        feature_sets = self._stores(options, context)
        folders, service = [store.folder for store in feature_sets], self._service(options)
        wanted = list_items(clips, feature_sets, options, context.cache)
        if _missing(wanted, options):
            with self._endpoint(options) as endpoint, alone(folders, service, context):
                items = _missing(wanted, options)
                with open_client(endpoint, options) as client:
                    tally = extract(items, client, self._pace(context), options, service, context)
            replacement = "an embedding of zeros" if options.refused == "zero" else ""
            report(tally, service, context, replacement, ADVICE)
        context.note("model", options.model)
        context.note("embeddings made", read_dates(folders, clips))
        if any(kind != "video" for kind in options.inputs):
            warn_of_silence(clips, context)
        zeros = [items[0].clip.id for items in zip(*wanted, strict=True) if any(item.refused for item in items)]
        if zeros and options.refused == "zero":
            context.note("embeddings of zeros", zeros)

    def embed(self, clips: Clips, options: GeminiOptions, context: Context) -> Embeddings:
        """Read the embeddings from the cache: float32 (N, dimensions), twice as wide with `audio=separate`."""
        feature_sets = self._stores(options, context)
        wanted = zip(*list_items(clips, feature_sets, options, context.cache), strict=True)
        rows = [[_shorten(_load(item, options), options.dimensions) for item in items] for items in wanted]
        width = options.dimensions * len(feature_sets)
        values = np.array(rows, dtype=np.float32).reshape(len(clips), width)
        return Embeddings(clips.ids, values)

    def _stores(self, options: GeminiOptions, context: Context) -> tuple[Store, ...]:
        """Return the cache stores of a clip's embeddings, in the order of `options.inputs`."""
        origin = STAND_IN
        if options.service == "google":
            address = find_address(options)
            origin = "google" if address == GOOGLE else address
        return tuple(context.cache.store("gemini", **options.facts(kind, origin)) for kind in options.inputs)

    @contextlib.contextmanager
    def _endpoint(self, options: GeminiOptions) -> Iterator[Endpoint]:
        """Return the endpoint after checking consent and key; a stand-in server runs as long as the context."""
        try:
            import av  # noqa: F401  # missing it is better said before a key is asked for
        except ImportError as error:
            raise ExtraMissing('gemini needs PyAV to cut clips: pip install "blemore-harness[encoders]"') from error
        if options.service == "stand-in":
            from blemore_plugins.gemini.standin import serve

            with serve() as endpoint:
                yield endpoint
            return
        demand_consent(self.name, options.consent, "Google", UNPAID)
        yield Endpoint(find_address(options), find_key())


def _missing(wanted: Sequence[Sequence[Item]], options: GeminiOptions) -> list[Item]:
    """Return the missing embeddings, one per content and input.

    With `refused=zero`, clips that were refused before are left out.
    """
    return [
        item
        for items in wanted
        for item in {item.clip.content: item for item in items if not item.made}.values()
        if not (options.refused == "zero" and item.refused)
    ]


def _load(item: Item, options: GeminiOptions) -> NDArray[np.float32]:
    if options.refused == "zero" and not item.made and item.refused:
        return np.zeros(VECTOR_SIZE, np.float32)
    return np.asarray(item.store.load(item.clip, item.part), dtype=np.float32)


def _shorten(vector: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Return the first `dimensions` values, normalised to length 1, as the service does for smaller sizes."""
    prefix = vector[:dimensions]
    length = np.linalg.norm(prefix)
    return np.asarray(prefix / length if length else prefix, dtype=np.float32)


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `gemini`."""
    return [GeminiEncoder()]

"""Amazon Nova Multimodal Embeddings: one embedding per clip, audio and video fused, with a classification head.

See docs/how-to/nova.md for what is sent, what it costs, and what could not be verified.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import ExtraMissing
from blemore_harness.hookspecs import Encoder, Modality, Requirement, hookimpl
from blemore_harness.media.audio import audio_key, warn_of_silence
from blemore_harness.predictions import Embeddings
from blemore_plugins.gemini.clipping import Window
from blemore_plugins.hosted.budget import Budget, dollars
from blemore_plugins.hosted.encoder import HostedEncoder
from blemore_plugins.hosted.endpoints import Endpoint, demand_consent, is_loopback
from blemore_plugins.hosted.extraction import Service, alone, note_call, read_calls, read_dates, report, work
from blemore_plugins.hosted.pace import insist
from blemore_plugins.nova.client import KEY_NAMES, Client, open_client
from blemore_plugins.nova.clipping import cut_clip
from blemore_plugins.nova.options import NovaOptions
from blemore_plugins.requirements import need

STAND_IN = "stand-in 1"
"""Name of the stand-in in cache keys; a new number for every change of what it computes."""

REFUSED = "refused"
"""Cache entry of a clip that the service refused."""

ADVICE = "Try another window (nova.start, nova.seconds), or use zeros for these clips: nova.refused=zero"
"""About clips that the service refuses."""


@dataclass(frozen=True)
class Wanted:
    """A clip whose embedding is missing."""

    clip: Clip


class NovaEncoder(HostedEncoder):
    """Embeddings of Amazon Nova with the harness's classification head."""

    name: ClassVar[str] = "nova"
    summary: ClassVar[str] = "Amazon Nova embeddings through boto3: audio and video fused, MLP head (paid, consent)"
    modality: ClassVar[Modality] = "audiovisual"
    Options: ClassVar[type[Any]] = NovaOptions
    documentation: ClassVar[str] = "docs.aws.amazon.com/nova/latest/userguide/nova-embeddings.html"

    def requirements(self, options: NovaOptions) -> tuple[Requirement, ...]:
        """Return the package, and the variables of credentials, of which one is enough."""
        keys = KEY_NAMES if options.service == "bedrock" else ()
        return (*need("boto3"), *(Requirement(name, "key") for name in keys))

    def prepare(self, clips: Clips, options: NovaOptions, context: Context) -> None:
        """Request the missing embeddings; if none is missing, neither credentials nor consent nor network is needed.

        Raises:
            ConfigError: no consent, or no credentials.
            ExtraMissing: boto3 or PyAV is not installed.
            ServiceError, MediaError: see `hosted.extraction.report`.
        """
        store = self._store(options, context)
        if not clips:
            with self._client(options):  # checks consent and credentials before anything else
                return
        if _missing(store, clips, options):
            service = self._service(options)
            with self._client(options) as client, alone([store.folder], service, context):
                self._extract(client, store, clips, options, context, service)
        calls = [call for call in read_calls(store.folder) if call["content"] in {clip.content for clip in clips}]
        seconds = sum(call["seconds"] for call in calls)
        context.note("model", options.model)
        context.note("embeddings made", read_dates([store.folder], clips))
        context.note("seconds sent", round(seconds, 3))
        if options.price:
            context.note("cost in US dollars", round(seconds * options.price, 6))
        if options.audio:
            warn_of_silence(clips, context)
        zeros = [clip.id for clip in clips if not store.has(clip) and store.has(clip, REFUSED)]
        if zeros:
            context.note("embeddings of zeros", zeros)

    def embed(self, clips: Clips, options: NovaOptions, context: Context) -> Embeddings:
        """Read the embeddings from the cache: float32 (N, dimensions)."""
        store = self._store(options, context)
        zeros = np.zeros(options.dimensions, np.float32)
        replaced = [options.refused == "zero" and not store.has(clip) and store.has(clip, REFUSED) for clip in clips]
        rows = [zeros if zero else store.load(clip) for clip, zero in zip(clips, replaced, strict=True)]
        return Embeddings(clips.ids, np.array(rows, dtype=np.float32).reshape(len(clips), options.dimensions))

    def _extract(
        self, client: Client, store: Store, clips: Clips, options: NovaOptions, context: Context, service: Service
    ) -> None:
        """Request and keep what is missing, and report what stays so."""
        items, calls = _missing(store, clips, options), read_calls(store.folder)
        spent = sum(call["seconds"] for call in calls) * options.price
        budget = Budget("nova.budget", options.budget, spent, dollars)
        pace = self._pace(context)

        def get(item: Wanted) -> None:
            window = Window(options.start, options.seconds)
            data, seconds = cut_clip(item.clip, window, options.audio, context.cache)
            cost = seconds * options.price

            def pay() -> Any:
                with budget.reserve(cost) as book:
                    vector = client.ask(data)
                    book(cost)
                    return vector

            store.save(item.clip, insist(pay, pace, options.attempts))
            note_call(store.folder, item.clip, seconds=round(seconds, 3))

        tally = work(items, get, pace, service, bool(calls), context)
        for item in items:
            if item.clip.id in tally.refused and (calls or tally.made):
                store.save(item.clip, np.zeros(0, np.float32), REFUSED)
        report(tally, service, context, "an embedding of zeros" if options.refused == "zero" else "", ADVICE)

    def _store(self, options: NovaOptions, context: Context) -> Store:
        """Return the cache store of the embeddings; another address is another store, another region is not."""
        origin = STAND_IN if options.service == "stand-in" else options.endpoint_url.rstrip("/") or "bedrock"
        return context.cache.store("nova", **options.facts(origin, audio_key()["version"]))

    @contextlib.contextmanager
    def _client(self, options: NovaOptions) -> Iterator[Client]:
        """Return a client after checking consent and credentials; a stand-in server runs within the context."""
        try:
            import av  # noqa: F401  # missing it is better said before credentials are asked for
        except ImportError as error:
            raise ExtraMissing('nova needs PyAV to cut clips: pip install "blemore-harness[nova]"') from error
        if options.service == "stand-in":
            from blemore_plugins.nova.standin import serve

            with serve() as endpoint:
                yield open_client(endpoint, options)
            return
        address = options.endpoint_url.rstrip("/")
        if not is_loopback(address):
            demand_consent(self.name, options.consent, f"Amazon Bedrock in {options.region}", "See docs/how-to/nova.md")
        yield open_client(Endpoint(address, ""), options)


def _missing(store: Store, clips: Clips, options: NovaOptions) -> list[Wanted]:
    """Return the clips to request, one per content; with `refused=zero` without those that were refused before."""
    missing = store.missing(clips)
    return [Wanted(clip) for clip in missing if not (options.refused == "zero" and store.has(clip, REFUSED))]


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `nova`."""
    return [NovaEncoder()]

"""The embeddings of a run: requests the missing ones, several at a time, and stores each as soon as it arrives.

Embeddings that were paid for are kept: an interrupted extraction continues where it stopped.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import MediaError, ServiceError, first_and_count
from blemore_harness.media.audio import audio_key
from blemore_plugins.gemini.client import Material, Pace
from blemore_plugins.gemini.clipping import Window, cut_sound, cut_video, find_rule
from blemore_plugins.gemini.options import CUT_RULE, GeminiOptions, Input
from blemore_plugins.gemini.refusals import Refusal

REFUSED = "refused"
"""Cache entry of a clip that the service refused."""


@dataclass(frozen=True)
class Item:
    """One embedding of a clip, from its video or audio, in a cache store.

    If a later rule cuts other bytes of the clip, it is stored under a separate entry.
    """

    clip: Clip
    kind: Input
    store: Store
    part: str = ""

    @property
    def made(self) -> bool:
        """Whether the embedding is stored."""
        return self.store.has(self.clip, self.part)

    @property
    def refused(self) -> bool:
        """Whether the service refused the clip."""
        return self.store.has(self.clip, REFUSED + self.part)


def list_items(
    clips: Iterable[Clip], feature_sets: Sequence[Store], options: GeminiOptions, cache: Cache
) -> list[list[Item]]:
    """Return the embeddings of clips: one per clip for each input of `options`, which has its own store.

    The rule by which a clip is cut is determined once and stored.
    """
    everything, window, found = list(clips), Window(options.start, options.seconds), []
    for kind, store in zip(options.inputs, feature_sets, strict=True):
        facts = {"rule": CUT_RULE, "kind": kind, "start": window.start, "seconds": window.seconds}
        rules = cache.store("gemini-rules", **facts, **audio_key())
        for clip in rules.missing(everything):
            rules.save(clip, np.array(find_rule(clip, kind, window, cache)))
        parts = ["-rule2" if rules.load(clip) == CUT_RULE else "" for clip in everything]
        found.append([Item(clip, kind, store, part) for clip, part in zip(everything, parts, strict=True)])
    return found


FRUITLESS = 5
"""Number of successive clips without an embedding after which the service is considered the cause."""

CALLS_FILE = "calls.jsonl"
"""File next to the embeddings with the time of each, because a service may change under one model id."""


class Asking(Protocol):
    """The part of `client.Client` that an extraction needs."""

    def ask(self, material: Material) -> NDArray[np.float32]:
        """Return the embedding of one content, or raise `Refusal`."""


@dataclass
class Tally:
    """The results of one extraction; reasons by clip id.

    Attributes:
        made: number of new embeddings.
        refused: clips that the service refused.
        broken: clips that cannot be cut.
        failed: clips without a usable answer.
        stopped: why the extraction ended early, empty if it did not.
        fruitless: number of clips without a usable answer since the last embedding.
    """

    made: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    fruitless: int = 0


def extract(items: Sequence[Item], client: Asking, pace: Pace, options: GeminiOptions, context: Context) -> Tally:
    """Request and store the embeddings of `items`; the tally lists the clips without one and the reasons.

    Items are sent in order. When it stops, also by Ctrl-C, pending requests are completed and stored: they are paid.
    """
    tally = Tally()
    proven = any((item.store.folder / CALLS_FILE).exists() for item in items)
    with (
        concurrent.futures.ThreadPoolExecutor(options.workers, thread_name_prefix="gemini") as pool,
        context.progress("gemini: embeddings", len(items)) as bar,
    ):
        running = [pool.submit(_get, item, client, pace, options, context.cache) for item in items]
        try:
            for done in concurrent.futures.as_completed(running):
                _count(done.result(), tally, proven)
                bar.advance()
                if tally.stopped:
                    pace.stop()
        except BaseException:
            pace.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if proven or tally.made:
        for item in items:
            if item.clip.id in tally.refused:
                item.store.save(item.clip, np.zeros(0, np.float32), REFUSED + item.part)
    return tally


def report(tally: Tally, options: GeminiOptions, context: Context) -> None:
    """Raise if embeddings are missing, with the number of stored ones and how to continue.

    Raises:
        ServiceError: the service stopped the extraction, or gave no usable answer for some clips.
        MediaError: clips that cannot be cut, or that the service refused while `options.refused` is `stop`.
    """
    kept = (
        f"{tally.made} new embeddings are kept, run the same command again to continue"
        if tally.made
        else "nothing is lost"
    )
    if tally.stopped:
        raise ServiceError(f"{tally.stopped} ({kept})")
    if tally.failed:
        named, _, reason = _first(tally.failed)
        raise ServiceError(f"no usable answer for {named}: {reason} (all others are done; {kept})")
    if tally.broken:
        named, clip, reason = _first(tally.broken)
        raise MediaError(f"cannot send {named}: {reason} (all others are done and kept)", clip)
    if tally.refused:
        named, clip, reason = _first(tally.refused)
        if options.refused == "zero":
            context.warn(f"gemini: {named} refused by the service, replaced by an embedding of zeros: {reason}")
            return
        raise MediaError(
            f"the service refuses {named}: {reason}. All others are done and kept. Try another window "
            "(gemini.start, gemini.seconds), or use zeros for these clips: gemini.refused=zero",
            clip,
        )


def _first(reasons: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the first clip and their number as text; its id; its reason."""
    clip = min(reasons)
    return first_and_count(sorted(reasons), "clip"), clip, reasons[clip]


@contextlib.contextmanager
def alone(feature_sets: Sequence[Store], context: Context) -> Iterator[None]:
    """Lock these stores for one process at a time, so that no clip is paid for twice."""
    with contextlib.ExitStack() as stack:
        for store in feature_sets:
            store.folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((store.folder / ".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                context.log("gemini: another process extracts the same embeddings, waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Outcome:
    """The result of one item; an empty verdict means that it was not started."""

    item: Item
    verdict: str
    reason: str = ""


def _get(item: Item, client: Asking, pace: Pace, options: GeminiOptions, cache: Cache) -> Outcome:
    """Cut a clip, request its embedding until there is an answer, and store it. Runs in a worker thread."""
    if pace.stopped:
        return Outcome(item, "")
    try:
        material = _cut(item, Window(options.start, options.seconds), cache)
    except MediaError as error:
        return Outcome(item, "broken", str(error))
    for attempt in range(1, options.attempts + 1):
        pace.wait_for_turn()
        if pace.stopped:
            return Outcome(item, "")
        try:
            vector = client.ask(material)
        except Refusal as refusal:
            if refusal.verdict == "stop":
                pace.stop()
            if refusal.verdict != "retry":
                return Outcome(item, refusal.verdict, refusal.reason)
            if attempt == options.attempts:
                return Outcome(item, "failed", f"{refusal.reason}; gave up after {attempt} attempts")
            pace.back_off(attempt, refusal.delay, refusal.reason)
        else:
            item.store.save(item.clip, vector, item.part)
            _note_call(item)
            return Outcome(item, "made")
    raise AssertionError("every attempt returns")


def _cut(item: Item, window: Window, cache: Cache) -> Material:
    return Material(
        video=None if item.kind == "sound" else cut_video(item.clip, window),
        sound=None if item.kind == "video" else cut_sound(item.clip, window, cache),
    )


def _note_call(item: Item) -> None:
    """Append a line about an embedding in a single write, which is atomic among threads and processes."""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = json.dumps({"content": item.clip.content, "made": when}) + "\n"
    with (item.store.folder / CALLS_FILE).open("a") as file:
        file.write(line)


def _count(outcome: Outcome, tally: Tally, proven: bool) -> None:
    """Add an outcome; stop if the service is the cause.

    As long as no request of this kind was answered, a refusal is attributed to the request and not to the clip.
    """
    name, reason = outcome.item.clip.id, outcome.reason
    if outcome.verdict == "made":
        tally.made += 1
        tally.fruitless = 0
    elif outcome.verdict == "stop":
        tally.stopped = tally.stopped or reason
    elif outcome.verdict == "broken":
        tally.broken[name] = reason
    elif outcome.verdict == "refused":
        tally.refused[name] = reason
        tally.fruitless += not (proven or tally.made)
    elif outcome.verdict == "failed":
        tally.failed[name] = reason
        tally.fruitless += 1
    if tally.fruitless >= FRUITLESS:
        tally.stopped = tally.stopped or f"no embedding for {tally.fruitless} clips in a row: {reason}"


def read_dates(feature_sets: Sequence[Store], clips: Clips) -> list[str]:
    """Return the first and the last time at which embeddings of these clips were made; empty if unknown."""
    wanted = {clip.content for clip in clips}
    made = []
    for store in feature_sets:
        calls = store.folder / CALLS_FILE
        lines = calls.read_text().splitlines() if calls.exists() else []
        made += [call["made"] for call in map(json.loads, lines) if call["content"] in wanted]
    return [min(made), max(made)] if made else []

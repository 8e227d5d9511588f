"""Audio of a clip, for encoder authors: decoded by PyAV, at its own times, and a warning where nothing can be heard.

A file that cannot be used is a `MediaError` that names the clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.errors import MediaError
from blemore_harness.media.audio_tracks import Wave, decode_audio
from blemore_harness.media.opening import CUT_SHARE, check_media, missing_extra

AUDIO_VERSION = 2
"""Counts changes of what is decoded; part of `audio_key`."""

RATE = 16_000
"""Samples per second, if nothing else is asked for: what speech encoders take."""

SILENT_SPREAD = 1e-3
"""Distance of the smallest and the largest sample (full scale: 2) up to which there is nothing to hear: -66 dB."""

CANCELLED_SHARE = 0.01
"""Share of the channels' power that is left in their mean where they cancel each other out."""

EDGE = 0.1
"""Seconds at either end that do not count for the spread: codecs and resamplers let a constant ring there."""

NAMED = 3
"""Clips that the warning names."""


@dataclass(frozen=True)
class AudioFacts:
    """What is known about the audio of a clip once it was decoded.

    Attributes:
        spread: distance of the smallest and the largest sample, without `EDGE` at either end.
        share: power of the mean of the channels, as a share of the channels' mean power.
        moved: seconds of silence put into gaps and of overlaps left out.
        track: which audio track of the file was decoded, from 0.
    """

    spread: float
    share: float
    moved: float
    track: int

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear: silence, a constant, or channels that cancel each other out."""
        return self.spread <= SILENT_SPREAD or self.share <= CANCELLED_SHARE


def audio_key() -> dict[str, object]:
    """Return what decoded audio depends on besides the file: a part of every cache key of arrays computed from it.

    Raises:
        ExtraMissing: PyAV is not installed.
    """
    try:
        return {"version": AUDIO_VERSION, "av": version("av")}
    except PackageNotFoundError as error:
        raise missing_extra("av", error) from error


def read_audio(clip: Clip, rate: int = RATE, cache: Cache | None = None) -> Wave:
    """Decode the audio of a clip.

    Of several tracks the one that FFmpeg takes is decoded: a track marked as default before others, then the one with
    most channels, then the first; tracks that cannot be decoded do not count. A gap in the timestamps becomes silence;
    of packets that overlap, the beginning of the later one is left out; timestamps that begin anew go on where the
    samples ended. Audio begins with its first sample, also where the video begins earlier.

    Args:
        rate: samples per second of the result.
        cache: keeps what `warn_of_silence` wants to know, which otherwise decodes again.

    Returns:
        float32 (N,), the mean of the channels; full scale is -1 to 1. Codecs end on a block: the audio may be some
        milliseconds longer than the video.

    Raises:
        MediaError: no file, no audio track, an audio track without samples, one beyond `LONGEST_SOUND`, or a file that
            cannot be decoded.
    """
    wave, facts = _read(clip, rate)
    if cache is not None:
        _keep(clip, facts, _store(cache))
    return wave


def decode_facts(clip: Clip) -> AudioFacts:
    """Decode the audio of a clip, and return what is known about it.

    Raises:
        MediaError: as of `read_audio`.
    """
    return _read(clip, RATE)[1]


def audio_facts(clip: Clip, cache: Cache) -> AudioFacts:
    """Return what is known about the audio of a clip, which is decoded if nobody did before.

    Raises:
        MediaError: as of `read_audio`.
    """
    store = _store(cache)
    if not store.has(clip):
        _keep(clip, decode_facts(clip), store)
    spread, share, moved, track = store.load(clip).tolist()
    return AudioFacts(spread, share, moved, int(track))


def warn_of_silence(clips: Iterable[Clip], context: Context) -> None:
    """Warn of clips in whose audio there is nothing to hear, and name them in the record.

    Encoders that read audio call this at the end of `prepare`, with all clips: what is already known is not decoded
    again, and the command line shows the line once for all encoders.

    Raises:
        MediaError: as of `read_audio`.
    """
    everything = list(clips)
    silent = [clip.id for clip in everything if audio_facts(clip, context.cache).silent]
    context.note("silent clips", silent)
    if silent:
        first = ", ".join(silent[:NAMED])
        context.warn(
            f"nothing to hear in {len(silent)} of {len(everything)} clips (first: {first}): their audio is silent, "
            "constant, or cancelled by the mean of its channels"
        )


def _store(cache: Cache) -> Store:
    return cache.store("audio-facts", **audio_key())


def _keep(clip: Clip, facts: AudioFacts, store: Store) -> None:
    if not store.has(clip):
        store.save(clip, np.array(astuple(facts), dtype=np.float64))


def _read(clip: Clip, rate: int) -> tuple[Wave, AudioFacts]:
    """Decode the audio of a clip, see `read_audio`."""
    check_media(clip, "audio")
    track = decode_audio(clip, rate)
    wave, moved = track.in_time(clip)
    if wave.size / rate < CUT_SHARE * track.promised:
        found = f"{wave.size / rate:.1f} of {track.promised:.1f} s"
        raise MediaError(f"clip {clip.id}: the audio ends after {found}: copy the file again", clip.id)
    if not np.isfinite(wave).all():
        raise MediaError(f"clip {clip.id} has NaN or infinite samples in its audio track", clip.id)
    edge = round(EDGE * rate) if wave.size > 4 * EDGE * rate else 0
    spread = float(np.ptp(wave[edge : wave.size - edge]))
    share = track.mixed / track.power if track.power else 1.0
    return wave, AudioFacts(spread, share, moved, track.number)

"""Audio of a clip, for encoder authors: decoded by PyAV and aligned to its timestamps; silent clips cause a warning.

For a file that cannot be used, a `MediaError` names the clip.
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
"""Version of the decoding, increased whenever decoded samples change; part of `audio_key`."""

RATE = 16_000
"""Default sampling rate in Hz: the one that speech encoders expect."""

SILENT_SPREAD = 1e-3
"""Largest peak-to-peak amplitude (full scale: 2) of audio that counts as silent: -66 dB."""

CANCELLED_SHARE = 0.01
"""Share of the channels' power that remains in their mean, up to which they count as cancelling each other."""

EDGE = 0.1
"""Seconds at either end that the spread ignores: codecs and resamplers ring there even for a constant signal."""

NAMED = 3
"""Number of clips that the warning names."""


@dataclass(frozen=True)
class AudioFacts:
    """Facts about the decoded audio of a clip.

    Attributes:
        spread: difference of the largest and the smallest sample, without `EDGE` at either end.
        share: power of the mean of the channels, as a share of the channels' mean power.
        moved: seconds of silence inserted into gaps plus seconds of overlaps removed.
        track: which audio track of the file was decoded, from 0.
    """

    spread: float
    share: float
    moved: float
    track: int

    @property
    def silent(self) -> bool:
        """Whether the audio is silent, constant, or has channels that cancel each other out."""
        return self.spread <= SILENT_SPREAD or self.share <= CANCELLED_SHARE


def audio_key() -> dict[str, object]:
    """Return what decoded audio depends on besides the file, for the cache keys of arrays computed from it.

    Raises:
        ExtraMissing: PyAV is not installed.
    """
    try:
        return {"version": AUDIO_VERSION, "av": version("av")}
    except PackageNotFoundError as error:
        raise missing_extra("av", error) from error


def read_audio(clip: Clip, rate: int = RATE, cache: Cache | None = None) -> Wave:
    """Decode the audio of a clip.

    Of several tracks, the one that FFmpeg prefers is decoded: a track marked as default, then the one with most
    channels, then the first; tracks that cannot be decoded are ignored. A gap in the timestamps becomes silence;
    where packets overlap, the beginning of the later one is removed; where timestamps restart, the samples continue
    without a gap. Audio begins with its first sample, even if the video begins earlier.

    Args:
        rate: sampling rate of the result in Hz.
        cache: stores the facts that `warn_of_silence` needs, so that it does not decode the file again.

    Returns:
        float32 (N,), the mean of the channels; full scale is -1 to 1. Because codecs work in blocks, the audio may be
        some milliseconds longer than the video.

    Raises:
        MediaError: no file, no audio track, an audio track without samples, one beyond `LONGEST_SOUND`, or a file that
            cannot be decoded.
    """
    wave, facts = _read(clip, rate)
    if cache is not None:
        _keep(clip, facts, _store(cache))
    return wave


def decode_facts(clip: Clip) -> AudioFacts:
    """Decode the audio of a clip and return facts about it.

    Raises:
        MediaError: as of `read_audio`.
    """
    return _read(clip, RATE)[1]


def audio_facts(clip: Clip, cache: Cache) -> AudioFacts:
    """Return facts about the audio of a clip, from the cache if it was decoded before.

    Raises:
        MediaError: as of `read_audio`.
    """
    store = _store(cache)
    if not store.has(clip):
        _keep(clip, decode_facts(clip), store)
    spread, share, moved, track = store.load(clip).tolist()
    return AudioFacts(spread, share, moved, int(track))


def warn_of_silence(clips: Iterable[Clip], context: Context) -> None:
    """Warn of clips with silent audio and list them in the record.

    Encoders that read audio call this at the end of `prepare` with all clips: clips that were decoded before are not
    decoded again, and the command line shows the warning once for all encoders.

    Raises:
        MediaError: as of `read_audio`.
    """
    everything = list(clips)
    silent = [clip.id for clip in everything if audio_facts(clip, context.cache).silent]
    context.note("silent clips", silent)
    if silent:
        first = ", ".join(silent[:NAMED])
        context.warn(
            f"silent audio in {len(silent)} of {len(everything)} clips (first: {first}): the signal is zero or "
            "constant, or its channels cancel each other out"
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
        raise MediaError(f"clip {clip.id}: the audio ends after {found} (truncated file); copy the file again", clip.id)
    if not np.isfinite(wave).all():
        raise MediaError(f"clip {clip.id}: NaN or infinite samples in the audio track; convert the file", clip.id)
    edge = round(EDGE * rate) if wave.size > 4 * EDGE * rate else 0
    spread = float(np.ptp(wave[edge : wave.size - edge]))
    share = track.mixed / track.power if track.power else 1.0
    return wave, AudioFacts(spread, share, moved, track.number)

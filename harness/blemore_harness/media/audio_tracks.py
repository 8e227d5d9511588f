"""Decoding of an audio track by PyAV and alignment of its samples to their timestamps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.opening import OPTIONS, audio_tracks, import_av

LONGEST_SOUND = 600.0
"""Maximum length of audio in seconds (38 MB at 16 kHz); clips of the challenge last seconds."""

GAP = 0.015
"""Tolerated difference in seconds between timestamps and samples: more than the rounding of containers (1 ms), less
than one lost packet (20 ms of Opus, 21 ms of AAC). FFmpeg's `aresample=async=1` corrects 100 ms and more."""

LASTING = 0.25
"""Seconds for which timestamps must disagree: recorders sometimes give a single packet a late timestamp."""

LONGEST_OVERLAP = 1.0
"""Maximum overlap of two packets in seconds; with more, the timestamps are taken to have restarted."""

Wave = NDArray[np.float32]


class Track:
    """An audio track of a clip while it is decoded.

    Args:
        rate: sampling rate of the result in Hz.

    Attributes:
        parts: mean of the channels, frame by frame.
        samples: total number of samples in `parts`.
        places, times: for every decoded frame, where it begins in samples, and its timestamp in seconds (NaN without
            one).
        power: sum over samples of the mean square of the channels, each centred per frame.
        mixed: the same for the mean of the channels.
        number: index of the audio track in the file, from 0.
        promised: length in seconds according to the file; 0 if unknown.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.parts: list[Wave] = []
        self.samples = 0
        self.places: list[float] = []
        self.times: list[float] = []
        self.power = self.mixed = 0.0
        self.number = 0
        self.promised = 0.0

    def decode(self, container: Any, stream: Any, clip: Clip) -> None:
        """Decode a stream to its end.

        Raises:
            MediaError: more than `LONGEST_SOUND`.
            FFmpegError, ValueError, ZeroDivisionError: damaged audio; the samples before the damage are kept.
        """
        most = f"expected at most {LONGEST_SOUND / 60:.0f} minutes; shorten the file"
        self.number = list(container.streams.audio).index(stream)
        self.promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if self.promised > LONGEST_SOUND:
            raise MediaError(f"clip {clip.id}: {self.promised / 60:.0f} minutes of audio, {most}", clip.id)
        shape: tuple[Any, ...] = ()
        resampler: Any = None
        place = 0.0
        for frame in container.decode(stream):
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if found != shape:
                # As in FFmpeg, the millisecond that the previous resampler still buffers is dropped.
                # FFmpeg's own mix to mono makes two equal channels 3 dB louder, so the mean is taken here.
                resampler = import_av().AudioResampler(format="fltp", rate=self.rate)
                shape, place = found, self.samples
            self.places.append(place)
            self.times.append(float("nan") if frame.pts is None else float(frame.pts * frame.time_base))
            place += frame.samples * self.rate / frame.sample_rate
            self._take(resampler.resample(frame))
            if place > LONGEST_SOUND * self.rate:  # the file does not declare its length
                raise MediaError(f"clip {clip.id}: audio of unknown length, {most}", clip.id)
        if resampler is not None:
            self._take(resampler.resample(None))

    def in_time(self, clip: Clip) -> tuple[Wave, float]:
        """Return the samples aligned to their timestamps, and the seconds that were inserted and removed.

        Raises:
            MediaError: gaps that make it longer than `LONGEST_SOUND`.
        """
        steps = find_steps(np.array(self.places), np.array(self.times), self.rate)
        silence = sum(step for _, step in steps if step > 0)
        if self.samples + silence > LONGEST_SOUND * self.rate:
            found = f"{silence / self.rate / 60:.0f} minutes"
            raise MediaError(f"clip {clip.id}: gaps of {found} in the audio timestamps; convert the file", clip.id)
        moved = sum(abs(step) for _, step in steps) / self.rate
        return _apply(np.concatenate(self.parts), steps), moved

    def _take(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            channels = frame.to_ndarray()
            with np.errstate(invalid="ignore", over="ignore"):  # non-finite samples are an error later
                mean = channels.mean(axis=0, dtype=np.float32)
                moving = channels - channels.mean(axis=1, keepdims=True)  # a constant offset is not audible
                mixed = moving.mean(axis=0)
                self.power += float(np.vdot(moving, moving)) / len(channels)
                self.mixed += float(np.vdot(mixed, mixed))
            self.parts.append(mean)
            self.samples += len(mean)


def decode_audio(clip: Clip, rate: int) -> Track:
    """Decode the first audio track, in the order of `opening.audio_tracks`, that yields any samples.

    Raises:
        MediaError: no such track, damaged audio, or more than `LONGEST_SOUND`.
    """
    av = import_av()
    track, damaged, preference, count = Track(rate), False, 0, 1
    while preference < count and not track.samples:
        track, damaged = Track(rate), False
        try:
            with av.open(str(clip.audio), options=OPTIONS) as container:
                streams = audio_tracks(container)
                count = len(streams)
                track.decode(container, streams[preference], clip)
        except (av.error.FFmpegError, OSError, ValueError, ZeroDivisionError):
            damaged = True
        preference += 1
    if damaged:
        raise MediaError(
            f"clip {clip.id}: the audio is damaged or in an unsupported format, only {track.samples / rate:.1f} s can "
            "be decoded; copy the file again or convert it",
            clip.id,
        )
    if not track.samples:
        raise MediaError(f"clip {clip.id}: the audio track has no samples; copy the file again", clip.id)
    return track


def find_steps(places: NDArray[np.float64], times: NDArray[np.float64], rate: int) -> list[tuple[int, int]]:
    """Return where timestamps and samples diverge permanently.

    Args:
        places: position in samples where each frame begins, ascending.
        times: timestamp of each frame in seconds, NaN where it has none.
        rate: sampling rate in Hz.

    Returns:
        Positions with the number of missing samples, negative where samples overlap.

    >>> find_steps(np.array([0.0, 100, 200, 300]), np.array([5.0, 5.1, 5.5, 5.6]), 1000)
    [(200, 300)]
    """
    known = ~np.isnan(times)
    places = places[known]
    late = times[known] * rate - places
    steps: list[tuple[int, int]] = []
    shift = late[0] if late.size else 0.0
    for place, own in zip(places, late, strict=True):
        if abs(own - shift) <= GAP * rate:
            continue
        soon = late[(places >= place) & (places < place + LASTING * rate)] - shift
        sign = 1 if own > shift else -1
        step = sign * float((sign * soon).min())
        if sign * step <= GAP * rate:  # one of the next frames has the right timestamp again
            continue
        shift += step
        if step > -LONGEST_OVERLAP * rate:
            steps.append((round(place), round(step)))
    return steps


def _apply(wave: Wave, steps: Sequence[tuple[int, int]]) -> Wave:
    """Insert silence where samples are missing, and remove overlaps."""
    parts, start = [], 0
    for place, step in steps:
        parts += [wave[start:place], np.zeros(max(0, step), dtype=np.float32)]
        start = max(start, place) + max(0, -step)
    return np.concatenate([*parts, wave[start:]]) if steps else wave

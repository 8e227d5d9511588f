"""An audio track decoded by PyAV: its samples, and where their timestamps leave them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip
from blemore_harness.errors import MediaError
from blemore_harness.media.opening import OPTIONS, audio_tracks, import_av

LONGEST_SOUND = 600.0
"""Seconds of audio that are read: 38 MB at 16 kHz. Clips of the challenge last seconds, and networks take in all."""

GAP = 0.015
"""Seconds by which timestamps and samples may disagree: more than containers round (1 ms), less than one packet lost
(20 ms of Opus, 21 ms of AAC). FFmpeg's `aresample=async=1` acts on 100 ms and more."""

LASTING = 0.25
"""Seconds for which timestamps must disagree: recorders stamp single packets late, and the next one in time."""

LONGEST_OVERLAP = 1.0
"""Seconds by which a packet may begin before the end of the one before: more are timestamps that begin anew."""

Wave = NDArray[np.float32]


class Track:
    """An audio track of a clip while it is decoded.

    Args:
        rate: samples per second of the result.

    Attributes:
        parts: mean of the channels, piece by piece.
        samples: how many they hold.
        places, times: of every decoded frame, where it begins in the samples (in samples) and by its timestamp (in
            seconds; NaN without one).
        power: sum over samples of the mean square of the channels, each without the mean of its piece.
        mixed: the same of the mean of the channels.
        number: which audio track of the file it is, from 0.
        promised: its length in seconds as the file says; 0 where it does not.
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
            FFmpegError, ValueError, ZeroDivisionError: damaged audio; what came before it is here.
        """
        most = f"at most {LONGEST_SOUND / 60:.0f} minutes are read, and clips of the challenge last seconds: cut it"
        self.number = list(container.streams.audio).index(stream)
        self.promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if self.promised > LONGEST_SOUND:
            raise MediaError(f"clip {clip.id} has {self.promised / 60:.0f} minutes of audio: {most}", clip.id)
        shape: tuple[Any, ...] = ()
        resampler: Any = None
        place = 0.0
        for frame in container.decode(stream):
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if found != shape:
                # As FFmpeg does: the millisecond that the last resampler still holds is left out.
                # FFmpeg's own mix to mono makes two equal channels louder by 3 dB: the mean is taken here.
                resampler = import_av().AudioResampler(format="fltp", rate=self.rate)
                shape, place = found, self.samples
            self.places.append(place)
            self.times.append(float("nan") if frame.pts is None else float(frame.pts * frame.time_base))
            place += frame.samples * self.rate / frame.sample_rate
            self._take(resampler.resample(frame))
            if place > LONGEST_SOUND * self.rate:  # a length that the file does not tell
                raise MediaError(f"clip {clip.id} has no end of audio: {most}", clip.id)
        if resampler is not None:
            self._take(resampler.resample(None))

    def in_time(self, clip: Clip) -> tuple[Wave, float]:
        """Return the samples at the times of their timestamps, and the seconds that were put in and left out.

        Raises:
            MediaError: gaps that make it longer than `LONGEST_SOUND`.
        """
        steps = find_steps(np.array(self.places), np.array(self.times), self.rate)
        silence = sum(step for _, step in steps if step > 0)
        if self.samples + silence > LONGEST_SOUND * self.rate:
            found = f"{silence / self.rate / 60:.0f} minutes"
            raise MediaError(f"clip {clip.id} has gaps of {found} in the times of its audio: convert it", clip.id)
        moved = sum(abs(step) for _, step in steps) / self.rate
        return _apply(np.concatenate(self.parts), steps), moved

    def _take(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            channels = frame.to_ndarray()
            with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused by name, later
                mean = channels.mean(axis=0, dtype=np.float32)
                moving = channels - channels.mean(axis=1, keepdims=True)  # a constant is nothing to hear
                mixed = moving.mean(axis=0)
                self.power += float(np.vdot(moving, moving)) / len(channels)
                self.mixed += float(np.vdot(mixed, mixed))
            self.parts.append(mean)
            self.samples += len(mean)


def decode_audio(clip: Clip, rate: int) -> Track:
    """Decode the first audio track, by `containers.audio_tracks`, of which anything can be decoded.

    Raises:
        MediaError: none, damaged audio, or more than `LONGEST_SOUND`.
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
            f"clip {clip.id}: the audio is damaged or of an unknown kind, {track.samples / rate:.1f} s can be decoded: "
            "copy the file again or convert it",
            clip.id,
        )
    if not track.samples:
        raise MediaError(f"clip {clip.id} has a audio track without a single sample", clip.id)
    return track


def find_steps(places: NDArray[np.float64], times: NDArray[np.float64], rate: int) -> list[tuple[int, int]]:
    """Find where timestamps leave the samples for good.

    Args:
        places: where each frame begins in the samples, ascending.
        times: its timestamp in seconds, NaN where it has none.
        rate: samples per second.

    Returns:
        Places with the samples that are missing there; negative where so many are there twice.

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
        if sign * step <= GAP * rate:  # one of the next frames is in time again
            continue
        shift += step
        if step > -LONGEST_OVERLAP * rate:
            steps.append((round(place), round(step)))
    return steps


def _apply(wave: Wave, steps: Sequence[tuple[int, int]]) -> Wave:
    """Put silence where samples are missing, and leave out what is there twice."""
    parts, start = [], 0
    for place, step in steps:
        parts += [wave[start:place], np.zeros(max(0, step), dtype=np.float32)]
        start = max(start, place) + max(0, -step)
    return np.concatenate([*parts, wave[start:]]) if steps else wave

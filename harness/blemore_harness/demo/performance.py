"""Converts a label into tracks over time of face actions and voice controls, from which video and audio are generated.

Each emotion has a prototype, a value per face action and voice control. Each actor has personal versions of the
prototypes; a clip mixes those of its emotions by salience, with some alternation over time and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemore_harness.clips import EMOTIONS
from blemore_harness.demo.plan import FRAME_RATE, PlannedClip
from blemore_harness.predictions import FloatArray

FACE_ACTIONS = {
    # Rough action units (Ekman and Friesen): values per emotion in the order ang disg fea hap sad neu.
    "brow_raise": (-0.2, -0.1, 0.9, 0.15, 0.1, 0.0),
    "brow_inner": (-0.2, 0.0, 0.8, 0.0, 1.1, 0.0),
    "brow_lower": (1.1, 0.5, 0.1, -0.1, 0.2, 0.0),
    "lid_open": (0.45, -0.35, 1.1, -0.1, -0.7, 0.0),
    "lid_lower": (0.45, 0.6, 0.1, 0.7, 0.1, 0.0),
    "cheek": (0.05, 0.4, -0.1, 1.0, 0.0, 0.0),
    "nose": (0.4, 1.1, 0.0, 0.1, 0.05, 0.0),
    "upper_lip": (0.4, 1.0, 0.15, 0.5, 0.0, 0.0),
    "corner": (-0.35, -0.45, -0.25, 1.1, -1.0, 0.0),
    "stretch": (0.1, -0.25, 0.7, 0.7, -0.2, 0.0),
    "press": (0.5, 0.0, 0.1, 0.0, 0.4, 0.0),
    "lower_lip": (0.4, 0.25, 0.4, 0.1, 0.1, 0.0),
    "open": (0.3, 0.25, 0.7, 0.5, 0.05, 0.0),
    "jaw": (0.2, 0.2, 0.6, 0.35, 0.0, 0.0),
    "pitch": (0.45, -0.3, -0.4, -0.15, 0.8, 0.0),
    "yaw": (0.0, 0.6, 0.1, 0.0, -0.25, 0.0),
    "roll": (0.0, 0.35, -0.1, 0.15, 0.3, 0.0),
    "gaze_x": (0.0, 0.5, 0.0, 0.0, -0.3, 0.0),
    "gaze_y": (0.1, 0.2, -0.2, 0.0, 0.9, 0.0),
    "flush": (0.9, -0.4, -0.9, 0.3, 0.15, 0.0),
    # Movement of the whole head: amount, and rate in Hz.
    "shake": (0.6, 0.25, 0.5, 0.8, 0.15, 0.08),
    "shake_rate": (2.6, 1.0, 6.0, 4.0, 0.7, 0.5),
}
VOICE_CONTROLS = {
    # Affect bursts as described by Scherer (1986, 2003), in the same order of emotions.
    "pitch": (4.0, -4.0, 10.0, 7.0, -1.0, 0.0),  # semitones above the speaker's base pitch
    "slide": (2.0, -5.0, 3.0, -2.0, -6.0, -0.5),  # semitones over one vocalisation
    "tremor": (0.3, 0.2, 1.2, 0.3, 0.6, 0.05),  # semitones
    "tremor_rate": (5.0, 4.0, 8.5, 5.5, 4.0, 4.0),  # Hz
    "roughness": (1.0, 0.6, 0.15, 0.05, 0.1, 0.0),  # depth of amplitude modulation near half the pitch
    "breath": (0.25, 0.5, 0.6, 0.45, 0.55, 0.06),  # noise relative to the voice
    "tilt": (-2.5, -9.0, -4.5, -5.0, -12.0, -8.0),  # dB per octave above 500 Hz
    "first": (1.35, 0.95, 1.15, 1.25, 0.8, 0.9),  # formants relative to a neutral vowel
    "second": (0.9, 1.1, 1.2, 1.1, 0.85, 1.0),
    "rate": (1.6, 0.9, 2.4, 4.6, 1.3, 0.5),  # vocalisations per second
    "duty": (0.75, 0.7, 0.4, 0.45, 0.6, 0.85),  # share of the time that is voiced
    "attack": (0.9, 0.3, 0.8, 0.7, 0.2, 0.1),  # how abruptly a vocalisation starts
    "level": (1.0, 0.6, 0.8, 0.9, 0.45, 0.4),
    "friction": (0.3, 0.9, 0.4, 0.15, 0.05, 0.0),  # noise from a narrow mouth
}

LEVEL_GAIN = {0: 1.0, 1: 0.75, 2: 0.9, 3: 1.05, 4: 1.2}
"""Strength of each intensity level; blends have no level and use a middle one."""


@dataclass(frozen=True)
class Style:
    """An actor's personal prototypes.

    Attributes:
        face: (6, face actions).
        voice: (6, voice controls).
        rest: (face actions,), the resting face.
        alternation: degree to which the emotions of a blend alternate instead of occurring together, 0 to 1.
        onset: share of a clip until the expression is reached.
        blink_rate: blinks per second.
    """

    face: FloatArray
    voice: FloatArray
    rest: FloatArray
    alternation: float
    onset: float
    blink_rate: float


@dataclass(frozen=True)
class Performance:
    """The tracks of one clip.

    Attributes:
        face: one track (frames,) per face action, and `blink` (0 open, 1 closed).
        voice: one track (frames,) per voice control, and `envelope` (loudness of the vocalisations, 0 to 1).
    """

    face: dict[str, FloatArray]
    voice: dict[str, FloatArray]

    @property
    def frames(self) -> int:
        """Length in video frames."""
        return len(self.face["blink"])


def make_style(rng: np.random.Generator) -> Style:
    """Draw an actor's style."""
    face = np.array(list(FACE_ACTIONS.values())).T
    voice = np.array(list(VOICE_CONTROLS.values())).T
    gain = rng.uniform(0.95, 1.25) * rng.lognormal(0, 0.15, face.shape)
    face = face * gain + rng.normal(0, 0.08, face.shape) * (np.abs(face) > 0)
    # Voice controls have units: they vary in proportion to the differences between emotions.
    spread = voice.std(axis=0)
    centre = voice[EMOTIONS.index("neu")]
    voice = centre + (voice - centre) * rng.lognormal(0, 0.25, voice.shape) + rng.normal(0, 0.4, voice.shape) * spread
    rest = rng.normal(0, 0.06, len(FACE_ACTIONS))
    return Style(face, voice, rest, rng.uniform(0.25, 0.7), rng.uniform(0.1, 0.22), rng.uniform(0.2, 0.6))


def play(clip: PlannedClip, style: Style, rng: np.random.Generator) -> Performance:
    """Turn a planned clip into tracks."""
    count = clip.frames
    shares = _shares(clip, style, rng)
    strength = LEVEL_GAIN[clip.level] * rng.normal(1, 0.08) * _envelope(count, style.onset, rng)
    names = list(FACE_ACTIONS)
    prototypes = style.face * rng.lognormal(0, 0.12, style.face.shape) + rng.normal(0, 0.06, style.face.shape)
    face = style.rest + (shares @ prototypes) * strength[:, None]
    face += 0.05 * np.stack([_wander(count, 1.5, rng) for _ in names], axis=1)
    voice = shares @ (style.voice + rng.normal(0, 0.45, style.voice.shape) * style.voice.std(axis=0))
    face_tracks = {name: face[:, i] for i, name in enumerate(names)}
    face_tracks["shake_rate"] = np.maximum(face_tracks["shake_rate"], 0.3)
    face_tracks["blink"] = _blinks(count, style.blink_rate, rng)
    voice_tracks = {name: voice[:, i] for i, name in enumerate(VOICE_CONTROLS)}
    voice_tracks["level"] = voice_tracks["level"] * (0.4 + 0.6 * strength)
    voice_tracks["envelope"] = _bursts(voice_tracks, rng)
    return Performance(face_tracks, voice_tracks)


def _shares(clip: PlannedClip, style: Style, rng: np.random.Generator) -> FloatArray:
    """Shares of the emotions at every frame, (frames, 6), which alternate around the saliences."""
    shares = np.tile(clip.cell.weights, (clip.frames, 1))
    if clip.cell.is_blend:
        first, second = (EMOTIONS.index(emotion) for emotion in clip.cell.emotions)
        salience = float(np.clip(clip.cell.weights[first] + rng.normal(0, 0.03), 0.2, 0.8))
        time = np.arange(clip.frames) / FRAME_RATE
        wave = np.sin(2 * np.pi * (rng.uniform(0.5, 1.0) * time + rng.uniform()))
        turns = 1 / (1 + np.exp(-6 * (wave - np.quantile(wave, 1 - salience))))
        shares[:, first] = salience + style.alternation * (turns - turns.mean())
        shares[:, first] = shares[:, first].clip(0.05, 0.95)
        shares[:, second] = 1 - shares[:, first]
        shares *= 1.2  # two expressions of half strength look weaker than one
    return shares


def _envelope(count: int, onset: float, rng: np.random.Generator) -> FloatArray:
    """Onset, apex and a slight decay, starting at a third of the expression."""
    time = (np.arange(count) + 0.5) / count
    rise = 1 / (1 + np.exp(-(time - onset) * 25))
    return (0.3 + 0.7 * rise) * (1 - rng.uniform(0, 0.25) * np.maximum(0, time - 0.6))


def _wander(count: int, rate: float, rng: np.random.Generator) -> FloatArray:
    """A smooth random track of about unit variance that changes about `rate` times per second."""
    knots = rng.normal(0, 1, max(4, int(count / FRAME_RATE * rate) + 3))
    return np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)


def _blinks(count: int, rate: float, rng: np.random.Generator) -> FloatArray:
    closed = np.zeros(count)
    for centre in rng.uniform(0, count, rng.poisson(rate * count / FRAME_RATE)):
        closed = np.maximum(closed, np.exp(-(((np.arange(count) - centre) / 2.0) ** 2)))
    return closed


def _bursts(voice: dict[str, FloatArray], rng: np.random.Generator) -> FloatArray:
    """Loudness of vocalisations: `rate` per second, active for `duty` of each period, rising by `attack`."""
    phase = (np.cumsum(np.maximum(voice["rate"], 0.35)) / FRAME_RATE + rng.uniform(0, 0.3)) % 1
    duty = voice["duty"].clip(0.25, 0.95)
    within = phase / duty
    rise = np.minimum(1, within / (0.45 - 0.4 * voice["attack"].clip(0, 1)))
    fall = np.minimum(1, np.maximum(0, 1 - within) / 0.4)
    return np.asarray(np.sqrt(np.maximum(rise * fall, 0)))

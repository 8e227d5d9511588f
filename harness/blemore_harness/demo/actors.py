"""Demo actors: proportions, skin, hair, light and framing of the face; pitch and vocal tract of the voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from blemore_harness.demo.performance import Style, make_style
from blemore_harness.demo.plan import gender_of

Colour: TypeAlias = tuple[float, float, float]

# Base colours, RGB 0 to 255.
SKINS = ((244, 208, 183), (232, 190, 160), (222, 172, 138), (200, 148, 112), (168, 118, 86), (128, 88, 64))
HAIRS = ((38, 30, 28), (70, 48, 34), (112, 78, 48), (168, 130, 80), (150, 148, 146), (120, 58, 34))
EYES = ((70, 50, 36), (96, 74, 44), (84, 110, 84), (84, 116, 150), (50, 38, 32))
CLOTHES = ((52, 62, 84), (96, 44, 48), (48, 48, 52), (80, 104, 84), (126, 120, 112), (88, 76, 112))
WALLS = ((186, 190, 194), (150, 160, 172), (206, 200, 190), (120, 128, 124), (170, 152, 140))
HAIRCUTS = ("short", "parted", "long", "bun", "bald")


@dataclass(frozen=True)
class Look:
    """The appearance of an actor. Lengths are in canvas pixels: a head is about 125 wide and 170 high.

    Attributes:
        width, height: half-axes of the face; jaw: share of the width left at the chin; square: exponent of its outline.
        eye_x, eye_y, eye_width, eye_height: eyes, relative to the middle of the face.
        brow_y, brow_width: height of the brows over the eyes, and their half-thickness.
        nose_length, nose_width, mouth_y, mouth_width, lips: the other features.
        asymmetry: how much stronger the left side of the face moves than the right.
        beard: 0 none to 1 full.
        light: direction that the light comes from, a unit vector to the right, down and towards the viewer.
        scale, shift_x, shift_y: framing: frame pixels per canvas pixel, and position of the head.
    """

    width: float
    height: float
    jaw: float
    square: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    brow_y: float
    brow_width: float
    nose_length: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    lips: float
    asymmetry: float
    beard: float
    skin: Colour
    hair: Colour
    iris: Colour
    lip: Colour
    clothes: Colour
    wall: Colour
    haircut: str
    light: tuple[float, float, float]
    scale: float
    shift_x: float
    shift_y: float


@dataclass(frozen=True)
class Voice:
    """The voice of an actor and the recording equipment.

    Attributes:
        pitch: the speaker's base pitch, Hz.
        tract: formant frequencies relative to a 17 cm vocal tract.
        tilt: dB per octave, added to the emotion's.
        breath: constant breath noise, relative to the voice.
        hiss: noise of the room, relative to full scale.
        channels, rate: layout of the audio track, which differs between cameras.
    """

    pitch: float
    tract: float
    tilt: float
    breath: float
    hiss: float
    channels: int
    rate: int


@dataclass(frozen=True)
class Actor:
    """One generated person."""

    number: int
    look: Look
    voice: Voice
    style: Style


def make_actor(seed: int, number: int) -> Actor:
    """Generate actor `number` of the dataset with this seed."""
    rng = np.random.default_rng([seed, 1, number])
    female = gender_of(number) == "f"
    return Actor(number, _make_look(rng, female), _make_voice(rng, female), make_style(rng))


def _make_look(rng: np.random.Generator, female: bool) -> Look:
    skin = _pick(rng, SKINS)
    cuts = HAIRCUTS[1:4] if female else (HAIRCUTS[0], HAIRCUTS[0], HAIRCUTS[1], HAIRCUTS[4])
    light = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.6, -0.25), 1.0])
    light /= np.linalg.norm(light)
    rosy = np.array(skin) * (0.78, 0.55, 0.55) + (rng.uniform(20, 36) if female else rng.uniform(4, 16), 0, 0)
    return Look(
        width=rng.uniform(57, 64) - 2 * female,
        height=rng.uniform(80, 88) - 2 * female,
        jaw=rng.uniform(0.74, 0.84) + (0 if female else 0.05),
        square=rng.uniform(2.0, 2.4),
        eye_x=rng.uniform(25.5, 28.5),
        eye_y=rng.uniform(-10, -6),
        eye_width=rng.uniform(11.5, 13.5),
        eye_height=rng.uniform(5.2, 6.4),
        brow_y=rng.uniform(14.5, 18),
        brow_width=rng.uniform(1.6, 2.3) + (0 if female else 0.9),
        nose_length=rng.uniform(33, 39),
        nose_width=rng.uniform(10, 13.5),
        mouth_y=rng.uniform(45, 49),
        mouth_width=rng.uniform(21, 25),
        lips=rng.uniform(4.2, 6.2) + (0.8 if female else 0),
        asymmetry=rng.normal(0, 0.12),
        beard=0.0 if female else float(rng.choice([0.0, 0.25, 0.7])),
        skin=skin,
        hair=_pick(rng, HAIRS),
        iris=_pick(rng, EYES),
        lip=(float(rosy[0]), float(rosy[1]), float(rosy[2])),
        clothes=_pick(rng, CLOTHES),
        wall=_pick(rng, WALLS),
        haircut=str(rng.choice(cuts)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        scale=rng.uniform(0.68, 0.8),
        shift_x=rng.uniform(-5, 5),
        shift_y=rng.uniform(-4, 4),
    )


def _make_voice(rng: np.random.Generator, female: bool) -> Voice:
    return Voice(
        pitch=rng.uniform(175, 235) if female else rng.uniform(95, 140),
        tract=rng.uniform(1.1, 1.22) if female else rng.uniform(0.95, 1.05),
        tilt=rng.normal(0, 1),
        breath=rng.uniform(0.02, 0.08),
        hiss=rng.uniform(0.0008, 0.0025),
        channels=int(rng.choice([1, 2])),
        rate=int(rng.choice([44100, 48000])),
    )


def _pick(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...]) -> Colour:
    base = np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.92, 1.06) + rng.normal(0, 4, 3)
    base = base.clip(12, 250)
    return (float(base[0]), float(base[1]), float(base[2]))

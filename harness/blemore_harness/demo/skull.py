"""Draws the parts of an actor that do not change with expression: background, body, and the head with its hair.

Images are float32 RGB, 0 to 255, channels first: numpy is several times faster with (3, H, W) than with (H, W, 3).
The head is drawn on a separate canvas, from which frames are sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.demo.actors import Look

Picture: TypeAlias = NDArray[np.float32]

CANVAS = 224
"""Side of the head's canvas in pixels."""
MIDDLE_X, MIDDLE_Y = 112.0, 120.0
"""Middle of the face on the canvas."""


@dataclass(frozen=True)
class Skull:
    """The head without facial features, on its canvas.

    Attributes:
        rgb: (3, CANVAS, CANVAS).
        alpha: (CANVAS, CANVAS), mask of the head.
        blush: (CANVAS, CANVAS), where skin blushes.
    """

    rgb: Picture
    alpha: Picture
    blush: Picture


def grid(height: int, width: int) -> tuple[Picture, Picture]:
    """Return the coordinates x (1, width) and y (height, 1) of pixel centres."""
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)
    return x, np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)


def edge(distance: ArrayLike, softness: float = 1.0) -> Picture:
    """Turn a signed distance, positive inside, into coverage 0 to 1 with an edge `softness` pixels wide."""
    cover = np.asarray(distance, np.float32) * np.float32(1 / softness)
    cover += np.float32(0.5)
    np.maximum(cover, 0, out=cover)
    return np.minimum(cover, 1, out=cover)


def blob(x: ArrayLike, y: ArrayLike, width: float, height: float) -> Picture:
    """A smooth bump around the origin of `x` and `y`; fast for a row and a column, which are combined last."""
    across = np.asarray(x, np.float32) * np.float32(1 / width)
    down = np.asarray(y, np.float32) * np.float32(1 / height)
    return np.asarray(np.exp(-across * across) * np.exp(-down * down), np.float32)


def tint(colour: ArrayLike, tone: ArrayLike) -> Picture:
    """Return an image of a colour (3,) with a brightness per pixel (H, W)."""
    return np.asarray(colour, np.float32)[:, None, None] * np.asarray(tone, np.float32)


def paint(picture: Picture, colour: ArrayLike, coverage: Picture) -> None:
    """Blend a colour (3,) or an image over an image, in place."""
    over = np.asarray(colour, np.float32)
    difference = (over[:, None, None] if over.ndim == 1 else over) - picture
    difference *= coverage
    picture += difference


def draw_skull(look: Look, rng: np.random.Generator) -> Skull:
    """Draw an actor's head: outline, relief lit from one side, hair, ears, nose."""
    x, y = grid(CANVAS, CANVAS)
    x, y = x - np.float32(MIDDLE_X), y - np.float32(MIDDLE_Y)
    inside = _outline(look, x, y)
    face = edge(inside)
    light = _lit(_relief(look, x, y, inside), look)
    skin = np.asarray(look.skin, np.float32)
    noise = _noise(rng, 2) + _noise(rng, 9)
    side = np.abs(x)
    blush = 0.2 + blob(side - 34, y - 22, 17, 14) + 0.7 * blob(x, y - 22, 9, 9) + 0.35 * blob(x, y + 52, 40, 22)
    rgb = tint(skin * np.float32(0.6), np.ones((CANVAS, CANVAS)))
    alpha = _hair_behind(look, rgb, x, y, rng)
    ears = edge(1 - np.sqrt(((side - look.width + 1) / 8) ** 2 + ((y - 6) / 15) ** 2), 0.12)
    ears = ears * np.float32(look.haircut != "long")
    paint(rgb, skin * np.float32(0.78), ears)
    tone = tint(skin, light * (1 + np.float32(0.015) * noise)) * (1 - tint((0.0, 0.1, 0.1), blush))
    paint(rgb, tone, face)
    _nose(look, rgb, x, y)
    _beard(look, rgb, x, y, light, face, rng)
    alpha = np.maximum(np.maximum(alpha, face), ears)
    hair = _hair_front(look, rgb, x, y, inside, rng)
    return Skull(rgb.clip(0, 255), np.maximum(alpha, hair), blush * face * (1 - hair))


def draw_backdrop(look: Look, size: int) -> Picture:
    """Draw wall, neck and shoulders, (3, size, size), for a frame of this size."""
    x, y = grid(size, size)
    u = (x - size / 2 - look.shift_x) / np.float32(look.scale)
    v = (y - size / 2 - look.shift_y) / np.float32(look.scale)
    wall = 1.06 - 0.0011 * y + 0.0006 * (x - size / 2) * np.sign(-look.light[0])
    picture = tint(look.wall, wall)
    shoulders = edge(118 - np.abs(u) * 0.9 - 60 * np.exp(-(((v - 160) / 46) ** 2)) + (v - 132) * 1.6, 2) * edge(
        v - 98, 2
    )
    slope = edge((v - 102) - 0.0022 * u**2 - 0.08 * np.abs(u), 1.5) * edge(130 - np.abs(u), 2)
    fabric = tint(look.clothes, 1 - 0.002 * np.abs(u - look.light[0] * 60) + 0 * v)
    paint(picture, fabric, slope * np.maximum(shoulders, slope))
    neck = edge(look.width * 0.56 + 0.004 * (v - 60) ** 2 - np.abs(u), 1.5) * edge(112 + 9 * np.cos(u / 24) - v, 1.5)
    shade = 0.78 - 0.16 * edge(96 - v, 40) - 0.004 * np.abs(u + 30 * look.light[0])
    paint(picture, tint(look.skin, shade), neck * edge(v - 30))
    return picture.clip(0, 255)


def _outline(look: Look, x: Picture, y: Picture) -> Picture:
    """Approximate signed distance to the outline of the face in canvas pixels."""
    down = np.clip(y / np.float32(look.height), 0, 1)
    width = look.width * (1 - (1 - look.jaw) * down**1.6)
    radius = ((np.abs(x) / width) ** look.square + (np.abs(y) / look.height) ** look.square) ** (1 / look.square)
    return np.asarray((1 - radius) * look.width, np.float32)


def _relief(look: Look, x: Picture, y: Picture, inside: Picture) -> Picture:
    """Height of the skin over the image plane."""
    side = np.abs(x)
    dome = 58 * np.sqrt(np.clip(1 - (1 - inside / look.width).clip(0, 1) ** 2.2, 0, 1))
    tip = look.eye_y + look.nose_length
    ridge = np.clip((y - look.eye_y + 6) / (look.nose_length + 6), 0, 1) ** 1.4 * edge(tip + 3 - y, 7)
    nose = 15 * ridge * np.exp(-((x / (5 + 4 * ridge)) ** 2))
    wings = 5 * blob(side - look.nose_width * 0.75, y - tip, 5, 5)
    sockets = -7 * blob(side - look.eye_x, y - look.eye_y - 1, 14, 9)
    brows = 3.5 * blob(side - look.eye_x + 4, y - look.eye_y + look.brow_y, 20, 7)
    cheeks = 5 * blob(side - 36, y - 18, 15, 13)
    mouth = 4 * blob(x, y - look.mouth_y, look.mouth_width, 13)
    chin = 5 * blob(x, y - look.height + 13, 15, 9) - 2.5 * blob(x, y - look.mouth_y - 12, 18, 5)
    return np.asarray(dome + nose + wings + sockets + brows + cheeks + mouth + chin, np.float32)


def _lit(relief: Picture, look: Look) -> Picture:
    """Lambertian light with ambient light and a little gloss."""
    down, right = np.gradient(relief)
    length = np.sqrt(down**2 + right**2 + 1)
    facing = (-right * look.light[0] - down * look.light[1] + look.light[2]) / length
    return np.asarray(0.5 + 0.52 * facing.clip(0, 1) + 0.1 * facing.clip(0, 1) ** 14, np.float32)


def _nose(look: Look, rgb: Picture, x: Picture, y: Picture) -> None:
    tip = look.eye_y + look.nose_length
    side = np.abs(x)
    skin = np.asarray(look.skin, np.float32)
    paint(rgb, skin * np.float32(0.42), 0.85 * blob(side - look.nose_width * 0.46, y - tip - 3.2, 3.6, 1.9))
    paint(rgb, skin * np.float32(0.62), 0.4 * blob(side - look.nose_width, y - tip + 1, 2.0, 4.5))
    paint(rgb, skin * np.float32(0.6), 0.3 * blob(x, y - tip - 6, 9, 3))


def _beard(
    look: Look, rgb: Picture, x: Picture, y: Picture, light: Picture, face: Picture, rng: np.random.Generator
) -> None:
    if look.beard:
        low = edge(y - look.mouth_y + 24 - 0.012 * x**2, 10)
        around = np.maximum(
            low * edge(np.abs(x) - 8 - 0.0 * y + (y - look.mouth_y + 8), 8), edge(y - look.mouth_y - 8, 6)
        )
        texture = 0.75 + 0.25 * _noise(rng, 1).clip(-1, 1)
        paint(rgb, tint(look.hair, light), look.beard * low * around * texture * face)


def _hair_behind(look: Look, rgb: Picture, x: Picture, y: Picture, rng: np.random.Generator) -> Picture:
    """Draw the hair behind the face; return its coverage."""
    if look.haircut == "long":
        width = look.width + 12 + 5 * np.sin(y / 22)
        shape = edge(width - np.abs(x), 2) * edge(y, 2) * edge(100 - y, 3)
        crown = edge(1 - np.sqrt((x / (look.width + 13)) ** 2 + (y / (look.height + 12)) ** 2), 0.03)
        shape = np.maximum(shape, crown * edge(8 - y))
    elif look.haircut == "bun":
        shape = edge(1 - np.sqrt((x / 27) ** 2 + ((y + look.height + 4) / 18) ** 2), 0.07)
    else:
        return np.zeros((CANVAS, CANVAS), np.float32)
    paint(rgb, _strands(look, x, y, rng) * np.float32(0.75), shape)
    return shape


def _hair_front(look: Look, rgb: Picture, x: Picture, y: Picture, inside: Picture, rng: np.random.Generator) -> Picture:
    """Draw the hair over the forehead and the temples; return its coverage."""
    side = np.abs(x)
    if look.haircut == "bald":
        stubble = edge(-(y + look.height * 0.55) + 0.012 * side**2 - 6, 14) * edge(inside)
        paint(rgb, np.asarray(look.hair, np.float32), 0.18 * stubble)
        return np.zeros((CANVAS, CANVAS), np.float32)
    thick = {"short": 8.0, "parted": 10.0, "long": 12.0, "bun": 5.0}[look.haircut]
    cap = edge(1 - np.sqrt((x / (look.width + thick * 0.6)) ** 2 + (y / (look.height + thick)) ** 2), 0.025)
    if look.haircut == "parted":
        line = -look.height * 0.60 + 0.25 * np.abs(x - 20) + 0.9 * np.maximum(side - look.width * 0.7, 0) ** 1.4
    elif look.haircut == "long":
        line = -look.height * 0.72 + 0.55 * np.maximum(side - 6, 0) + 0.006 * side**2
    else:
        line = -look.height * 0.62 + 0.9 * np.maximum(side - look.width * 0.74, 0) ** 1.35
    low = {"short": -4.0, "parted": 2.0, "long": 90.0, "bun": -6.0}[look.haircut]
    ragged = 1.2 * _noise(rng, 6)
    shape = cap * edge(line + ragged - y, 4) * edge(low - y, 8)
    paint(rgb, _strands(look, x, y, rng), shape)
    return np.asarray(shape, np.float32)


def _strands(look: Look, x: Picture, y: Picture, rng: np.random.Generator) -> Picture:
    """Hair colour with strands and a soft highlight, (3, CANVAS, CANVAS)."""
    strands = np.repeat(rng.normal(0, 1, (1, CANVAS)), CANVAS, axis=0) + 0.5 * _noise(rng, 2)
    gloss = blob(x - 40 * look.light[0], y + look.height * 0.8, 45, 16)
    tone = 0.82 + 0.07 * strands + 0.45 * gloss
    return tint(look.hair, tone)


def _noise(rng: np.random.Generator, size: int) -> Picture:
    """Smooth noise of about unit variance with spots of `size` pixels."""
    count = CANVAS // size + 2
    coarse = rng.normal(0, 1, (count, count))
    at = np.arange(CANVAS) / size
    low, part = at.astype(int), (at % 1)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, low + 1] * part, np.float32) * np.float32(1.3)

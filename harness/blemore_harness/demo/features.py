"""Draws the moving parts of a face onto a head's canvas: brows, eyes, mouth and folds.

All parts are drawn on windows of the canvas in coordinates relative to the middle of the face, with mirrored sides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blemore_harness.demo.actors import Look
from blemore_harness.demo.skull import Picture, blob, edge, paint, tint

Actions = Mapping[str, float]

DARK = (46, 16, 18)
TEETH = (236, 230, 218)
TONGUE = (176, 84, 84)
SCLERA = (238, 234, 230)


def draw_features(canvas: Picture, look: Look, now: Actions, middle: tuple[float, float]) -> None:
    """Draw brows, eyes, mouth and folds of one frame, in place.

    Args:
        canvas: float32 (3, H, W), the bare head or the part of it with the face.
        look: appearance of the actor.
        now: current value per face action.
        middle: x and y of the middle of the face on the canvas.
    """
    _forehead(*_window(canvas, middle, look.eye_y, -46, 18, 32), look, now)
    _eyes(*_window(canvas, middle, look.eye_y, -16, 20, 46), look, now)
    _brows(*_window(canvas, middle, look.eye_y - look.brow_y, -20, 16, 54), look, now)
    _folds(*_window(canvas, middle, look.mouth_y, -32, 22, 42), look, now)
    _mouth(*_window(canvas, middle, look.mouth_y, -18, 30, 40), look, now)


def _window(
    canvas: Picture, centre: tuple[float, float], around: float, above: int, below: int, half: int
) -> tuple[Picture, Picture, Picture]:
    """A window of the rows from `above` to `below` around a height, with x (1, width) and y (height, 1)."""
    middle, height = int(centre[0]), int(centre[1] + around)
    x = np.arange(-half, half, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(height + above, height + below, dtype=np.float32)[:, None] + np.float32(0.5 - centre[1])
    return canvas[:, height + above : height + below, middle - half : middle + half], x, y


def _between(value: float, low: float, high: float) -> float:
    """Clip a number; unlike numpy's, the result is a Python float, so that float32 arrays stay float32."""
    return min(max(value, low), high)


def _forehead(picture: Picture, x: Picture, y: Picture, look: Look, now: Actions) -> None:
    """Frown lines between the brows, wrinkles of raised brows, and the nose's root drawn up."""
    side, brow = np.abs(x), look.eye_y - look.brow_y
    frown = max(0.0, now["brow_lower"])
    raised = max(0.0, now["brow_raise"], 0.7 * now["brow_inner"])
    wrinkle = max(0.0, now["nose"])
    lines = 0.45 * frown * blob(side - 4.5, y - brow + 2, 1.6, 8)
    width = 30 if now["brow_raise"] > now["brow_inner"] else 16
    for height in (13, 20):
        lines = lines + 0.28 * raised * blob(x, 0 * y, width, 1) * blob(0, y - brow + height - 0.004 * x**2, 1, 1.4)
    for height in (4, 9):
        lines = lines + 0.38 * wrinkle * blob(x, y - look.eye_y - height - 0.05 * side**2 + 3, 8, 1.5)
    lines = lines + 0.22 * wrinkle * blob(side - 10, y - look.eye_y - 10 - 0.3 * side, 4, 3)
    _darken(picture, lines)


def _eyes(picture: Picture, x: Picture, y: Picture, look: Look, now: Actions) -> None:
    side, hand = np.abs(x), np.sign(x)
    uneven = 1 + look.asymmetry * hand
    across = (side - look.eye_x) / look.eye_width
    arch = np.clip(1 - across**2, 0, 1) ** 0.75
    opened = _between(1 + 0.62 * now["lid_open"] - 0.12 * max(0.0, now["lid_lower"]), 0.12, 1.9) * (1 - now["blink"])
    upper = look.eye_y + 1.5 - arch * (look.eye_height * opened * uneven * 1.25 + 0.3)
    lower = (
        look.eye_y + 1.5 + arch * look.eye_height * max(0.12, 0.72 - 0.5 * now["lid_lower"]) * (1 - 0.4 * now["blink"])
    )
    skin = np.asarray(look.skin, np.float32)
    # The lid between its crease and the lashes, and the bag that a raised lower lid pushes up.
    paint(picture, skin * np.float32(0.8), 0.55 * edge(upper - y, 1.5) * edge(y - upper + 4.5, 3) * (arch > 0.1))
    bag = 0.18 + 0.35 * max(0.0, now["lid_lower"]) + 0.15 * max(0.0, now["cheek"])
    _darken(picture, bag * blob(side - look.eye_x, y - lower - 4.5 - 2 * across**2, look.eye_width, 2.0))
    ball = edge(y - upper) * edge(lower - y) * edge(1 - np.abs(across), 0.1)
    shadow = 1 - 0.35 * edge(upper + 3 - y, 4)
    paint(picture, tint(SCLERA, shadow), ball)
    away = (side - look.eye_x) * hand - 3.6 * now["gaze_x"]
    down = y - look.eye_y - 0.5 - 2.6 * now["gaze_y"]
    far = np.sqrt(away**2 + down**2)
    radius = look.eye_height * 0.95
    iris = tint(look.iris, 0.65 + 0.6 * edge(radius - 1.2 - far, 2))
    paint(picture, iris, ball * edge(radius - far))
    paint(picture, (12, 10, 10), ball * edge(radius * 0.42 - far))
    paint(picture, (250, 250, 250), 0.9 * ball * blob(away + 1.8, down + 1.8, 1.2, 1.2))
    lashes = edge(1.1 - np.abs(y - upper + 0.4), 1.2) * edge(1.06 - np.abs(across), 0.1)
    paint(picture, (34, 24, 22), 0.9 * lashes)
    rim = edge(0.6 - np.abs(y - lower), 1.2) * edge(1 - np.abs(across), 0.1)
    paint(picture, skin * np.float32(0.55), 0.6 * rim)


def _brows(picture: Picture, x: Picture, y: Picture, look: Look, now: Actions) -> None:
    side, hand = np.abs(x), np.sign(x)
    inner = 9.5 - 2.5 * max(0.0, now["brow_lower"])
    along = (side - inner) / (look.eye_x + look.eye_width + 6 - inner)
    bounded = np.clip(along, 0, 1)
    towards = (1 - bounded) ** 1.3
    height = look.brow_y + 3.5 * np.sin(bounded * 2.4) - 1.5
    height = (
        height + (7.5 * now["brow_raise"] * (1 + look.asymmetry * hand)) + 6.5 * now["brow_inner"] * (towards - 0.3)
    )
    height = height - 7.0 * now["brow_lower"] * (0.35 + 0.65 * towards)
    thick = look.brow_width * (1.1 - 0.75 * bounded**1.5)
    cover = edge(thick - np.abs(y - look.eye_y + height), 1.6) * edge(along, 0.08) * edge(1 - along, 0.15)
    paint(picture, np.array(look.hair, np.float32) * np.float32(0.8), 0.88 * cover)


def _folds(picture: Picture, x: Picture, y: Picture, look: Look, now: Actions) -> None:
    """From the nose around the mouth, and the chin that a pressed or sad mouth dimples."""
    side = np.abs(x)
    tip = look.eye_y + look.nose_length
    fold = _between(0.12 + 0.5 * now["cheek"] + 0.35 * now["upper_lip"] + 0.25 * now["nose"], 0, 1.2)
    spread = look.nose_width + 4 + 0.42 * (y - tip) + 4 * now["cheek"] * edge(y - tip - 4, 12)
    within = edge(y - tip + 5, 6) * edge(look.mouth_y + 6 - y, 10)
    _darken(picture, 0.42 * fold * np.exp(-(((side - spread) / 2.4) ** 2)) * within)
    chin = max(0.0, now["press"] - 0.4 * now["corner"])
    _darken(picture, 0.3 * chin * blob(x, y - look.mouth_y - 14, 13, 2.2))
    _darken(picture, -0.16 * max(0.0, now["cheek"]) * blob(side - 31, y - tip - 2, 8, 6))


def _mouth(picture: Picture, x: Picture, y: Picture, look: Look, now: Actions) -> None:
    half = look.mouth_width * (1 + 0.24 * now["stretch"] + 0.08 * now["corner"])
    across = x / half
    arch = np.clip(1 - across**2, 0, 1)
    corner = 7.5 * now["corner"]
    line = look.mouth_y + 0.35 * corner - corner * (1 + look.asymmetry * np.sign(x)) * across**2
    opened = max(0.0, now["open"] - 0.7 * max(0.0, now["press"]))
    lift, drop = 3.5 * max(0.0, now["upper_lip"]), 3.5 * max(0.0, now["lower_lip"])
    lift_middle = lift * (0.5 + 0.5 * np.clip(1 - np.abs(np.abs(across) - 0.45), 0, 1))
    upper = line - (4.5 * opened + lift_middle) * arch**0.7
    lower = line + (9.0 * opened + drop + 0.4) * arch**0.6
    full = look.lips * _between(1 - 0.55 * max(0.0, now["press"]) - 0.15 * now["stretch"], 0.3, 1.3)
    bow = 1 - 0.25 * np.exp(-((across / 0.14) ** 2)) - 0.25 * across**2
    ends = edge(1 - np.abs(across), 0.1)
    above, below = upper - full * 0.85 * bow * arch**0.5, lower + full * 1.1 * arch**0.55
    lips = edge(y - above, 1.4) * edge(below - y, 1.8) * ends
    # The upper lip faces down and is darker; the lower one catches the light in its middle.
    tone = np.where(y < line, 0.82, 1.0) + 0.14 * blob(x, y - lower - full * 0.45, 10, 1.8)
    paint(picture, tint(look.lip, tone), 0.92 * lips)
    hole = edge(y - upper) * edge(lower - y) * edge(0.97 - np.abs(across), 0.08)
    hole = hole * np.clip((lower - upper - 0.6) / 1.5, 0, 1)
    paint(picture, DARK, hole)
    paint(picture, TONGUE, 0.75 * hole * blob(x, y - lower, half * 0.55, 4.5))
    shown = 2.0 + 4.5 * _between(0.6 * now["upper_lip"] + 0.5 * now["corner"] + 0.2 * now["stretch"], 0, 1)
    paint(picture, TEETH, 0.93 * hole * edge(upper + shown - y, 1.2) * edge(0.82 - np.abs(across), 0.12))
    bottom = 3.5 * _between(0.9 * now["lower_lip"] - 0.2, 0, 1)
    paint(picture, (214, 206, 194), 0.85 * hole * edge(y - lower + bottom, 1.2) * edge(0.7 - np.abs(across), 0.12))
    seam = 0.75 * edge(0.8 - np.abs(y - line), 1.3) * ends * (1 - hole)
    paint(picture, np.array(look.lip, np.float32) * np.float32(0.45), seam)
    _darken(picture, 0.3 * blob(np.abs(x) - half - 0.5, y - line, 2.2, 2.4))
    _darken(picture, 0.22 * blob(x, y - below - 2.5, half * 0.6, 2.0))


def _darken(picture: Picture, amount: Picture) -> None:
    picture *= 1 - np.asarray(amount, np.float32)

"""Draws moving faces: an actor's head, the facial features for the current actions, and the pose in the frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemore_harness.demo import features
from blemore_harness.demo.actors import Actor, Look
from blemore_harness.demo.performance import Performance
from blemore_harness.demo.plan import FRAME_RATE
from blemore_harness.demo.skull import CANVAS, MIDDLE_X, MIDDLE_Y, Picture, draw_backdrop, draw_skull, tint
from blemore_harness.predictions import FloatArray

FRAME = 192
"""Side of a video frame in pixels; the face has about 120 pixels, well above the minimum of face detectors."""
DRAWN = 2
"""Every second frame is drawn and shown twice: the fastest movement, 6 shakes of the head a second, stays visible."""
TILES_DOWN, TILES_ACROSS = 4, 2
"""Tiles in which the head's canvas is warped into the frame; warps are smooth, so tiles can be large."""
ROOM = 12
"""Frame pixels around the resting head that it may move into."""
FACE_BOX = (slice(54, 210), slice(48, 176))
"""Rows and columns of the canvas that an expression can change."""
FLUSH = (16.0, -20.0, -18.0)
"""Added to red, green and blue of light skin for full blushing; paleness is a third of the opposite."""


@dataclass(frozen=True)
class Portrait:
    """The parts of an actor's image that all clips share.

    Attributes:
        look: the actor's look.
        head: the bare head, its colours multiplied by alpha.
        alpha: mask of the head.
        flush: added to the colours in `FACE_BOX` for full blushing.
        backdrop: the image behind the head.
        rows, columns: borders of the tiles that the head can be in.
    """

    look: Look
    head: Picture
    alpha: Picture
    flush: Picture
    backdrop: Picture
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def draw_portrait(actor: Actor, seed: int) -> Portrait:
    """Draw the parts that all clips of an actor share."""
    skull = draw_skull(actor.look, np.random.default_rng([seed, 2, actor.number]))
    look = actor.look
    flush = tint(np.array(FLUSH) * np.mean(look.skin) / 190, skull.blush[FACE_BOX])
    down = _borders(skull.alpha.max(axis=1), MIDDLE_Y, look.scale, look.shift_y, TILES_DOWN)
    across = _borders(skull.alpha.max(axis=0), MIDDLE_X, look.scale, look.shift_x, TILES_ACROSS)
    return Portrait(look, skull.rgb * skull.alpha, skull.alpha, flush, draw_backdrop(look, FRAME), down, across)


def _borders(present: Picture, middle: float, scale: float, shift: float, tiles: int) -> tuple[int, ...]:
    """Divide the range of the frame that the head can occupy."""
    first, *_, last = np.flatnonzero(present).tolist()
    start = max(0, int((first - middle) * scale + FRAME / 2 + shift) - ROOM)
    end = min(FRAME, int((last - middle) * scale + FRAME / 2 + shift) + ROOM)
    return tuple(np.linspace(start, end, tiles + 1).astype(int).tolist())


def draw_frames(portrait: Portrait, performance: Performance, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of a clip one after the other, each uint8 RGB (FRAME, FRAME, 3); see `DRAWN`.

    Args:
        portrait: the actor.
        performance: the tracks to draw.
        rng: random generator for camera noise, and for the drift of the head and the light.
    """
    from PIL import Image

    look = portrait.look
    poses = _poses(performance, rng)
    light = rng.uniform(0.94, 1.06)
    backdrop = Image.fromarray((portrait.backdrop.transpose(1, 2, 0) * light).clip(0, 255).astype(np.uint8))
    # Colours are premultiplied by alpha (mode RGBa), which avoids dark rims and conversions in every frame.
    bare = portrait.head * np.float32(light)
    head = np.empty((CANVAS, CANVAS, 4), np.uint8)
    head[..., :3] = bare.clip(0, 255).transpose(1, 2, 0)
    head[..., 3] = portrait.alpha * 255
    bare = np.ascontiguousarray(bare[:, *FACE_BOX])
    canvas = np.empty_like(bare)
    tracks = performance.face
    for index in range(0, performance.frames, DRAWN):
        now = {name: float(track[index]) for name, track in tracks.items()}
        # The mouth follows the loudness of the voice.
        now["open"] += 0.35 * float(performance.voice["envelope"][index])
        flush = min(max(now["flush"], -1.2), 1.2) * light
        np.multiply(portrait.flush, np.float32(flush if flush > 0 else flush / 3), out=canvas)
        canvas += bare
        features.draw_features(canvas, look, now, (MIDDLE_X - FACE_BOX[1].start, MIDDLE_Y - FACE_BOX[0].start))
        np.minimum(canvas, 255, out=canvas)
        head[(*FACE_BOX, slice(3))] = np.maximum(canvas, 0, out=canvas).transpose(1, 2, 0)
        mesh = _mesh(portrait, now, {name: float(track[index]) for name, track in poses.items()})
        image = Image.frombuffer("RGBa", (CANVAS, CANVAS), head, "raw", "RGBa", 0, 1)
        warped = image.transform((FRAME, FRAME), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
        frame = backdrop.copy()
        frame.paste(warped, (0, 0), warped)
        yield from itertools.repeat(np.asarray(frame), min(DRAWN, performance.frames - index))


def _poses(performance: Performance, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Tracks of the head: shift in frame pixels, rotation in radians, and the change of yaw and pitch by shaking."""
    face, count = performance.face, performance.frames
    phase = 2 * np.pi * (np.cumsum(face["shake_rate"]) / FRAME_RATE + rng.uniform())
    shake = np.maximum(face["shake"], 0) * np.sin(phase)
    time = np.arange(count) / FRAME_RATE
    drift = [
        rng.normal(0, 1.2) + rng.normal(0, 1.2) * np.sin(time * rng.uniform(1, 3) + rng.uniform(0, 6)) for _ in "xy"
    ]
    return {
        "x": drift[0] + 1.2 * shake,
        "y": drift[1] + 2.2 * np.abs(shake) + 2.5 * face["pitch"],
        "turn": 0.09 * face["roll"] + rng.normal(0, 0.02) + 0.012 * shake,
        "yaw": 5 * face["yaw"] + 1.5 * shake,
        "pitch": 6 * face["pitch"],
    }


Mesh = list[tuple[tuple[int, int, int, int], tuple[float, ...]]]


def _mesh(portrait: Portrait, now: Mapping[str, float], pose: Mapping[str, float]) -> Mesh:
    """Source position on the canvas of each tile of the frame: rotation, shift, yaw and pitch, dropped jaw."""
    look, rows, columns = portrait.look, portrait.rows, portrait.columns
    x = (np.array(columns)[None, :] - FRAME / 2 - look.shift_x - pose["x"]) / look.scale
    y = (np.array(rows)[:, None] - FRAME / 2 - look.shift_y - pose["y"]) / look.scale
    cos, sin = np.cos(pose["turn"]), np.sin(pose["turn"])
    # The head rotates around the neck, not the nose.
    u, v = cos * x + sin * (y - 70), -sin * x + cos * (y - 70) + 70
    # Parts near the viewer move most when the head turns, the outline does not move.
    near = (1 - (u / (look.width + 8)) ** 2).clip(0) * (1 - (v / (look.height + 8)) ** 2).clip(0)
    u = u - pose["yaw"] * near
    v = v - pose["pitch"] * near
    drop = 13 * np.clip(now["jaw"], -0.1, 1.3)
    start, reach = look.mouth_y - 6, look.height - look.mouth_y + 6
    v = np.where(v > start, start + (v - start) * reach / (reach + drop), v)
    u, v = u + MIDDLE_X, v + MIDDLE_Y
    tiles: Mesh = []
    for row in range(TILES_DOWN):
        for column in range(TILES_ACROSS):
            corners = ((row, column), (row + 1, column), (row + 1, column + 1), (row, column + 1))
            quad = tuple(float(value) for corner in corners for value in (u[corner], v[corner]))
            box = (columns[column], rows[row], columns[column + 1], rows[row + 1])
            tiles.append((box, quad))
    return tiles

"""The files of a competition bundle (version 2), written as a folder and as a zip file."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path

from blemore_harness.clips import EMOTIONS
from blemore_harness.disk import write_atomically
from blemore_harness.errors import ConfigError, DataError
from blemore_harness.files.leaderboard import INNER_NAME, KEY_ENDING
from blemore_harness.files.scoring import Reference
from blemore_harness.protocol.rules import SINGLE

LONGEST_TITLE = 64
"""Letters of a title that Codabench takes."""

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""A fixed timestamp, so that the same bundle gives the same bytes."""

COLOURS = ((0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73), (0x56, 0x62, 0xB4), (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2))
"""Of the five emotions that blend, in the logo; told apart by the colour-blind."""

WHITE = (0xFF, 0xFF, 0xFF)

LOGO_SIZE = 256
"""Pixels of the logo, in both directions."""


@dataclass(frozen=True)
class Competition:
    """What an organiser decides.

    Attributes:
        title: shown on Codabench.
        start, final, end: first day of the development phase, first day of the final phase, and its end.
        refused_score_0: give submissions that cannot be scored a Score of 0 in place of failing.
    """

    title: str
    start: date
    final: date
    end: date
    refused_score_0: bool = False

    def __post_init__(self) -> None:
        if not self.title.strip() or len(self.title) > LONGEST_TITLE or not self.title.isprintable():
            raise ConfigError(f"expected a title of 1 to {LONGEST_TITLE} letters, found {self.title!r}")
        if not self.start < self.final < self.end:
            raise ConfigError(
                f"expected days in the order start, final, end, found {self.start}, {self.final}, {self.end}"
            )


def write_bundle(folder: Path, reference: Reference, competition: Competition) -> Path:
    """Write the bundle.

    Args:
        folder: new, empty, or of an earlier bundle, whose files are replaced.
        reference: the true labels.

    Returns:
        The zip file, beside what it holds.

    Raises:
        ConfigError: a folder with something else in it.
        DataError: labels without blends, of which ACC_S would be 0 for everybody.
    """
    if not reference.blends:
        raise DataError(f"{reference.where} holds no blends: ACC_S would be 0 for every submission")
    content = make_files(reference, competition)
    target = folder / "bundle.zip"
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "competition.yaml").is_file():
        raise ConfigError(f"{folder} is not empty and holds no bundle: name a new folder")
    for name, data in content.items():
        write_atomically(folder / name, data)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.external_attr = 0o644 << 16
            file.writestr(entry, data, zipfile.ZIP_DEFLATED)
    write_atomically(target, archive.getvalue())
    return target


def make_files(reference: Reference, competition: Competition) -> dict[str, bytes]:
    """Return all files of the bundle by path."""
    truth = {
        name: {emotion: int(share) for emotion, share in zip(EMOTIONS, row, strict=True) if share}
        for name, row in zip(reference.ids, reference.truth.tolist(), strict=True)
    }
    template = {name + KEY_ENDING: [{"emotion": EMOTIONS[-1], "salience": float(SINGLE)}] for name in reference.ids}
    program = _read("scoring.py.txt")
    scoring = program.replace("REFUSED_SCORE_0 = False", f"REFUSED_SCORE_0 = {competition.refused_score_0}")
    words = {"title": competition.title, "clips": str(len(truth)), "blends": str(reference.blends)}
    texts = {
        "competition.yaml": _fill(_read("competition.yaml.txt"), _yaml_words(competition)),
        **{f"pages/{name}.md": _fill(_read(f"{name}.md.txt"), words) for name in ("overview", "evaluation", "files")},
        "terms.md": _read("terms.md.txt"),
        "scoring_program/metadata.yaml": "command: python3 scoring.py /app/input/ /app/output/\n",
        "scoring_program/scoring.py": scoring,
        "reference_data/labels.json": json.dumps(truth, indent=1) + "\n",
        "starting_kit/check.py": program,
        f"starting_kit/{INNER_NAME}": json.dumps({"predictions": template}, indent=4) + "\n",
        "starting_kit/README.md": _read("starting_kit.md.txt"),
    }
    return {"logo.png": draw_logo(), **{name: text.encode() for name, text in texts.items()}}


def _yaml_words(competition: Competition) -> Mapping[str, str]:
    # JSON text is a YAML scalar, whatever letters are in it.
    title = json.dumps(competition.title, ensure_ascii=False)
    days = {name: getattr(competition, name).isoformat() for name in ("start", "final", "end")}
    return {"title": title, **days}


def _fill(text: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    return text


def _read(name: str) -> str:
    return files(__package__).joinpath("files", name).read_text(encoding="utf-8")


def draw_logo() -> bytes:
    """Draw the logo: five overlapping discs, an emotion each, as PNG."""
    middle, ring, radius = LOGO_SIZE / 2, LOGO_SIZE * 0.22, LOGO_SIZE * 0.26
    # Corners of a regular pentagon, the first one on top.
    corners = ((0.0, -1.0), (0.951, -0.309), (0.588, 0.809), (-0.588, 0.809), (-0.951, -0.309))
    rows = []
    for y in range(LOGO_SIZE):
        row = bytearray([0])  # no filter
        for x in range(LOGO_SIZE):
            inside = [
                colour
                for (dx, dy), colour in zip(corners, COLOURS, strict=True)
                if (x - middle - ring * dx) ** 2 + (y - middle - ring * dy) ** 2 <= radius**2
            ]
            row += bytes(sum(channel) // len(channel) for channel in zip(*(inside or [WHITE]), strict=True))
        rows.append(bytes(row))
    header = struct.pack(">IIBBBBB", LOGO_SIZE, LOGO_SIZE, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )

"""The official protocol once more, as plain loops in the words of the rules, to check the fast code against.

It shares nothing with the harness and does not import it. Run as a script, it writes the golden results beside it:

    python tests/golden/literal_protocol.py
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from pathlib import Path

EMOTIONS = ["ang", "disg", "fea", "hap", "sad", "neu"]
ROWS = 100_000
SHOWN = 300
SEARCHED = 2_000
SEED = 20260201
HERE = Path(__file__).parent
GOLDEN = HERE / "protocol.json"


def linspace_grid() -> list[float]:
    """The 20 values of numpy.linspace(0.05, 0.95, 20), in its own order of operations."""
    step = (0.95 - 0.05) / 19
    return [k * step + 0.05 for k in range(19)] + [0.95]


def decode_row(values: list[float], alpha: float, beta: float) -> dict[str, int]:
    """Decode one row into {emotion: percentage}."""
    # 1. keep the two largest, ties to the lower index
    order = sorted(range(6), key=lambda k: -values[k])
    masked = [0.0] * 6
    for k in order[:2]:
        masked[k] = values[k]
    # 2. the largest is below alpha: it alone
    if masked[order[0]] < alpha:
        return {EMOTIONS[order[0]]: 100}
    # 3. zero what is strictly below alpha; one positive value left: it alone
    for k in range(6):
        if masked[k] < alpha:
            masked[k] = 0.0
    positive = [k for k in range(6) if masked[k] > 0]
    if not positive:
        return {EMOTIONS[order[0]]: 100}
    if len(positive) == 1:
        return {EMOTIONS[positive[0]]: 100}
    # 4. neutral never blends
    one, two = positive
    if EMOTIONS[two] == "neu":
        return {EMOTIONS[one]: 100} if masked[one] >= masked[two] else {"neu": 100}
    # 5. a blend
    if abs(masked[one] - masked[two]) <= beta:
        return {EMOTIONS[one]: 50, EMOTIONS[two]: 50}
    if masked[one] > masked[two]:
        return {EMOTIONS[one]: 70, EMOTIONS[two]: 30}
    return {EMOTIONS[one]: 30, EMOTIONS[two]: 70}


def presence(truth: list[dict[str, int]], predicted: list[dict[str, int]]) -> float:
    """ACC_P."""
    right = 0
    for true, guess in zip(truth, predicted, strict=True):
        if set(true) == set(guess):
            right += 1
    return right / len(truth)


def salience(truth: list[dict[str, int]], predicted: list[dict[str, int]]) -> float:
    """ACC_S."""
    right = blends = 0
    for true, guess in zip(truth, predicted, strict=True):
        if len(true) == 2:
            blends += 1
            if len(guess) == 2 and {name: round(float(share)) for name, share in guess.items()} == true:
                right += 1
    return right / blends if blends else 0.0


def search(rows: list[list[float]], truth: list[dict[str, int]]) -> dict[str, float]:
    """The official loop over all 400 pairs."""
    grid = linspace_grid()
    best: dict[str, float] = {}
    best_score = -1.0
    alone_presence = alone_salience = 0.0
    for alpha in grid:
        for beta in grid:
            predicted = [decode_row(row, alpha, beta) for row in rows]
            acc_p, acc_s = presence(truth, predicted), salience(truth, predicted)
            alone_presence, alone_salience = max(alone_presence, acc_p), max(alone_salience, acc_s)
            score = 0.5 * acc_p + 0.5 * acc_s
            if score > best_score:
                best_score = score
                best = {"alpha": alpha, "beta": beta, "acc_presence": acc_p, "acc_salience": acc_s}
    return {**best, "best_presence": alone_presence, "best_salience": alone_salience}


def percentages(label: dict[str, int]) -> list[int]:
    """A label as six numbers."""
    return [label.get(name, 0) for name in EMOTIONS]


def add_up(values: list[float]) -> float:
    """Add from left to right; the sum of Python 3.12 and later carries what rounding lost."""
    total = 0.0
    for value in values:
        total += value
    return total


def make_row(kind: int, source: random.Random) -> list[float]:
    """One row: random, peaked, tied, zeroed, sparse, on points of the grid, or of float32 precision."""
    if kind == 0:
        raw = [source.random() for _ in range(6)]
    elif kind == 1:
        raw = [source.random() ** 6 for _ in range(6)]
    elif kind == 2:
        return [source.randrange(0, 6) / 10 for _ in range(6)]
    elif kind == 3:
        raw = [source.choice((0.0, source.random())) for _ in range(6)]
    elif kind == 4:
        raw = [0.0] * 6
        for k in source.sample(range(6), source.randrange(0, 3)):
            raw[k] = source.choice((1.0, source.random()))
    elif kind == 5:
        grid = linspace_grid()
        return [source.choice((0.0, source.choice(grid), source.choice(grid) - source.choice(grid))) for _ in range(6)]
    else:
        raw = [source.random() for _ in range(6)]
        total = add_up(raw)
        return [struct.unpack("f", struct.pack("f", value / total))[0] for value in raw]
    total = add_up(raw)
    return [value / total for value in raw] if total else raw


def make_rows(count: int = ROWS) -> list[list[float]]:
    """The rows, the same on every machine."""
    source = random.Random(SEED)
    return [[max(value, 0.0) for value in make_row(i % 7, source)] for i in range(count)]


def make_truth(rows: list[list[float]]) -> list[dict[str, int]]:
    """Labels for rows, about as many blends as in the challenge; every third is what its row decodes to somewhere."""
    source = random.Random(SEED + 1)
    labels = []
    for row in rows:
        kind = source.random()
        if kind < 1 / 3:
            labels.append(decode_row(row, source.choice((0.2, 0.3)), 0.15))
        elif kind < 0.6:
            labels.append({source.choice(EMOTIONS): 100})
        else:
            one, two = sorted(source.sample(EMOTIONS[:5], 2))
            share = source.choice((30, 50, 70))
            labels.append({one: share, two: 100 - share})
    return labels


def pair_of(index: int) -> tuple[float, float]:
    """The pair of the grid that the row at `index` is decoded with: all 400 in turn."""
    grid = linspace_grid()
    return grid[index % 400 // 20], grid[index % 20]


def digest(decoded: list[list[int]]) -> str:
    """A digest of decoded rows, as int8 in C order."""
    return hashlib.sha256(bytes(share for row in decoded for share in row)).hexdigest()


def main() -> None:
    """Write the golden results."""
    rows = make_rows()
    decoded = [percentages(decode_row(row, *pair_of(i))) for i, row in enumerate(rows)]
    text = {
        "rows_sha256": hashlib.sha256(struct.pack(f"<{6 * ROWS}d", *(v for row in rows for v in row))).hexdigest(),
        "decoded_sha256": [digest(decoded[start : start + 10_000]) for start in range(0, ROWS, 10_000)],
        "search": search(rows[:SEARCHED], make_truth(rows[:SEARCHED])),
        "rows": [[i, rows[i], list(pair_of(i)), decoded[i]] for i in range(0, ROWS, ROWS // SHOWN)],
    }
    shown = ",\n  ".join(json.dumps(row) for row in text.pop("rows"))
    head = json.dumps(text, indent=1).removesuffix("\n}")
    GOLDEN.write_text(f'{head},\n "rows": [\n  {shown}\n ]\n}}\n')


if __name__ == "__main__":
    main()

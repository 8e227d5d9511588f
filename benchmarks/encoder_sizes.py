"""Print what every encoder costs at its real size with random weights: parameters, clips a second, peak memory.

    python benchmarks/encoder_sizes.py [--device cuda] [--encoders clip,videomae,...] [--clips 32] [--batch 16]
                                       [--small] [--limit 360] [--json benchmarks/results/h200.json]

Clips are generated, written and read as video files. "Forward" runs frames or waves that wait in memory, with the
precision and in the batches that extraction or prediction has. "Both ways" takes the gradients of all weights as well;
of encoders that are trained, and of heads, it is an epoch of training as the plugin does it, optimiser included.
"Waiting" is the share of that epoch in which the network had no batch; a GPU that is still busy meanwhile loses less.
Memory is the peak of torch's on a GPU, on a CPU that of the whole process. Each is timed on its second round, and an
encoder that fails is a row with the reason; the exit status is then 1. `--limit` gives an encoder up after so many
seconds and keeps what was measured till then. With `--small`, small networks show that it all runs. Encoders with
weights on disk write them to a temporary folder first: up to 4 GB, one encoder at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import frozen_work
import torch
import trained_work
from meters import Measured, free_memory, measure
from videos import Format, make_context, write_videos
from work import Order, check_gradients

from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.disk import write_atomically

MAKERS = {**trained_work.MAKERS, **frozen_work.MAKERS}

LIBRARIES = ("torch", "transformers", "timm", "torchvision", "torchaudio", "numpy", "av")

SMALL_FORMAT = Format(seconds=1.0, height=96, width=160)

HEADER = f"{'':20} {'weights':>9} {'forward':>20} {'both ways':>20} {'waiting':>8}"


@dataclass
class Row:
    """The measurements of one encoder; None where not possible.

    Attributes:
        encoder: its name, or a head's.
        parameters: numbers in the weights that run; layers that an encoder leaves out do not count.
        forward, both_ways: clips a second.
        forward_peak, both_ways_peak: bytes.
        waiting: share of a training epoch without a batch.
        failure: the reason why something is None.
    """

    encoder: str
    parameters: int | None = None
    forward: float | None = None
    forward_peak: int | None = None
    both_ways: float | None = None
    both_ways_peak: int | None = None
    waiting: float | None = None
    failure: str | None = None

    def draw(self) -> str:
        """Return the row of the table."""
        weights = "-" if self.parameters is None else f"{self.parameters / 1e6:.2f}M"
        ways = [_draw(self.forward, self.forward_peak), _draw(self.both_ways, self.both_ways_peak)]
        waiting = "" if self.waiting is None else f"{self.waiting:.0%}"
        line = f"{self.encoder:20} {weights:>9} {ways[0]:>20} {ways[1]:>20} {waiting:>8}".rstrip()
        return line if self.failure is None else f"{line}\n{'':20} {self.failure}"


class GivenUp(Exception):
    """An encoder timed out."""


@contextlib.contextmanager
def giving_up(seconds: float) -> Iterator[None]:
    """Raise `GivenUp` in the context after this many seconds; 0 for no limit."""

    def give_up(_signal: int, _frame: object) -> None:
        raise GivenUp(f"after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure_encoder(
    name: str, clips: Sequence[Clip], context: Context, batch: int, small: bool, limit: float = 0
) -> Row:
    """Measure one encoder for at most `limit` seconds; a failure is reported in its row."""
    row = Row(name)

    def time_of(work: Callable[[int], int]) -> Measured:
        work(min(batch, len(clips)))  # to warm up
        return measure(lambda: work(len(clips)), context.device)

    try:
        with giving_up(limit):
            with tempfile.TemporaryDirectory(prefix="weights-") as folder:
                work = MAKERS[name](Order(name, clips, context, batch, small, Path(folder)))
            row.parameters = work.parameters
            forward = time_of(work.forward)
            row.forward, row.forward_peak = forward.rate, forward.peak
            both = time_of(work.backward)
            check_gradients(work.network())
            row.both_ways, row.both_ways_peak = both.rate, both.peak
            row.waiting = work.waiting() if work.waiting else None
    except Exception as error:  # whatever libraries and devices can do: the others go on
        row.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return row


def _draw(rate: float | None, peak: int | None) -> str:
    if rate is None:
        return "-"
    memory = "" if peak is None else f", {peak / 2**30:.2f} GiB"
    return f"{rate:.4g}/s{memory}"


def describe(arguments: argparse.Namespace, form: Format) -> dict[str, object]:
    """Return a description of the machine and the software."""
    on_gpu = arguments.device.startswith("cuda")
    given = sys.argv[1:]
    if arguments.json:
        given = [arguments.json.name if word == str(arguments.json) else word for word in given]
    return {
        "command": " ".join(["python benchmarks/encoder_sizes.py", *given]),
        "device": torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if on_gpu else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "small networks": arguments.small,
        "clips": {"count": arguments.clips, "batch": arguments.batch, **asdict(form)},
    }


def choose(text: str) -> list[str]:
    """Read a list of names; `heads` stands for all heads."""
    heads = [name for name, make in trained_work.MAKERS.items() if make is trained_work.make_head]
    names = [part.strip() for part in text.split(",") if part.strip()]
    chosen = [name for part in names for name in (heads if part == "heads" else [part])]
    unknown = sorted(set(chosen) - set(MAKERS))
    if unknown or not chosen:
        raise SystemExit(f"no such encoder here: {', '.join(unknown) or 'none named'}; there are {', '.join(MAKERS)}")
    return chosen


def run(arguments: argparse.Namespace) -> int:
    """Measure, print row after row, write the file; returns the exit status."""
    names = choose(arguments.encoders)
    form = SMALL_FORMAT if arguments.small else Format(arguments.seconds, arguments.height, arguments.width)
    facts = describe(arguments, form)
    print(f"{arguments.clips} clips of {form.seconds:g} s, {form.width} x {form.height}; {facts['device']}")
    print(HEADER, flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="clips-") as place:
        clips, context = write_videos(Path(place), arguments.clips, form), make_context(Path(place), arguments.device)
        for name in names:
            rows.append(measure_encoder(name, clips, context, arguments.batch, arguments.small, arguments.limit))
            free_memory(arguments.device)
            print(rows[-1].draw(), flush=True)
            if arguments.json:  # after each, for a run that is broken off
                held = facts | {"rows": [asdict(row) for row in rows]}
                write_atomically(arguments.json, json.dumps(held, indent=2) + "\n")
    return int(any(row.failure for row in rows))


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoders", default=",".join(MAKERS), help="names, joined by commas; `heads` for all heads")
    parser.add_argument("--clips", type=int, default=None, help="default: 32, with --small 4")
    parser.add_argument("--batch", type=int, default=None, help="clips of a training step; default: 16, with --small 2")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip; --small has clips of its own")
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--small", action="store_true", help="small networks, to see that everything runs")
    parser.add_argument("--limit", type=float, default=0, help="seconds after which an encoder is given up; 0 for none")
    parser.add_argument("--json", type=Path, help="file for the figures, with device, versions and command")
    arguments = parser.parse_args()
    arguments.clips = arguments.clips or (4 if arguments.small else 32)
    arguments.batch = arguments.batch or (2 if arguments.small else 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, which would tear the table apart
        raise SystemExit(run(arguments))


if __name__ == "__main__":
    main()

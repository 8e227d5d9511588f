"""Check and measure everything that runs on a GPU, in a given time.

    python benchmarks/gpu_suite.py --minutes 8 [--device cuda] [--out DIR] [--only TEXT,TEXT]
    python benchmarks/gpu_suite.py --minutes 8 --device cpu --tiny        # the same logic, small, without a GPU

Needs the extra `encoders`, no weights and no internet: all networks have random weights. The parts, in order of
importance:

1. correctness: every encoder with a network, and every head, forwards and backwards in fp32 (TF32 off), TF32 and bf16,
   against its CPU result in fp32, on small networks; the embeddings of frozen encoders as a run gets them; and the
   faces that s4d finds. The tolerances stand in `gpu_parts`.
2. size: clips a second and peak memory of networks at real size: first those of the papers.
3. busy: share of the time in which the GPU computes while S4D and VideoMAE are trained with their own loader.
4. folds: heads of five folds trained together against one by one.
5. demo: a run of the demo on the device, its Scores against those on the CPU.
6. size: the other networks.

Each part is a line of DIR/gpu_suite.jsonl, written when it ends, behind a line that describes the machine. A part that
fails, dies or takes too long is a line with its error, and the others go on. A part is left out where the time left is
shorter than it took the last time according to that file (or than declared here). The exit status is 1 where a part
failed. Clips and caches are in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from encoder_sizes import LIBRARIES, MAKERS

FILE = "gpu_suite.jsonl"

PAPERS = (
    "s4d", "videomae", "wavlm", "hubert", "imagebind", "videomaev2", "videoswin", "clip", "hicmae", "timesformer",
    "wav2vec2-finetuned", "wav2vec2", "mlp-1024-512", "mlp-512",
)  # fmt: skip
"""Networks of the published systems, the most expensive and most used first."""

SLACK = 3.0
"""A part may take so many times its estimate before it is stopped, time permitting."""

START_SECONDS = 30.0
"""Time for a process to start and load the libraries."""


@dataclass(frozen=True)
class Part:
    """One thing to check or to measure.

    Attributes:
        kind: `correctness`, `size`, ...
        name: of the encoder or head; what is measured.
        seconds: estimate on a data-centre GPU, in seconds.
        work: name of a function of `gpu_parts`.
    """

    kind: str
    name: str
    seconds: float
    work: str

    @property
    def key(self) -> str:
        """What identifies the part in the file."""
        return f"{self.kind} {self.name}"


@dataclass
class Worker:
    """A process that carries out parts one after the other, and is replaced after a failure."""

    setting: dict[str, Any]
    process: Any = None
    channel: Any = field(default=None, repr=False)

    def carry_out(self, part: Part, limit: float) -> dict[str, Any]:
        """Return `figures`, or `error` with the figures that there are."""
        fresh = self.process is None
        if fresh:
            context = multiprocessing.get_context("spawn")
            self.channel, far = context.Pipe()
            self.process = context.Process(target=serve, args=(far, self.setting), daemon=True)
            self.process.start()
            far.close()
        self.channel.send((part, limit))
        try:
            if self.channel.poll(limit + START_SECONDS * fresh):
                answer: dict[str, Any] = self.channel.recv()
            else:
                answer = {"error": f"not finished after {limit:.0f} s", "figures": {}}
        except EOFError:
            self.process.join()
            answer = {"error": f"the process ended with exit status {self.process.exitcode}", "figures": {}}
        if "error" in answer:  # an error of a GPU spoils the process in which it happened
            self.end()
        return answer

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.channel.close()
            self.process = None


def serve(channel: Any, setting: dict[str, Any]) -> None:
    """Carry out parts until the other end is closed; runs in a process of its own."""
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - libraries print
    import gpu_parts

    given = gpu_parts.Setting(**setting)
    while True:
        try:
            part, limit = channel.recv()
        except EOFError:
            return
        try:
            work: Callable[..., dict[str, Any]] = getattr(gpu_parts, part.work)
            more = (limit,) if part.kind == "size" else ()
            answer = {"figures": work(part.name, given, *more) if part.kind != "demo" else work(given)}
        except gpu_parts.Differs as error:
            answer = {"error": str(error), "figures": error.figures}
        except Exception as error:  # whatever libraries and devices can do
            text = " ".join(str(error).split())[:300]
            answer = {"error": f"{type(error).__name__}: {text}", "figures": {}}
        channel.send(answer)


def list_parts() -> list[Part]:
    """Return all parts in order of importance."""
    import frozen_work
    from head_folds import HEADS

    parts = [Part("correctness", name, 2, "check_network") for name in MAKERS]
    parts += [Part("embeddings", name, 2, "check_embeddings") for name in frozen_work.MAKERS]
    parts += [Part("faces", "s4d", 5, "check_faces")]
    parts += [Part("size", name, 10, "measure_size") for name in PAPERS]
    parts += [Part("busy", name, 35, "measure_busy") for name in ("s4d", "videomae")]
    parts += [Part("folds", name, 10, "measure_folds") for name in HEADS]
    parts += [Part("demo", "run", 120, "run_demo")]
    parts += [Part("size", name, 10, "measure_size") for name in MAKERS if name not in PAPERS]
    return parts


def choose(parts: Sequence[Part], only: str | None) -> list[Part]:
    """Return the parts whose key holds one of the texts, all without any."""
    texts = only.split(",") if only else [""]
    chosen = [part for part in parts if any(text in part.key for text in texts)]
    if not chosen:
        raise SystemExit(f"no part is called {only}; there are {', '.join(part.key for part in parts)}")
    return chosen


def read_seconds(file: Path, device: str, tiny: bool) -> dict[str, float]:
    """Return how long each part took the last time on this device, from the lines of earlier runs."""
    found: dict[str, float] = {}
    alike = False
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        held = json.loads(line)
        if "device" in held:
            alike = (held["device"], held["tiny"]) == (device, tiny)
        elif alike and held.get("error", "") is None:
            found[held["part"]] = held["seconds"]
    return found


def describe(device: str, tiny: bool, minutes: float) -> dict[str, Any]:
    """Return a description of the machine and the software."""
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "device": device,
        "tiny": tiny,
        "minutes": minutes,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def draw(line: dict[str, Any]) -> str:
    """Return a line of the log for people."""
    told = f"{line['part']:34} {line['seconds']:6.1f} s  "
    figures = ", ".join(f"{key} {_short(value)}" for key, value in line["figures"].items() if value is not None)
    return told + (figures if line["error"] is None else f"FAILED: {line['error']}  {figures}").rstrip()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run(parts: Sequence[Part], device: str, tiny: bool, minutes: float, out: Path) -> int:
    """Carry out the parts for which there is time; returns the exit status."""
    ends = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    known = read_seconds(out / FILE, device, tiny)
    failed, left_out = 0, []
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder, (out / FILE).open("a", encoding="utf-8") as file:
        worker = Worker({"device": device, "tiny": tiny, "folder": Path(folder)})

        def write(line: dict[str, Any]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        facts = describe(device, tiny, minutes)
        write(facts)
        print(f"{len(parts)} parts, {minutes:g} minutes; {facts['gpu'] or device}", flush=True)
        for part in parts:
            left, estimate = ends - time.monotonic(), known.get(part.key, part.seconds)
            if left < estimate:
                left_out.append(part.key)
                continue
            started = time.monotonic()
            answer = worker.carry_out(part, min(left, max(SLACK * estimate, START_SECONDS)))
            seconds = round(time.monotonic() - started, 2)
            line = {"part": part.key, "seconds": seconds, "error": answer.get("error"), "figures": answer["figures"]}
            failed += line["error"] is not None
            write(line)
            print(draw(line), flush=True)
        write({"left out": left_out})
        worker.end()
    fine = len(parts) - len(left_out) - failed
    print(f"{fine} parts fine, {failed} failed, {len(left_out)} left out for want of time")
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    return int(failed > 0)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="[default: 8]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu-suite"), help="folder [default: gpu-suite]")
    parser.add_argument("--only", help="texts, joined by commas: parts whose kind and name hold one of them")
    parser.add_argument("--tiny", action="store_true", help="small networks, few clips and epochs")
    given = parser.parse_args()
    if given.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("torch finds no GPU; --device cpu --tiny shows that everything runs")
    raise SystemExit(run(choose(list_parts(), given.only), given.device, given.tiny, given.minutes, given.out))


if __name__ == "__main__":
    main()

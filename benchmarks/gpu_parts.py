"""What `gpu_suite.py` checks and measures: a function for each kind of part, which returns its figures."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from encoder_sizes import MAKERS, SMALL_FORMAT, measure_encoder
from meters import free_memory
from torch.utils._pytree import tree_leaves, tree_map
from videos import Format, draw_clips, make_context, write_videos
from work import Order

from blemore_harness.clips import Clip, Clips
from blemore_harness.heads.options import HEADS, HeadOptions
from blemore_harness.networks import build_mlp, seeded

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

TOLERANCES = {"fp32": (1e-4, 1e-3), "tf32": (1e-2, 5e-2), "bf16": (5e-2, 2.5e-1)}
"""Largest distance from the CPU's fp32 that is allowed by precision, of outputs and of gradients, as a share of the
latter's norm. A product of TF32 has 10 bits (5e-4), one of bf16 has 7 (4e-3); layers add up what they round, and
gradients go through them twice."""

EMBEDDING_TOLERANCE = 5e-2
"""As above, of embeddings at the precision that the encoder chooses on each device."""

BOX_TOLERANCE = 0.5
"""Pixels between two boxes of a face that are allowed: a GPU rounds the factors of convolutions to TF32."""

SCORE_TOLERANCE = 0.05
"""Difference of official Scores between devices that is allowed on the demo: thresholds jump with the last bits."""

BUSY_SECONDS = 12.0
"""Length of the training whose busy share is measured, about."""

SAMPLE_SECONDS = 0.2
"""Time between two samples of the GPU's busy share."""

SMALLEST = 1e-12

WIDTH = 168
"""Numbers of an embedding that heads are checked with."""

DEMO_PLUGINS = ("wav2vec2", "clip", "videomae")
"""Encoders of the demo's run: audio and video, frozen and trained end to end."""


@dataclass(frozen=True)
class Setting:
    """What all parts share.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: small networks, few clips and epochs, to see that everything runs.
        folder: for clips and caches, kept between parts.
    """

    device: str
    tiny: bool
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU to wait for."""
        return self.device.startswith("cuda")


class Differs(Exception):
    """Results of the device that are further from the CPU's than the tolerance.

    Args:
        text: which, by how much.
        figures: all that was measured.
    """

    def __init__(self, text: str, figures: dict[str, Any]) -> None:
        super().__init__(text)
        self.figures = figures

    def __reduce__(self) -> Any:
        """Let it pass between processes."""
        return (Differs, (str(self), self.figures))


def make_clips(setting: Setting, name: str, count: int, form: Format) -> list[Clip]:
    """Write clips once for all parts."""
    folder = setting.folder / name
    if not folder.exists():
        made = folder.with_suffix(".making")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        write_videos(made, count, form)
        made.rename(folder)
    return [Clip(f"film{k}", folder / f"{k}.mp4", content=f"{name}{k:04}") for k in range(count)]


# Correctness


@dataclass(frozen=True)
class Call:
    """A call of a module by other code than a module: with copies of its arguments."""

    module: torch.nn.Module
    arguments: Any
    named: Any


def check_network(name: str, setting: Setting) -> dict[str, Any]:
    """Compare a small network with random weights on the device with itself on the CPU, forwards and backwards.

    The calls are those that the plugin makes for a clip; each is repeated on the device in every precision.

    Raises:
        Differs: outputs or gradients beyond the tolerance.
    """
    place = setting.folder / "check"
    clips = make_clips(setting, "small", 2, SMALL_FORMAT)
    if name in HEADS:
        calls = [_head_call(name)]
    else:
        with tempfile.TemporaryDirectory(prefix="weights-") as folder:
            work = MAKERS[name](Order(name, clips, make_context(place, "cpu"), 2, True, Path(folder)))
        calls = record_calls(lambda: work.forward(1))
    figures: dict[str, Any] = {"calls": len(calls)}
    expected = [run_call(call, "cpu", "fp32") for call in calls]
    if not all(outputs for outputs, _ in expected) or not any(gradients for _, gradients in expected):
        raise RuntimeError(f"{len(calls)} calls of modules without outputs or gradients")
    for precision in TOLERANCES:
        found = [run_call(call, setting.device, precision) for call in calls]
        for k, what in enumerate(("outputs", "gradients")):
            both = [[tensor for call in results for tensor in call[k]] for results in (found, expected)]
            figures[f"{precision} {what}"] = distance(*both)
    wrong = list(_beyond(figures))
    if wrong:
        raise Differs("; ".join(wrong), figures)
    return figures


def record_calls(work: Callable[[], Any]) -> list[Call]:
    """Run some work and return the calls of modules in it that no module made, the first of each module."""
    calls: list[Call] = []
    depth = 0
    plain: Any = torch.nn.Module.__call__

    def call(module: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        nonlocal depth
        if not depth and all(module is not each.module for each in calls):
            calls.append(Call(module, tree_map(_copy, arguments), tree_map(_copy, named)))
        depth += 1
        try:
            return plain(module, *arguments, **named)
        finally:
            depth -= 1

    with mock.patch.object(torch.nn.Module, "__call__", call):
        work()
    return calls


def run_call(call: Call, device: str, precision: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Repeat a call in evaluation mode; returns outputs, and the gradients of all weights, on the CPU as float64."""
    module = copy.deepcopy(call.module).to(device).eval().requires_grad_(True)
    with computing(device, precision), torch.inference_mode(False), torch.enable_grad():
        arguments = tree_map(lambda part: _move(part, device), (call.arguments, call.named))
        leaves = _leaves(module(*arguments[0], **arguments[1]))
        losses = [(leaf.float() * _weights(leaf)).sum() for leaf in leaves if leaf.requires_grad]
        if losses:
            torch.stack(losses).sum().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return tuple([part.detach().double().cpu() for part in parts] for parts in (leaves, gradients))  # type: ignore


@contextlib.contextmanager
def computing(device: str, precision: str) -> Iterator[None]:
    """Compute at a precision inside the block: products in fp32 are exact, or their factors rounded to TF32."""
    kind = "cuda" if device.startswith("cuda") else "cpu"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=precision == "tf32"
    )
    try:
        with flags, torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def distance(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the norm of the difference of all tensors together, as a share of the norm of what is expected."""
    if [each.shape for each in found] != [each.shape for each in expected]:
        return float("inf")
    apart = sum(float((one - two).square().sum()) for one, two in zip(found, expected, strict=True))
    size = sum(float(each.square().sum()) for each in expected)
    share = (apart / max(size, SMALLEST)) ** 0.5
    return share if np.isfinite(share) else float("inf")


def check_embeddings(name: str, setting: Setting) -> dict[str, Any]:
    """Compare a frozen encoder's embeddings of two clips on the device with those on the CPU, as a run gets them.

    Raises:
        Differs: embeddings beyond the tolerance.
    """
    encoder = find_encoder(name)
    clips = Clips(tuple(make_clips(setting, "small", 2, SMALL_FORMAT)))
    options = encoder.resolve_options(encoder.Options(**dict(encoder.demo_options)), frozenset())
    rows = []
    for device in ("cpu", setting.device):
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            context = make_context(Path(folder), device)
            encoder.prepare(clips, options, context)
            embedded = encoder.embed(clips, options, context)
            order = [embedded.ids.index(name) for name in clips.ids]
            rows.append([torch.from_numpy(np.array(embedded.values[order], dtype=np.float64))])
    figures = {"embeddings": distance(rows[1], rows[0])}
    if figures["embeddings"] > EMBEDDING_TOLERANCE:
        raise Differs(f"embeddings {figures['embeddings']:.1e}, allowed {EMBEDDING_TOLERANCE:.1e}", figures)
    return figures


def check_faces(name: str, setting: Setting) -> dict[str, Any]:
    """Compare the faces that an encoder's detector finds in drawn frames on the device with those on the CPU.

    Raises:
        Differs: other numbers of faces, or boxes that are further apart than `BOX_TOLERANCE`.
    """
    from blemore_plugins.s4d.detector import FaceDetector
    from blemore_plugins.s4d.options import S4DOptions

    assert name == "s4d"
    [frames] = draw_clips(1, 4 if setting.tiny else 64)
    found, figures = [], {}
    for key, device in (("CPU", "cpu"), ("device", setting.device)):
        detector = FaceDetector(device, S4DOptions().smallest_face)
        detector.detect(frames)  # kernels are chosen
        started = time.perf_counter()
        found.append(detector.detect(frames))
        figures[f"frames a second, {key}"] = len(frames) / (time.perf_counter() - started)
    boxes = [[np.empty((0, 4)) if each is None else each.boxes for each in faces] for faces in found]
    figures["faces"] = sum(map(len, boxes[0]))
    if [len(each) for each in boxes[0]] != [len(each) for each in boxes[1]]:
        raise Differs(f"{figures['faces']} faces on the CPU, {sum(map(len, boxes[1]))} on the device", figures)
    figures["pixels apart"] = max(float(np.abs(one - two).max(initial=0)) for one, two in zip(*boxes, strict=True))
    if figures["pixels apart"] > BOX_TOLERANCE:
        raise Differs(f"boxes {figures['pixels apart']:.2f} pixels apart, allowed {BOX_TOLERANCE}", figures)
    return figures


def find_encoder(name: str) -> Any:
    """Return a bundled frozen encoder."""
    from blemore_plugins import hicmae, speech, vision

    return next(e for part in (hicmae, speech, vision) for e in part.blemore_encoders() if e.name == name)


def _beyond(figures: dict[str, Any]) -> Iterator[str]:
    for precision, allowed in TOLERANCES.items():
        for what, limit in zip(("outputs", "gradients"), allowed, strict=True):
            found = figures[f"{precision} {what}"]
            if not found <= limit:
                yield f"{precision} {what} {found:.1e}, allowed {limit:.1e}"


def _head_call(name: str) -> Call:
    """Return a call of a small head on random embeddings and, of one with queries, on random frame-level features."""
    from blemore_harness.heads.attention import build_pool, build_pooled_head, read_inputs

    class Pooled(torch.nn.Module):
        """A head with its pool as one module."""

        def __init__(self) -> None:
            super().__init__()
            pool = build_pool(options.queries, (24,), 1)
            mlp = build_mlp(pool.width + WIDTH, options.widths, options.batch_norm, options.dropout)
            self.head = build_pooled_head(pool, mlp)

        def forward(self, rows: torch.Tensor, clips: list[torch.Tensor]) -> Any:
            return self.head.mlp(read_inputs(self.head, rows, clips))

    options = HeadOptions(head=name)  # type: ignore[arg-type]
    with seeded(0):
        rows = torch.randn(8, WIDTH)
        if not options.queries:
            return Call(build_mlp(WIDTH, options.widths, options.batch_norm, options.dropout), (rows,), {})
        return Call(Pooled(), (rows, [torch.randn(length, 24) for length in range(3, 11)]), {})


def _copy(part: Any) -> Any:
    return torch.tensor(part.detach().cpu().numpy()) if _is_float(part) and part.dtype == torch.float32 else part


def _move(part: Any, device: str) -> Any:
    return part.detach().clone().to(device) if isinstance(part, torch.Tensor) else part


def _is_float(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.is_floating_point()


def _leaves(output: Any) -> list[torch.Tensor]:
    """Return the floating-point tensors of what a module returns: a tensor, a container, or an object with fields."""
    parts = [vars(part) if hasattr(part, "__dict__") and not isinstance(part, torch.Tensor) else part
             for part in tree_leaves(output)]  # fmt: skip
    return [leaf for leaf in tree_leaves(parts) if _is_float(leaf)]


def _weights(leaf: torch.Tensor) -> torch.Tensor:
    """Return the random gradient of an output, the same on every device."""
    return torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0)).to(leaf.device)


# Speed


def measure_size(name: str, setting: Setting, limit: float) -> dict[str, Any]:
    """Measure clips a second and peak memory of an encoder at its real size, forwards and backwards.

    Raises:
        Differs: a failure of the encoder, with what was measured before it.
    """
    count, batch, form = (2, 1, SMALL_FORMAT) if setting.tiny else (32, 16, Format())
    clips = make_clips(setting, "small" if setting.tiny else "real", count, form)
    context = make_context(setting.folder / "sizes", setting.device)
    row = asdict(measure_encoder(name, clips, context, batch, setting.tiny, limit))
    free_memory(setting.device)
    failure = row.pop("failure")
    if failure:
        raise Differs(failure, row)
    return row


def measure_busy(name: str, setting: Setting) -> dict[str, Any]:
    """Measure in what share of the time the GPU computes while an encoder is trained with its own loader."""
    count, batch, form = (2, 1, SMALL_FORMAT) if setting.tiny else (32, 16, Format())
    films = make_clips(setting, "small" if setting.tiny else "real", count, form)
    times = 1 if setting.tiny else 32
    clips = [replace(clip, id=f"{clip.id}-{k}") for k in range(times) for clip in films]
    context = make_context(setting.folder / "sizes", setting.device)
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        work = MAKERS[name](Order(name, clips, context, batch, setting.tiny, Path(folder)))
    work.backward(count)  # to warm up
    started = time.perf_counter()
    work.backward(count)
    often = BUSY_SECONDS / max(time.perf_counter() - started, 1e-3)
    many = count if setting.tiny else max(count, min(len(clips), round(often) * count))
    with BusySampler(setting.on_gpu) as sampler:
        started = time.perf_counter()
        done = work.backward(many)
        if setting.on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return {
        "clips": done, "rate": done / seconds, "waiting": work.waiting() if work.waiting else None,
        "busy": sampler.mean, "samples": len(sampler.shares),
    }  # fmt: skip


class BusySampler:
    """Reads the GPU's busy share (share of time with a kernel running) from nvidia-smi inside a `with` block.

    Args:
        wanted: whether there is a GPU; else nothing is read.
    """

    def __init__(self, wanted: bool) -> None:
        self.shares: list[float] = []
        self._command = [
            "nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0",
            f"--loop-ms={round(1000 * SAMPLE_SECONDS)}",
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self._wanted = wanted and shutil.which("nvidia-smi") is not None

    def __enter__(self) -> BusySampler:
        if self._wanted:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.terminate()
            lines = self._process.communicate()[0].split()
            self.shares = [int(line) / 100 for line in lines if line.isdigit()]

    @property
    def mean(self) -> float | None:
        """Mean of the samples; None without any."""
        return float(np.mean(self.shares)) if self.shares else None


def measure_folds(name: str, setting: Setting) -> dict[str, Any]:
    """Compare the time of heads of five folds trained together with that of one by one."""
    import head_folds

    from blemore_harness.heads.fitting import fit_head, fit_heads_together

    width, changes = head_folds.HEADS[name]
    clips, epochs, rounds = (200, 1, 1) if setting.tiny else (2456, 40, 2)
    task = head_folds.Task(clips, 64 if setting.tiny else width, setting.device)
    options = HeadOptions(**changes, epochs=epochs, patience=epochs, selection="held-out")
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:

        def one_by_one() -> list[Any]:
            pairs = zip(task.folds, task.contexts(Path(folder)), strict=True)
            return [fit_head(lambda asked, c=c: task.embed(asked, c), f, options, c) for f, c in pairs]

        def together() -> list[Any]:
            return fit_heads_together(task.embed, task.folds, options, task.contexts(Path(folder)))

        one_by_one()
        alone, models = head_folds.best_of(rounds, one_by_one)
        joint, others = head_folds.best_of(rounds, together)
    apart = float(np.abs(task.rows(models) - task.rows(others)).max())
    times = {"one by one": alone, "together": joint, "ratio": alone / joint}
    return {"epochs": epochs, **times, "largest difference": apart}


# The whole


def run_demo(setting: Setting) -> dict[str, Any]:
    """Run the demo on the device and on the CPU and compare the official Scores of all systems.

    Raises:
        Differs: a system that failed on one of them, or Scores beyond the tolerance.
    """
    import blemore_harness as bh

    data = make_tiny_demo(setting) if setting.tiny else None
    plugins = DEMO_PLUGINS[:1] if setting.tiny else DEMO_PLUGINS
    settings = {name: {"epochs": 2} for name in plugins} if setting.tiny else None
    figures: dict[str, Any] = {}
    for device in (setting.device, "cpu"):
        runs, started = setting.folder / f"runs-{device}-{len(figures)}", time.perf_counter()
        environment = {"BLEMORE_CACHE": str(setting.folder / "cache"), "BLEMORE_JOBS": "1"}
        with mock.patch.dict(os.environ, environment):
            record = bh.run(
                plugins=list(plugins), settings=settings, data=data, runs=runs, device=device, jobs=1,  # type: ignore
            ).record  # fmt: skip
        scores = {each.name: each.official.score.mean for each in record.finished if each.official.score}
        figures["device" if not figures else "cpu"] = {"seconds": time.perf_counter() - started, "scores": scores}
    one, two = figures["device"]["scores"], figures["cpu"]["scores"]
    figures["largest difference"] = max((abs(one[name] - two[name]) for name in one.keys() & two.keys()), default=None)
    if not one or one.keys() != two.keys() or not set(plugins) <= one.keys():
        told = [", ".join(names) or "nothing" for names in (one, two)]
        raise Differs(f"scored on the device: {told[0]}; on the CPU: {told[1]}", figures)
    if figures["largest difference"] > SCORE_TOLERANCE:
        raise Differs(f"Scores differ by {figures['largest difference']:.3f}, allowed {SCORE_TOLERANCE}", figures)
    return figures


def make_tiny_demo(setting: Setting) -> Path:
    """Write a dataset in the demo's format, of 60 clips of four tenths of a second."""
    from blemore_harness.data.download import DEMO_MARKER
    from builders import rows_of, write_metadata

    folder, rows = setting.folder / "tiny-demo", rows_of(6, 2)
    if not (folder / DEMO_MARKER).exists():
        clips = make_clips(setting, "tiny", len(rows), Format(0.4, 64, 64))
        write_metadata(folder, rows)
        for row, clip in zip(rows, clips, strict=True):
            shutil.copy(clip.video, folder / f"{row['filename']}.mp4")
        (folder / DEMO_MARKER).write_text("{}")
    return folder

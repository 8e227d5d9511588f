"""Print what encoders cost at their real sizes with random weights: clips a second, peak memory, waiting for clips.

    python benchmarks/finetuning.py [--device cuda] [--encoders videomae,timesformer,...] [--clips 64] [--small]

Films are written to a temporary folder and read as any others are: decoded once into the cache, then from there. Of the
encoders that are trained whole, two epochs of training and one prediction of all clips are timed, the second epoch
being the one that counts; "waiting" is the share of that epoch in which the network had no batch. Of the frozen ones it
is the whole of `prepare` without its decoding; "reading" is what the frames or waves alone take to be read again, one
clip after another. Frozen models need a GB of room each. With `--small`, small networks show that it all runs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemore_harness.cache import Cache
from blemore_harness.context import Context
from blemore_harness.dataset import Clip, Clips
from blemore_harness.frames import open_frames
from blemore_harness.media import read_sound
from blemore_harness.networks import fitting_threads
from blemore_plugins import finetuning, speech, vision
from blemore_plugins.hub import quiet_transformers

RATE, FPS = 16_000, 25
TRAINED = ("videomae", "timesformer", "wav2vec2-finetuned")
LARGE_SPEECH = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
}  # fmt: skip
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
FROZEN: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("CLIP", {}),
    "dinov2": ("Dinov2", {"image_size": 518, "patch_size": 14}),
    "dinov3": ("DINOv3ViT", {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                             "num_register_tokens": 4}),
    "vjepa2": ("VJEPA2", {}),
    "wav2vec2": ("Wav2Vec2", LARGE_SPEECH),
    "hubert": ("Hubert", LARGE_SPEECH | STABLE),
    "wavlm": ("WavLM", LARGE_SPEECH | STABLE),
}  # fmt: skip
"""Class and sizes (those of the default hub ids) of what is only looked through."""


class Silence:
    """A reporter that keeps to itself."""

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silence]:
        yield self

    def advance(self, count: int = 1) -> None: ...

    def log(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        print(f"  {message}")

    def note(self, name: str, value: object) -> None: ...


def write_film(path: Path, number: int, seconds: float, height: int, width: int) -> Clip:
    """Write a moving pattern with noise, and a tone with noise."""
    import av

    draw = np.random.default_rng(number)
    down, across = np.mgrid[0:height, 0:width] / 40
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "12"})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for t in range(round(seconds * FPS)):
            waves = [np.sin(down * (1 + c) + across + t / 5 + number) for c in range(3)]
            picture = 128 + 70 * np.stack(waves, axis=-1) + draw.normal(0, 8, (height, width, 3))
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        tone = 0.3 * np.sin(np.arange(round(seconds * RATE)) * (0.05 + 0.01 * number))
        sound = (tone + draw.normal(0, 0.05, tone.shape)).astype(np.float32)
        block = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
        block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return Clip(f"film{number}", path, content=hashlib.sha256(path.read_bytes()).hexdigest())


def measure_training(name: str, clips: Sequence[Clip], context: Context, batch: int, small: bool) -> str:
    """Train two epochs and predict once; one line of numbers."""
    from blemore_plugins.finetuning import sound, video
    from blemore_plugins.finetuning.batches import TrainingBatches
    from blemore_plugins.finetuning.loop import Course, train
    from blemore_plugins.finetuning.model import predict_rows

    encoder = next(e for e in finetuning.blemore_encoders() if e.name == name)
    options = encoder.Options(model="random-small" if small else "random", epochs=1, batch_size=batch)
    encoder.prepare(Clips(tuple(clips)), options, context)
    build, source = {
        "videomae": lambda: (video.build_videomae, video.open_video(options, video.IMAGENET, context)),
        "timesformer": lambda: (video.build_timesformer, video.open_video(options, video.TIMESFORMER, context)),
        "wav2vec2-finetuned": lambda: (sound.build_sound, sound.SoundSource(sound.open_waves(context), options)),
    }[name]()
    built = build(options, context)
    targets = np.full((len(clips), 6), 1 / 6, dtype=np.float32)
    with fitting_threads(built.network):
        for _ in range(2):
            reset_peak(context.device)
            batches = TrainingBatches(clips, targets, source, batch, context.device)
            started = time.perf_counter()
            train(Course("timing", built.network, built.anatomy, batches, 1, None), options, context)
            synchronise(context.device)
            seconds = time.perf_counter() - started
    peak = peak_of(context.device)
    started = time.perf_counter()
    predict_rows(built.network, clips, source, options, context)
    predicting = time.perf_counter() - started
    count = sum(p.numel() for p in built.network.parameters())
    return (
        f"{count / 1e6:7.1f}M  training {len(clips) / seconds:7.3g} clips/s, waiting {batches.waited / seconds:4.0%}"
        f"{peak}, predicting {len(clips) / predicting:7.3g} clips/s"
    )


def measure_frozen(name: str, clips: Sequence[Clip], context: Context, small: bool, folder: Path) -> str:
    """Extract once from clips whose frames are decoded; one line of numbers."""
    import transformers

    [encoder] = [e for e in (*vision.blemore_encoders(), *speech.blemore_encoders()) if e.name == name]
    options = encoder.Options(**(dict(encoder.demo_options) if small else {}))
    if hasattr(options, "source"):
        options = replace(options, source="media")
    count = 0
    if not small:
        kind, sizes = FROZEN[name]
        network = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes))
        with quiet_transformers():
            network.save_pretrained(folder / name)
        count = sum(p.numel() for p in network.parameters())
        del network
        options = replace(options, model=str(folder / name))
    frames = open_frames(context.cache)
    read: Callable[[Clip], Any] = frames.read
    if encoder.modality == "video":
        frames.prepare(clips, context)
    else:
        read = read_sound
    started = time.perf_counter()
    for clip in clips:
        read(clip)
    reading = time.perf_counter() - started
    reset_peak(context.device)
    started = time.perf_counter()
    encoder.prepare(Clips(tuple(clips)), options, context)
    synchronise(context.device)
    seconds = time.perf_counter() - started
    return (
        f"{count / 1e6:7.1f}M  extracting {len(clips) / seconds:7.3g} clips/s{peak_of(context.device)}, "
        f"reading alone {len(clips) / reading:7.3g} clips/s"
    )


def reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_of(device: str) -> str:
    return f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.startswith("cuda") else ""


def run(arguments: argparse.Namespace) -> None:
    names = [name.strip() for name in arguments.encoders.split(",") if name.strip()]
    unknown = sorted(set(names) - {*TRAINED, *FROZEN})
    if unknown:
        raise SystemExit(f"no such encoder here: {', '.join(unknown)}; there are {', '.join((*TRAINED, *FROZEN))}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        context = Context(arguments.device, 0, folder / "work", Cache(folder / "cache"), Silence())
        clips = [
            write_film(folder / f"{number}.mp4", number, arguments.seconds, arguments.height, arguments.width)
            for number in range(arguments.clips)
        ]
        where = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
        shape = f"{arguments.seconds:g} s, {arguments.width} x {arguments.height}"
        print(f"{len(clips)} clips of {shape}; batches of {arguments.batch}; {where}")
        started = time.perf_counter()
        open_frames(context.cache).prepare(clips, context)
        print(f"{'decoding frames once':20} {len(clips) / (time.perf_counter() - started):7.3g} clips/s")
        for name in names:
            if name in TRAINED:
                line = measure_training(name, clips, context, arguments.batch, arguments.small)
            else:
                line = measure_frozen(name, clips, context, arguments.small, folder)
            print(f"{name:20} {line}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoders", default=",".join((*TRAINED, *FROZEN)))
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--small", action="store_true", help="small networks, to see that everything runs")
    run(parser.parse_args())

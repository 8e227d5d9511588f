"""Putting the demo dataset on disk: encoding, equal file sizes, several processes, resuming, the marker."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import write_atomically
from blemore_harness.demo.actors import make_actor
from blemore_harness.demo.faces import FRAME, draw_frames, draw_portrait
from blemore_harness.demo.performance import play
from blemore_harness.demo.plan import FRAME_RATE, Plan, PlannedClip, make_plan
from blemore_harness.demo.voices import synthesise
from blemore_harness.errors import DataError, ExtraMissing

DEMO_MARKER = "blemore-demo.json"
UNFINISHED_MARKER = ".blemore-demo-unfinished.json"
GENERATOR_VERSION = 1
"""Counts changes of the generator that change clips: a demo of another version is made anew."""
CLIP_BYTES = 96 * 1024
"""Size of every clip file, reached by a trailing `free` atom: a size that is always the same tells nothing."""
CLIP_TIME = 1_735_689_600
"""Modification time of every clip, 2025-01-01 00:00 UTC: no order of making to be read from it."""
CHUNK = 6
"""Clips per job: enough to pay for drawing the actor's portrait, few enough to keep all processes busy to the end."""
VIDEO_OPTIONS = {"preset": "veryfast", "crf": "24", "maxrate": "180k", "bufsize": "120k", "threads": "1"}
AUDIO_BITS = 64_000


@dataclass(frozen=True)
class _Job:
    folder: Path
    seed: int
    actor: int
    clips: tuple[PlannedClip, ...]


def write_demo(
    directory: Path,
    *,
    seed: int = 0,
    actors: int = 12,
    test_actors: int = 2,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the demo dataset, BLEMORE-shaped: metadata, labelled clips in `part_NN`, unlabelled ones in `test`.

    The same arguments give the same bytes on the same machine, whatever `workers` is. An interrupted run is taken up
    where it stopped: each clip is written whole or not at all, and the marker comes last.

    Args:
        directory: an empty or new folder, or one that an interrupted run with the same arguments left.
        seed: decides everything random.
        actors: number of actors, test actors included.
        test_actors: number of actors whose clips are unlabelled.
        workers: processes that draw; None for one per CPU that this process may use.
        progress: called with clips done and clips in all, after each batch.

    Raises:
        ConfigError: numbers of actors that leave nobody to learn from.
        DataError: the folder holds another dataset.
        ExtraMissing: Pillow or PyAV is not installed.
    """
    _require_extra()
    plan = make_plan(seed, actors, test_actors)
    facts = _facts(plan)
    if _read_facts(directory / DEMO_MARKER) == facts:
        return
    _claim(directory, facts)
    total = len(plan.clips)
    jobs = list(_jobs(directory, plan))
    done = total - sum(len(job.clips) for job in jobs)
    for count in _work(jobs, workers or len(os.sched_getaffinity(0))):
        done += count
        if progress is not None:
            progress(done, total)
    for clip in plan.clips:
        os.utime(directory / clip.path, (CLIP_TIME, CLIP_TIME))
    write_atomically(directory / "train_metadata.csv", plan.metadata())
    write_atomically(directory / DEMO_MARKER, json.dumps(facts, indent=2, sort_keys=True) + "\n")
    (directory / UNFINISHED_MARKER).unlink(missing_ok=True)


def demo_is_complete(directory: Path, seed: int = 0, *, actors: int = 12, test_actors: int = 2) -> bool:
    """Say whether `directory` holds the finished demo that `write_demo` with the same arguments would write."""
    return _read_facts(directory / DEMO_MARKER) == _facts(make_plan(seed, actors, test_actors))


def write_clip(path: Path, frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.float32], rate: int) -> None:
    """Write one clip: H.264 and AAC in a QuickTime file of exactly `CLIP_BYTES`, without any tags.

    Args:
        path: where to; written whole or not at all.
        frames: uint8 RGB pictures of one size.
        sound: float32 (channels, samples) within -1 to 1.
        rate: samples per second.

    Raises:
        DataError: the clip does not fit in `CLIP_BYTES`.
    """
    data = _encode(frames, sound, rate)
    # A QuickTime atom is its length, big-endian, and four letters: players skip `free` ones.
    room = CLIP_BYTES - len(data)
    if room < 8:
        raise DataError(
            f"expected at most {CLIP_BYTES - 8} bytes for {path.name}, found {len(data)}: lower its bit rate"
        )
    write_atomically(path, data + room.to_bytes(4, "big") + b"free" + bytes(room - 8))
    os.utime(path, (CLIP_TIME, CLIP_TIME))


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "generator_version": GENERATOR_VERSION,
        "seed": plan.seed,
        "actors": plan.actors,
        "test_actors": plan.test_actors,
        "clips": len(plan.clips),
        "note": "generated by blemore-harness: drawn faces and synthetic voices, nobody real",
    }


def _read_facts(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return "unreadable"


def _claim(directory: Path, facts: dict[str, Any]) -> None:
    """Make the folder ours, or refuse to mix with what is there."""
    unfinished = directory / UNFINISHED_MARKER
    if _read_facts(unfinished) == facts and not (directory / DEMO_MARKER).exists():
        return
    if directory.exists() and any(directory.iterdir()):
        raise DataError(
            f"expected an empty folder for the demo dataset, found other files in {directory}: name a new one"
        )
    write_atomically(unfinished, json.dumps(facts, indent=2, sort_keys=True) + "\n")


def _jobs(directory: Path, plan: Plan) -> Iterator[_Job]:
    """Batches of clips of one actor that are not there yet."""
    for actor in range(plan.actors):
        clips = [clip for clip in plan.clips if clip.actor == actor and not (directory / clip.path).exists()]
        for start in range(0, len(clips), CHUNK):
            yield _Job(directory, plan.seed, actor, tuple(clips[start : start + CHUNK]))


def _work(jobs: list[_Job], workers: int) -> Iterator[int]:
    """Do the jobs and give the number of clips of each as it ends."""
    if workers == 1 or len(jobs) <= 1:
        yield from map(_draw, jobs)
        return
    # Spawned rather than forked: a fork of a process with running threads (torch) can hang.
    with ProcessPoolExecutor(min(workers, len(jobs)), multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_draw, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw(job: _Job) -> int:
    actor = make_actor(job.seed, job.actor)
    portrait = draw_portrait(actor, job.seed)
    for clip in job.clips:
        rng = np.random.default_rng([job.seed, 3, clip.actor, clip.take])
        performance = play(clip, actor.style, rng)
        sound = synthesise(actor.voice, performance, rng)
        write_clip(job.folder / clip.path, draw_frames(portrait, performance, rng), sound, actor.voice.rate)
    return len(job.clips)


def _encode(frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.float32], rate: int) -> bytes:
    import av

    file = io.BytesIO()
    # `bitexact` keeps the muxer from writing its version and the date.
    with av.open(file, "w", format="mov", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options=VIDEO_OPTIONS)
        video.width = video.height = FRAME
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=rate, layout="mono" if len(sound) == 1 else "stereo")
        audio.bit_rate = AUDIO_BITS
        audio.codec_context.options = {"aac_coder": "fast"}
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", "mono" if len(sound) == 1 else "stereo")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return file.getvalue()


def _require_extra() -> None:
    for module, package in (("PIL", "pillow"), ("av", "av")):
        try:
            __import__(module)
        except ImportError:
            raise ExtraMissing(
                f"the demo dataset needs the package {package}, which is not installed: "
                'pip install "blemore-harness[encoders]"'
            ) from None

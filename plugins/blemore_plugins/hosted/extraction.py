"""What is requested of a service clip by clip: several at a time, each kept as soon as it arrives.

Answers that were paid for are kept: an interrupted extraction continues where it stopped.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import MediaError, ServiceError, first_and_count
from blemore_plugins.hosted.pace import Pace, Stopped
from blemore_plugins.hosted.refusals import Refusal

FRUITLESS = 5
"""Number of successive clips without an answer after which the service is considered the cause."""

CALLS_FILE = "calls.jsonl"
"""File next to what is kept with the time of each answer, because a service may change under one model id."""


class Piece(Protocol):
    """What is asked for about a clip."""

    @property
    def clip(self) -> Clip:
        """The clip."""


Asked = TypeVar("Asked", bound=Piece)


@dataclass
class Tally:
    """The results of one extraction; reasons by clip id.

    Attributes:
        made: number of new answers.
        refused: clips that the service refused.
        broken: clips that cannot be read.
        failed: clips without a usable answer.
        stopped: why the extraction ended early, empty if it did not.
        fruitless: number of clips without a usable answer since the last one.
    """

    made: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    fruitless: int = 0


@dataclass(frozen=True)
class Service:
    """What is asked for, in words.

    Attributes:
        name: of the encoder.
        noun: of what the service gives, in the singular: `embedding`.
        workers: simultaneous requests.
    """

    name: str
    noun: str
    workers: int


def work(
    items: Sequence[Asked], get: Callable[[Asked], None], pace: Pace, service: Service, proven: bool, context: Context
) -> Tally:
    """Carry out `get` for all items, in order and several at a time; the tally lists the clips that failed and why.

    When it stops, also by Ctrl-C, pending requests are completed and kept: they are paid.

    Args:
        items: what is asked for.
        get: requests and keeps what is missing of an item, in a worker thread; raises `Refusal`, `Stopped` or
            `MediaError`.
        pace: is stopped as soon as no clip would succeed.
        service: what is asked for, in words.
        proven: whether such a request was answered before.
        context: shows the progress.
    """
    tally = Tally()
    with (
        concurrent.futures.ThreadPoolExecutor(service.workers, thread_name_prefix=service.name) as pool,
        context.progress(f"{service.name}: {service.noun}s", len(items)) as bar,
    ):
        running = [pool.submit(_outcome, item, get, pace) for item in items]
        try:
            for done in concurrent.futures.as_completed(running):
                _count(done.result(), tally, proven, service.noun)
                bar.advance()
                if tally.stopped:
                    pace.stop()
        except BaseException:
            pace.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tally


def _outcome(item: Asked, get: Callable[[Asked], None], pace: Pace) -> tuple[str, str, str]:
    """Return clip, verdict and reason; an empty verdict means that the item was not finished."""
    clip = item.clip.id
    if pace.stopped:
        return clip, "", ""
    try:
        get(item)
    except Stopped:
        return clip, "", ""
    except MediaError as error:
        return clip, "broken", str(error)
    except Refusal as refusal:
        return clip, refusal.verdict, refusal.reason
    except BaseException:
        pace.stop()  # the other workers would go on paying for a run that has failed
        raise
    return clip, "made", ""


def _count(outcome: tuple[str, str, str], tally: Tally, proven: bool, noun: str) -> None:
    """Add an outcome; stop if the service is the cause.

    As long as no request of this kind was answered, a refusal is attributed to the request and not to the clip.
    """
    name, verdict, reason = outcome
    if verdict == "made":
        tally.made += 1
        tally.fruitless = 0
    elif verdict == "stop":
        tally.stopped = tally.stopped or reason
    elif verdict == "broken":
        tally.broken[name] = reason
    elif verdict == "refused":
        tally.refused[name] = reason
        tally.fruitless += not (proven or tally.made)
    elif verdict == "failed":
        tally.failed[name] = reason
        tally.fruitless += 1
    if tally.fruitless >= FRUITLESS:
        tally.stopped = tally.stopped or f"no {noun} for {tally.fruitless} clips in a row: {reason}"


def report(tally: Tally, service: Service, context: Context, replacement: str, advice: str) -> None:
    """Raise if answers are missing, with the number of kept ones and how to continue.

    Args:
        tally: of the extraction.
        service: what was asked for, in words.
        context: warns of clips that are replaced.
        replacement: what replaces refused clips; empty where they are an error.
        advice: what to do about refused clips.

    Raises:
        ServiceError: the service stopped the extraction, or gave no usable answer for some clips.
        MediaError: clips that cannot be read, or that the service refused while there is no replacement.
    """
    kept = (
        f"{tally.made} new {service.noun}{'s are' if tally.made != 1 else ' is'} kept, run the same command again to "
        "continue"
        if tally.made
        else "nothing is lost"
    )
    if tally.stopped:
        raise ServiceError(f"{tally.stopped} ({kept})")
    if tally.failed:
        named, _, reason = _first(tally.failed)
        raise ServiceError(f"no usable answer for {named}: {reason} (all others are done; {kept})")
    if tally.broken:
        named, clip, reason = _first(tally.broken)
        raise MediaError(f"cannot send {named}: {reason} (all others are done and kept)", clip)
    if tally.refused:
        named, clip, reason = _first(tally.refused)
        if replacement:
            context.warn(f"{service.name}: {named} refused by the service, replaced by {replacement}: {reason}")
            return
        raise MediaError(f"the service refuses {named}: {reason}. All others are done and kept. {advice}", clip)


def _first(reasons: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the first clip and their number as text; its id; its reason."""
    clip = min(reasons)
    return first_and_count(sorted(reasons), "clip"), clip, reasons[clip]


@contextlib.contextmanager
def alone(folders: Sequence[Path], service: Service, context: Context) -> Iterator[None]:
    """Lock these folders for one process at a time, so that no clip is paid for twice."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / ".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                context.log(f"{service.name}: another process extracts the same {service.noun}s, waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def note_call(folder: Path, clip: Clip, **facts: object) -> None:
    """Append a line about an answer in a single write, which is atomic among threads and processes."""
    line = json.dumps({"content": clip.content, "made": now(), **facts}) + "\n"
    with (folder / CALLS_FILE).open("a") as file:
        file.write(line)


def read_calls(folder: Path) -> list[dict[str, Any]]:
    """Return the lines about answers, without one that a crash has cut short."""
    calls = folder / CALLS_FILE
    found = []
    for line in calls.read_text().splitlines() if calls.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def read_dates(folders: Sequence[Path], clips: Clips) -> list[str]:
    """Return the first and the last time at which answers about these clips were made; empty if unknown."""
    wanted = {clip.content for clip in clips}
    made = [call["made"] for folder in folders for call in read_calls(folder) if call["content"] in wanted]
    return [min(made), max(made)] if made else []

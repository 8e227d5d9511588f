"""Tries packages, decoders, the GPU and encoders without clips, in a process of its own.

A package that crashes on import, or one that was built for another torch, takes only that process with it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context, Silent
from blemore_harness.errors import ExtraMissing, HarnessError, WeightsMissing, printable
from blemore_harness.hookspecs import Encoder, Requirement
from blemore_harness.options import build_options
from blemore_harness.systems.plugins import Plugins, load_plugins
from blemore_harness.systems.submission import plain_name

OWN = (
    Requirement("torch", least="2.11", below="2.15"),
    Requirement("av", least="18"),
    Requirement("pillow", module="PIL", least="10"),
)
"""What the harness itself uses: for heads, for clips, for shared frames."""

SECONDS = 240
"""How long a dry run may take: imports from a cold network disk are slow."""

CODE = (
    "import json, sys; from pathlib import Path; from blemore_harness.doctor.dry_run import dry_run; "
    "Path(sys.argv[2]).write_text(json.dumps(dry_run(json.loads(sys.argv[1]))))"
)
"""What the other process runs: the request as JSON, and where to leave the answer."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def dry_run_apart(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `dry_run` finds in another process, without a network.

    Returns:
        as of `dry_run`; with `crashed`, the last line that the process left, where it did not come to an end.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        path = os.pathsep.join(filter(None, (*sys.path, os.environ.get("PYTHONPATH", ""))))
        command = [sys.executable, "-c", CODE, json.dumps(request), str(answer)]
        try:
            done = subprocess.run(
                command, env={**os.environ, **OFFLINE, "PYTHONPATH": path}, capture_output=True, text=True,
                timeout=SECONDS, check=False, stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
            if answer.exists():
                found: dict[str, Any] = json.loads(answer.read_text())
                return found
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        except subprocess.TimeoutExpired:
            last = [f"not done after {SECONDS} s"]
        return {"crashed": printable(last[0])[:300]}


def dry_run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what works of everything that the request names; never raise for what is found.

    Args:
        request: `encoders`, their names; `options` by encoder; `feature_sets` of the dataset; `demo`, whether it is the
            generated one.

    Returns:
        packages: by name, `version` (None where not installed), `error` (why it cannot be imported), and the fields of
            the `Requirement`; those of all installed encoders where the request names none.
        keys: names of the variables that hold keys, of the same encoders.
        gpu: name, bytes free and in all, and whether bfloat16 is fast; None without.
        clip: what decoding a generated clip ended in, `ok` or an error.
        encoders: by name, `error` (empty where it is ready) and its `kind`; of weights that are missing (`weights`)
            also what to do without a network (`todo`), and from where they are fetched with one (`source`).
    """
    _cut_off()
    plugins = load_plugins()
    needed = {need.name: need for need in (*OWN, *_requirements(plugins, request))}
    packages = [need for need in needed.values() if need.kind == "package"]
    found: dict[str, Any] = {
        "packages": {need.name: {**asdict(need), **_try_import(need)} for need in packages},
        "keys": sorted({*needed} - {need.name for need in packages}),
    }
    usable = {name for name, state in found["packages"].items() if state["version"] and not state["error"]}
    found["gpu"] = _describe_gpu() if "torch" in usable else None
    found["clip"] = _decode_clip() if {"av", "pillow"} <= usable else "not tried: a decoder is missing"
    found["encoders"] = {name: _try_encoder(name, plugins, request) for name in request["encoders"]}
    return found


def _requirements(plugins: Plugins, request: Mapping[str, Any]) -> Iterable[Requirement]:
    """Ask encoders what they need; one that cannot tell is reported with its own row, by `_try_encoder`."""
    offered = [name for name, offers in plugins.offers.items() if isinstance(offers[0].system, Encoder)]
    for name in request["encoders"] or offered:
        try:
            system, options = _resolve(name, plugins, request)
            yield from _checked(system.requirements(options))
        except BaseException:
            continue


def _resolve(name: str, plugins: Plugins, request: Mapping[str, Any]) -> tuple[Encoder, Any]:
    """Look an encoder up, and resolve its options; those of the demo only where it is asked for by name."""
    system = plugins.encoder(plain_name(name)).system
    assert isinstance(system, Encoder)
    demo = request["demo"] and request["encoders"]
    given = {**(system.demo_options if demo else {}), **request["options"].get(name, {})}
    return system, system.resolve_options(
        build_options(name, system.Options, given), frozenset(request["feature_sets"])
    )


def _checked(requirements: Iterable[Requirement]) -> list[Requirement]:
    found = list(requirements)
    wrong = [each for each in found if not isinstance(each, Requirement)]
    if wrong:
        raise TypeError(f"`requirements`: expected Requirement objects, found {type(wrong[0]).__name__}")
    return found


def _cut_off() -> None:
    """Cut this process off from the network: libraries would fetch weights."""
    look_up = socket.getaddrinfo

    def refuse(host: Any, *arguments: Any, **named: Any) -> Any:
        if host in (None, "", "localhost", "127.0.0.1", "::1"):
            return look_up(host, *arguments, **named)
        raise OSError("no network in a dry run")

    socket.getaddrinfo = refuse


def _try_import(need: Requirement) -> dict[str, Any]:
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return {"version": None, "error": ""}
    try:
        importlib.import_module(need.module or need.name.replace("-", "_"))
    except BaseException as error:  # packages end imports in every way
        return {"version": version, "error": _brief(error)}
    return {"version": version, "error": ""}


def _describe_gpu() -> dict[str, Any] | None:
    import torch

    try:
        if not torch.cuda.is_available():
            return None
        free, total = torch.cuda.mem_get_info()
        major, _ = torch.cuda.get_device_capability()
        return {"name": torch.cuda.get_device_name(), "free": free, "total": total, "bfloat16": major >= 8}
    except Exception as error:  # a driver that does not fit
        return {"error": _brief(error)}


def _decode_clip() -> str:
    """Write a clip of one second and read it back; return `ok` or what went wrong."""
    from blemore_harness.demo.clipfile import write_clip
    from blemore_harness.demo.faces import FRAME
    from blemore_harness.demo.plan import FRAME_RATE
    from blemore_harness.media.audio import read_audio
    from blemore_harness.media.frames import read_frames

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mov"
            levels = np.linspace(40, 200, FRAME_RATE).astype(np.uint8)
            frames = np.broadcast_to(levels[:, None, None, None], (FRAME_RATE, FRAME, FRAME, 3))
            sound = 0.3 * np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000)
            write_clip(path, iter(frames), sound.astype(np.float32)[None], 16_000)
            clip = Clip("one-second", path)
            seen, heard = read_frames(clip), read_audio(clip)
        # Codecs round; a wrong decoder gives something else altogether.
        right = seen.shape == frames.shape and np.abs(seen.astype(int) - frames).max() < 20
        return (
            "ok" if right and len(heard) >= 15_000 else f"decoded {seen.shape} and {heard.shape}, not what was written"
        )
    except Exception as error:
        return _brief(error)


def _try_encoder(name: str, plugins: Plugins, request: Mapping[str, Any]) -> dict[str, str]:
    """Prepare an encoder with no clips: it looks for weights, packages and keys, and has nothing to compute."""
    try:
        system, options = _resolve(name, plugins, request)
        _checked(system.requirements(options))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            context = Context("cpu", 0, place, Cache(place / "cache"), Silent())
            system.prepare(Clips(()), options, context)
        if type(system).fit is Encoder.fit and importlib.util.find_spec("torch") is None:
            raise ExtraMissing("its head needs torch: pip install 'blemore-harness[encoders]'")
    except WeightsMissing as error:
        told = {"kind": "weights", "error": printable(str(error)), "todo": printable(error.todo)}
        return {**told, "source": printable(error.source)} if error.source else told
    except HarnessError as error:
        return {"kind": type(error).__name__, "error": printable(str(error))}
    except BaseException as error:
        return {"kind": "crash", "error": _brief(error)}
    return {"kind": "", "error": ""}


def parts_of(encoders: Sequence[str]) -> tuple[str, ...]:
    """Return the single encoders of concatenated ones (`a+b`), each once.

    >>> parts_of(["wavlm+imagebind", "wavlm"])
    ('wavlm', 'imagebind')
    """
    return tuple(dict.fromkeys(part for name in encoders for part in name.split("+")))


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)[:300]

"""A run's kept models in one zip file, for another machine.

    bundle.json                            schema, run, system, and the SHA-256 of every other file
    RUN/record.json, RUN/decoders.json     without paths of the machine that wrote them
    systems/NAME-DIGEST/identity.json, final.json, final-model/*

Nothing in it is code: the plugins that made the models must be installed where it is opened.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from blemore_harness.disk import atomic_file, read_json
from blemore_harness.errors import RunError, advise
from blemore_harness.files.runs import DECODERS_FILE, RECORD_FILE, SystemFolder, digest_whole, folder_name
from blemore_harness.record.types import Record

BUNDLE_FILE = "bundle.json"
BUNDLE_SCHEMA = 1
ENDINGS = {".json", ".safetensors"}
CHUNK = 1 << 20
NO_BUNDLE = "{} is no bundle: expected a zip file that `blemore-harness bundle` wrote"


def write_bundle(run: Path, record: Record, system: str, systems: Sequence[SystemFolder], output: Path) -> None:
    """Write the models of some systems of a run into a zip file.

    Args:
        run: the run's folder.
        record: of the run.
        system: who answers by default.
        systems: the folders of the system and its base models; one that keeps no model goes without.
        output: the zip file; replaced whole if it exists.

    Raises:
        RunError: a model that was damaged.
    """
    inside = {folder.path.name for folder in systems}
    bare = replace(
        record, data=replace(record.data, root=""), execution=replace(record.execution, command=()), warnings=(),
        systems=tuple(each for each in record.systems if folder_name(each.name, each.digest) in inside),
    )  # fmt: skip
    texts = {
        f"{run.name}/{RECORD_FILE}": json.dumps(bare.to_json(), indent=2),
        f"{run.name}/{DECODERS_FILE}": json.dumps(read_json(run / DECODERS_FILE)),
    }
    files: dict[str, Path] = {}
    for folder in systems:
        found = [folder.path / name for name in ("identity.json", "final.json")]
        if folder.keeps("final"):
            found += folder.read_model("final").rglob("*")
        home = folder.path.parent.parent
        files |= {each.relative_to(home).as_posix(): each for each in found if each.is_file()}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    digests |= {name: digest_whole(path) for name, path in files.items()}
    with atomic_file(output) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        facts = {"schema": BUNDLE_SCHEMA, "run": run.name, "system": system, "files": digests}
        archive.writestr(BUNDLE_FILE, json.dumps(facts, indent=2))
        for name, text in texts.items():
            archive.writestr(name, text)
        for name, path in sorted(files.items()):
            archive.write(path, name)


def open_bundle(bundle: Path, folder: Path) -> tuple[Path, str]:
    """Unpack a bundle into a folder; return the folder of its run, whose systems lie beside it, and who answers.

    Raises:
        RunError: no bundle, one of a later version, one that was damaged, or that holds what no bundle holds.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if BUNDLE_FILE not in members:
                raise RunError(NO_BUNDLE.format(bundle))
            # As they are written: so that nothing can become larger than the file itself.
            packed = [each.filename for each in members.values() if each.compress_type != zipfile.ZIP_STORED]
            if packed or sum(each.file_size for each in members.values()) > bundle.stat().st_size:
                raise RunError(f"{bundle} was damaged or tampered with: expected files that are not compressed")
            facts = json.loads(archive.read(BUNDLE_FILE))
            if facts.get("schema") != BUNDLE_SCHEMA:
                raise RunError(
                    f"expected a bundle of schema {BUNDLE_SCHEMA}, found {facts.get('schema')!r} in {bundle}: it was "
                    "written by another version of the harness"
                )
            for name, digest in facts["files"].items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or path.suffix not in ENDINGS or name not in members:
                    raise RunError(f"{bundle} was damaged or tampered with: {name}")
                _unpack(archive, members[name], folder / path, digest, bundle)
            name, system = str(facts["run"]), str(facts["system"])
    except FileNotFoundError as error:
        raise RunError(f"no file {bundle}: expected the name of a run, or a file that `bundle` wrote") from error
    except OSError as error:
        raise RunError(f"cannot read {bundle}: {advise(error)}") from error
    except zipfile.BadZipFile as error:
        raise RunError(NO_BUNDLE.format(bundle)) from error
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(f"{bundle} was damaged or tampered with: {BUNDLE_FILE} is not as it was written") from error
    run = folder / name
    if name in ("", ".", "..") or run.name != name or not (run / RECORD_FILE).is_file():
        raise RunError(f"{bundle} was damaged or tampered with: {RECORD_FILE} is missing")
    return run, system


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, digest: str, bundle: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with archive.open(member) as source, target.open("wb") as file:
        while chunk := source.read(CHUNK):
            found.update(chunk)
            file.write(chunk)
    if found.hexdigest() != digest:
        raise RunError(f"{bundle} was damaged or tampered with: {member.filename}")

"""Commands for the models that a run keeps: predict, bundle."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore_harness.cli.root import (
    cli,
    device_option,
    find_run,
    json_option,
    keeping_stdout,
    open_reporter,
    runs_option,
)

if TYPE_CHECKING:
    from blemore_harness.running.new_clips import ClipAnswer, KeptModels

system_option = click.option("--system", metavar="NAME", help="System of the run [default: the one of its test clips].")


@cli.command()
@click.argument("run")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write .csv or .json there."
)
@system_option
@device_option
@runs_option
@json_option
def predict(
    run: str, clips: tuple[Path, ...], output: Path | None, system: str | None, device: str, runs: Path, as_json: bool
) -> int:
    """Label new clips with the models of a run.

    RUN is the name or folder of a run, or a file that `bundle` wrote; CLIPS are video files or folders of them. A clip
    that cannot be used is a row with the reason.
    """
    from blemore_harness.errors import ConfigError
    from blemore_harness.running.new_clips import list_clips

    if output is not None and output.suffix not in (".csv", ".json"):
        raise ConfigError(f"expected a .csv or .json file after -o, found {output}")
    with keeping_stdout(), _opened(run, runs, device, system) as models:
        answers = list(models.predict(list_clips(clips)))
        bases = [encoder.name for encoder in models.run.encoders] if models.run.fusion else []
    text = _as_json(answers) if as_json or (output and output.suffix == ".json") else _as_csv(answers, bases)
    if output is None:
        click.echo(text, nl=False)
    else:
        from blemore_harness.disk import write_atomically

        write_atomically(output, text)
        click.echo(f"{output}: {len(answers)} clips")
    return 0 if all(answer.label is not None for answer in answers) else 1


@cli.command()
@click.argument("run")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.zip")
@system_option
@runs_option
def bundle(run: str, output: Path, system: str | None, runs: Path) -> None:
    """Write the models of a run into one file.

    `predict FILE.zip CLIP` takes it on another machine, where the same plugins are installed.
    """
    from blemore_harness.files.bundles import write_bundle
    from blemore_harness.files.runs import read_record

    folder = find_run(runs, run)
    with keeping_stdout(), _opened(run, runs, "cpu", system) as models:
        folders = [models.folders[each.name] for each in models.run.systems]
    write_bundle(folder, read_record(folder), folders, output)
    click.echo(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, models of {', '.join(s.name for s in models.run.systems)}"
    )


@contextmanager
def _opened(run: str, runs: Path, device: str, system: str | None) -> Iterator[KeptModels]:
    """Open the kept models of a run, or of a bundle."""
    from blemore_harness.disk import cache_root
    from blemore_harness.files.bundles import open_bundle
    from blemore_harness.files.runs import read_record
    from blemore_harness.running.new_clips import open_models
    from blemore_harness.systems.plugins import load_plugins

    with tempfile.TemporaryDirectory(prefix="blemore-predict-") as scratch:
        work = Path(scratch)
        packed = run.endswith(".zip") and Path(run).is_file()
        folder = open_bundle(Path(run), work / "bundle") if packed else find_run(runs, run)
        yield open_models(
            folder, read_record(folder), load_plugins(), work / "work", cache_root() / "arrays", device,
            open_reporter(), system,
        )  # fmt: skip


def _as_json(answers: list[ClipAnswer]) -> str:
    return json.dumps([answer.to_json() for answer in answers], indent=2) + "\n"


def _as_csv(answers: list[ClipAnswer], bases: list[str]) -> str:
    """Return a table: the label as in the challenge's metadata, probabilities, those of base models, remarks."""
    from blemore_harness.clips import EMOTIONS

    columns = ["clip", "emotion_1", "salience_1", "emotion_2", "salience_2", *EMOTIONS]
    columns += [f"{base}:{emotion}" for base in bases for emotion in EMOTIONS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "remarks"])
    for answer in answers:
        label = [] if answer.label is None else [(e, int(v)) for e, v in zip(EMOTIONS, answer.label, strict=True) if v]
        label.sort(key=lambda pair: -pair[1])
        cells: list[object] = [answer.clip, *(cell for pair in label for cell in pair)]
        cells += [""] * (5 - len(cells))
        cells += [""] * 6 if answer.probabilities is None else list(map(float, answer.probabilities))
        for base in bases:
            cells += list(map(float, answer.base_models[base])) if base in answer.base_models else [""] * 6
        writer.writerow([*cells, "; ".join(answer.remarks)])
    return text.getvalue()

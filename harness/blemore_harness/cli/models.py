"""Commands for the models that a run keeps: predict, bundle."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from blemore_harness.cli.completion import complete_runs
from blemore_harness.cli.root import (
    cli,
    device_option,
    find_run,
    json_option,
    keeping_stdout,
    open_reporter,
    runs_option,
)
from blemore_harness.errors import printable

if TYPE_CHECKING:
    from blemore_harness.context import Reporter
    from blemore_harness.record.types import Record, SystemFacts
    from blemore_harness.running.new_clips import ClipAnswer, KeptModels

Writer = Callable[[IO[str], "KeptModels", Iterable["ClipAnswer"]], Iterator["ClipAnswer"]]

system_option = click.option("--system", metavar="NAME", help="System of the run [default: the one of its test clips].")


@cli.command()
@click.argument("run", shell_complete=complete_runs)
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write there, block by block: .csv or .json.",
)  # fmt: skip
@system_option
@device_option
@runs_option
@json_option
def predict(
    run: str, clips: tuple[Path, ...], output: Path | None, system: str | None, device: str, runs: Path, as_json: bool
) -> int:
    """Label new clips with the models of a run.

    RUN is the name or folder of a run, or a file that `bundle` wrote; CLIPS are video files or folders of them. A clip
    that cannot be used is a row with the reason; the exit code is then 1.
    """
    from blemore_harness.running.new_clips import list_clips

    if output is not None and (as_json or output.suffix not in (".csv", ".json")):
        raise click.UsageError(f"expected a .csv or .json file after -o, without --json, found {output}")
    form: Writer = _write_json if as_json or (output and output.suffix == ".json") else _write_csv
    count = missed = 0
    stdout = sys.stdout
    with keeping_stdout(), _opened(run, runs, device, system, open_reporter()) as (models, _):
        found = list_clips(clips)
        for text in (models.caveat, *models.remarks):
            if text:
                models.run.reporter.warn(text)
        # Straight into the file: what is answered when the process is killed is there.
        with output.open("w", encoding="utf-8", newline="") if output else _left_open(stdout) as file:
            for answer in form(file, models, models.predict(found)):
                count, missed = count + 1, missed + (answer.label is None)
    if output is not None:
        click.echo(printable(f"{output}: {count} clips" + f", {missed} without a label" * bool(missed)))
    return 1 if missed else 0


@cli.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.zip")
@system_option
@runs_option
def bundle(run: str, output: Path, system: str | None, runs: Path) -> None:
    """Write the models of a run into one file.

    `predict FILE.zip CLIP` takes it on another machine, where the same plugins are installed.
    """
    from blemore_harness.files.bundles import write_bundle

    if output.suffix != ".zip":
        raise click.UsageError(f"expected a .zip file after -o, found {output}")
    reporter = open_reporter()
    with keeping_stdout(), _opened(run, runs, "cpu", system, reporter) as (models, record):
        folders = [models.folders[each.name] for each in models.run.systems]
        write_bundle(models.folder, record, models.name, folders, output)
        for system_facts in record.systems:
            if system_facts.name in models.folders:
                for text in _needed_weights(system_facts):
                    reporter.log(text)
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    click.echo(printable(f"{output}: {size}, models of {', '.join(each.name for each in models.run.systems)}"))


@contextmanager
def _opened(
    run: str, runs: Path, device: str, system: str | None, reporter: Reporter
) -> Iterator[tuple[KeptModels, Record]]:
    """Open the kept models of a run, or of a bundle."""
    from blemore_harness.api.run import is_bundle, opened_models

    named = run if is_bundle(run) else find_run(runs, run)
    with opened_models(named, device, system, runs=runs, reporter=reporter) as opened:
        yield opened


@contextmanager
def _left_open(file: IO[str]) -> Iterator[IO[str]]:
    yield file


def _needed_weights(facts: SystemFacts) -> Iterator[str]:
    """Report pretrained weights that a system, or a part of it, needs besides its own model."""
    for part in facts.parts:
        yield from _needed_weights(part)
    if facts.card.parameters and not facts.parts:
        source = f" ({facts.card.source})" if facts.card.source else ""
        yield f"{facts.name}: its pretrained weights{source} are not in the file, and are fetched where it is used"


def _write_json(file: IO[str], models: KeptModels, answers: Iterable[ClipAnswer]) -> Iterator[ClipAnswer]:
    """Write an object with one answer per line in `clips`."""
    facts = {
        "run": models.folder.name, "system": models.name, "caveat": models.caveat, "remarks": list(models.remarks),
    }  # fmt: skip
    file.write(json.dumps(facts, indent=2)[:-2] + ',\n  "clips": [')
    for number, answer in enumerate(answers):
        file.write(("," if number else "") + "\n    " + json.dumps(answer.to_json()))
        file.flush()
        yield answer
    file.write("\n  ]\n}\n")
    file.flush()


def _write_csv(file: IO[str], models: KeptModels, answers: Iterable[ClipAnswer]) -> Iterator[ClipAnswer]:
    """Write a table: the label as in the challenge's metadata, probabilities, those of base models, remarks."""
    from blemore_harness.clips import EMOTIONS

    writer = csv.writer(file, lineterminator="\n")
    columns = ["clip", "emotion_1", "salience_1", "emotion_2", "salience_2", *EMOTIONS]
    columns += [f"{base}:{emotion}" for base in models.base_models for emotion in EMOTIONS]
    writer.writerow([*columns, "remarks"])
    for answer in answers:
        label = [] if answer.label is None else [(e, int(v)) for e, v in zip(EMOTIONS, answer.label, strict=True) if v]
        label.sort(key=lambda pair: -pair[1])
        cells: list[object] = [answer.clip, *(cell for pair in label for cell in pair)]
        cells += [""] * (5 - len(cells))
        cells += [""] * 6 if answer.probabilities is None else list(map(float, answer.probabilities))
        for base in models.base_models:
            cells += list(map(float, answer.base_models[base])) if base in answer.base_models else [""] * 6
        writer.writerow([*cells, "; ".join(answer.remarks)])
        file.flush()
        yield answer

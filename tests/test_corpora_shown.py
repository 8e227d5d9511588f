"""Wherever numbers are shown: what is not defined without blends is said to be so, and external data is named."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.errors import DataError
from blemore_harness.files.runs import read_record
from blemore_harness.scoring.seeds import summarise_seeds
from blemore_harness.systems.datasets import read_data
from blemore_harness.systems.submission import Submission
from blemore_lab.labels import table_of
from blemore_pages.leaderboard.boards import make_boards
from builders import rows_of, write_download, write_probabilities_csv
from corpus_files import write_crema, write_tiny
from toys import Bench, Noisy, offer

PRINTED = [Submission("paper", ("x",), None, expect={"score": 0.31, "acc_presence": 0.4, "source": "arXiv 1"})]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a corpus, one on BLEMORE, and the same with the corpus as external data; all in one folder of runs."""
    root = tmp_path_factory.mktemp("corpora")
    crema = f"crema-d:{write_crema(root / 'crema')}"
    home = write_download(root / "data", rows_of(actors=6, folds=3), tests=2)
    plugins, _ = offer(Noisy("sharp", 0.2), Noisy("dull", 5.0))
    for data, extra in ((crema, []), (home, []), (home, [crema])):
        dataset = read_data(data, extra=extra)
        expect = {"score": 0.31, "acc_presence": 0.4, "source": "arXiv 1"}
        submission = Submission("mine", ("sharp", "dull"), "late", expect=expect)
        Bench(dataset, blind_dataset(dataset, root / "views"), root).run(plugins, submission)
    return root


def folder_of(root: Path, corpus: str = "crema-d", extra: int = 0) -> Path:
    for path in sorted((root / "runs").glob("mine-*")):
        data = read_record(path).data
        if (data.corpus, len(data.extra)) == (corpus, extra):
            return path
    raise AssertionError("no such run")


def call(root: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--runs", str(root / "runs")])


def answer(root: Path, *words: str) -> str:
    done = call(root, *words)
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.stdout


def test_tables_of_every_form(root: Path) -> None:
    run = folder_of(root)
    for form in ("latex", "markdown"):
        text = answer(root, "table", run.name, "--format", form)
        assert text.count("not defined") >= 3 * 2
        assert "arXiv" not in text
        assert "nan" not in text.lower()
    rows = list(csv.DictReader(io.StringIO(answer(root, "table", run.name, "--format", "csv"))))
    assert len(rows) == 3
    assert {
        row["cross_fitted_score"] + row["official_acc_salience"] + row["cross_fitted_score_low"] for row in rows
    } == {""}
    assert all(float(row["cross_fitted_acc_presence"]) > 0 for row in rows)
    record = read_record(run)
    assert [row["system"] for row in rows] == [
        system.name for system in sorted(record.finished, key=lambda each: -each.cross_fitted.acc_presence.mean)
    ]


def test_published_numbers_never_stand_beside(root: Path) -> None:
    record = read_record(folder_of(root))
    assert record.submission.expect == {}
    assert "arXiv" not in (folder_of(root) / "table.txt").read_text()
    for run in (folder_of(root), folder_of(root, "", 1)):
        done = call(root, "table", run.name, "--check")
        assert done.exit_code == 1
        assert "BLEMORE alone" in str(done.exception)


def test_compare_and_analyse_speak_of_presence(root: Path) -> None:
    run = folder_of(root)
    words = ("compare", run.name, "--system", "sharp", "--second-system", "dull")
    found = json.loads(answer(root, *words, "--json"))
    assert found["differences"]["score"] is None
    assert found["differences"]["acc_salience"] is None
    one, two = (side["scores"]["acc_presence"] for side in found["systems"])
    assert found["differences"]["acc_presence"]["difference"] == pytest.approx(one - two)
    assert "ACC_P" in found["sentence"]
    assert answer(root, *words).count("not defined") == 6
    found = json.loads(answer(root, "analyse", run.name, "--system", "sharp", "--json"))
    assert found["scores"]["score"] is None
    surface = max(max(row) for row in found["sensitivity"]["surface"])
    sharp = next(each for each in read_record(run).finished if each.name == "sharp")
    # The best of all folds together lies between what the folds reach on others and on themselves.
    assert sharp.cross_fitted.acc_presence.mean <= surface + 1e-12
    assert surface <= max(fold.official.acc_presence for fold in sharp.folds)
    text = answer(root, "analyse", run.name, "--system", "sharp")
    assert "ACC_S not defined, Score not defined" in text
    assert text.count("Score") == 1


def test_runs_lists_what_is_not_defined(root: Path) -> None:
    rows = {row["run"]: row for row in json.loads(answer(root, "runs", "--json"))}
    assert rows[folder_of(root).name]["score"] is None
    assert rows[folder_of(root, "", 1).name]["score"] is not None
    assert answer(root, "runs").count("not defined") == 1


def test_the_leaderboard_ranks_a_corpus_apart(root: Path) -> None:
    """With external data a system stands beside the others on the same clips, and says so."""
    boards, remarks = make_boards([root / "runs"], PRINTED, "out-of-sample")
    assert remarks == []
    blemore, crema = boards[0], boards[1]
    assert not any(row.published for board in boards[:2] for row in board.rows)  # other folds than the official ones
    assert any("crema-d" in words for words in crema.caveats)
    assert crema.ranked_by == "ACC_P"
    numbers = [row.out_of_sample for row in crema.rows]
    assert all(each is not None and each.score is None for each in numbers)
    ranked = [each.acc_presence for each in numbers if each is not None and each.acc_presence is not None]
    assert ranked == sorted(ranked, reverse=True)
    named = [any("external data" in words for words in row.caveats) for row in blemore.rows]
    assert (sum(named), len(named)) == (3, 6)
    text = answer(root, "leaderboard")
    assert "ACC_P [95 % CI]" in text
    assert "external data: trained on crema-d too" in text


def test_a_leaderboard_file_is_refused_for_a_corpus(root: Path) -> None:
    done = call(root, "submit", folder_of(root).name)
    assert done.exit_code == 1
    assert "crema-d" in str(done.exception)


@pytest.mark.report
def test_report_pages(root: Path, tmp_path: Path) -> None:
    texts = []
    for number, run in enumerate((folder_of(root), folder_of(root, "", 1))):
        page = tmp_path / f"{number}.html"
        answer(root, "report", run.name, "-o", str(page))
        text = page.read_text(encoding="utf-8")
        texts.append(text[: text.index("<script")] if "<script" in text else text)
    assert "not defined" in texts[0]
    assert "not BLEMORE" in texts[0]
    assert "uzh-12enc" not in texts[0]
    assert "External data" in texts[1]
    assert "crema-d (36 clips of 6 actors)" in texts[1]
    assert "uzh-12enc" in texts[1]


def test_exports_hold_defined_numbers_and_caveats(root: Path, tmp_path: Path) -> None:
    answer(root, "export", folder_of(root).name, "--to", "every-eval-ever", "-o", str(tmp_path))
    files = list(tmp_path.rglob("*.json"))
    assert len(files) == 3
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "acc_presence" in text
        assert "acc_salience" not in text
        assert "not BLEMORE" in text


def test_seeds_are_summarised(root: Path) -> None:
    record = read_record(folder_of(root))
    best = summarise_seeds({0: record, 1: record})[0]
    assert best.cross_fitted.score is None
    assert best.cross_fitted.acc_presence == best.cross_fitted.ranked
    assert best.cross_fitted.acc_presence.sd == 0


@pytest.mark.encoders
def test_run_on_real_media_of_a_corpus(tmp_path: Path) -> None:
    """An encoder of audio reads Flash video with MP3, from the command line to the table."""
    write_crema(tmp_path / "crema", actors=5, write=write_tiny)
    words = ["run", "--plugin", "prosody", "--data", f"crema-d:{tmp_path / 'crema'}", "--device", "cpu", "--json"]
    done = CliRunner().invoke(cli, [*words, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["data"]["corpus"] == "crema-d"
    [system] = record["systems"]
    assert system["status"] == "finished"
    assert system["cross_fitted"]["score"] is None


def test_files_are_scored_by_presence_and_ranked_by_it(root: Path, tmp_path: Path) -> None:
    dataset = read_data(f"crema-d:{root / 'crema'}")
    files = []
    for name, shift in (("right", 0), ("wrong", 1)):
        labels = dataset.truth.argmax(axis=1)
        rows = {
            clip: [float(k == (label + shift) % 6) for k in range(6)]
            for clip, label in zip(dataset.ids, labels, strict=True)
        }
        files.append(str(write_probabilities_csv(tmp_path / f"{name}.csv", rows)))
    data = ("--data", f"crema-d:{root / 'crema'}")
    done = CliRunner().invoke(cli, ["score", files[0], *data, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["acc_presence"], found["acc_salience"], found["score"]) == (1.0, None, None)
    text = CliRunner().invoke(cli, ["score", *files, *data]).stdout
    assert text.count("not defined") == 4


@pytest.mark.tune
def test_tune_is_refused_without_a_score(root: Path) -> None:
    pytest.importorskip("optuna")
    done = call(root, "tune", "--plugin", "prosody", "--data", f"crema-d:{root / 'crema'}")
    assert done.exit_code == 1
    assert "not defined without blends" in str(done.exception)


def test_simulate_is_refused_without_a_score(root: Path) -> None:
    with pytest.raises(DataError, match="no blends"):
        table_of(read_data(f"crema-d:{root / 'crema'}"))

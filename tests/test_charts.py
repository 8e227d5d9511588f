"""Charts and figures: their numbers against a count clip by clip, and files of the width of a column."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.protocol.rules import decode
from blemore_harness.systems.submission import from_plugins
from toys import Noisy, NoisyModel, offer, open_bench

pytestmark = pytest.mark.report
alt = pytest.importorskip("altair")

from blemore_pages.charts.chart import Chart, file_name  # noqa: E402
from blemore_pages.charts.every import run_charts, system_charts  # noqa: E402
from blemore_pages.charts.matrices import MISSED, SETS, _matrix, correlate_errors, count_emotions, count_sets  # noqa: E402
from blemore_pages.charts.results import actor_rows, draw_actors, result_rows  # noqa: E402
from blemore_pages.charts.training import FINAL  # noqa: E402
from blemore_pages.contents import Contents, SystemContents, read_contents  # noqa: E402
from blemore_pages.figures import write_figures  # noqa: E402
from blemore_pages.predictions.columns import list_predictions  # noqa: E402

LONG = "a-model-with-a-name-that-is-far-too-long-for-the-column-of-a-paper"


class Curved(Noisy):
    """Notes training curves."""

    def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
        context.note_curve("nothing known", [1, 2], [float("inf"), float("nan")])
        context.note_curve("training loss", [1, 2, 3], [0.9, 0.5, float("nan")])
        context.note_curve("validation Score", range(1, 251), [k / 1000 for k in range(250)])
        return super().fit(fold, options, context)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """A run of three systems, of which one has curves and a long name, and one has weights."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=9, tests=4)
    plugins, _ = offer(Curved(LONG), Noisy("two", 0.2))
    _, folder = bench.run(plugins, from_plugins((LONG, "two"), "late"))
    return read_contents(bench.root / "runs", folder.name)


@pytest.fixture(scope="module")
def charts(contents: Contents) -> dict[str, Chart]:
    """All charts by name, those of the fusion and of the system with curves."""
    every = [*run_charts([contents]), *system_charts(contents.system("late")), *system_charts(contents.system(LONG))]
    return {chart.name: chart for chart in every}


def rows_of(system: SystemContents) -> list[dict[str, Any]]:
    """Training clips, a dictionary each."""
    columns = list_predictions(system)
    listed = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [row for row in listed if row["part"] == "train"]


def data_of(spec: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """All data inside a specification."""
    for key, value in spec.items():
        if key == "data":
            yield value["values"]
        elif isinstance(value, dict):
            yield from data_of(value)
        elif isinstance(value, list):
            for part in value:
                if isinstance(part, dict):
                    yield from data_of(part)


def test_the_sets_are_the_sixteen_in_the_organisers_order() -> None:
    five = ("ang", "disg", "fea", "hap", "sad")
    assert (*five, "neu", *(f"{a}+{b}" for a, b in combinations(five, 2))) == SETS


@pytest.mark.parametrize("name", ["late", LONG])
def test_confusion_of_sets_counts_clips(contents: Contents, charts: dict[str, Chart], name: str) -> None:
    system = contents.system(name)
    pairs = Counter((row["truth"].split()[0], row["answer"].split()[0]) for row in rows_of(system))
    chart = charts[file_name("confusion-sets", name)]
    cells = next(data_of(chart.spec))
    assert {(cell["truth"], cell["answer"]): int(cell["clips"]) for cell in cells} == pairs
    totals = Counter(truth for truth, _ in pairs.elements())
    for cell in cells:
        assert cell["share"] == pytest.approx(int(cell["clips"]) / totals[cell["truth"]], abs=5e-4)
    assert count_sets(system.truth, system.labels).sum() == 90
    table = {row[0]: dict(zip(chart.columns[1:], row[1:], strict=True)) for row in chart.rows}
    assert all(int(table[truth][answer]) == pairs[truth, answer] for truth in SETS for answer in SETS)


def test_confusion_of_emotions_counts_each_true_emotion_once() -> None:
    truth = np.array([[70, 30, 0, 0, 0, 0], [50, 0, 50, 0, 0, 0], [0, 0, 0, 0, 0, 100], [0, 0, 0, 100, 0, 0]])
    said = np.array([[100, 0, 0, 0, 0, 0], [0, 70, 30, 0, 0, 0], [50, 50, 0, 0, 0, 0], [0, 0, 0, 100, 0, 0]])
    counts = count_emotions(truth.astype(np.int8), said.astype(np.int8))
    expected = np.zeros((6, 7))
    expected[0, 0] = 1  # first clip: anger is answered, disgust is not, and nothing wrong is
    expected[1, 6] = 1
    expected[0, 1] = 1  # second: fear is answered, disgust is in place of anger
    expected[2, 2] = 1
    expected[5, 0] = expected[5, 1] = 0.5
    expected[3, 3] = 1
    assert counts.tolist() == expected.tolist()
    assert MISSED == "none"


def test_saliences_are_those_of_right_pairs(contents: Contents, charts: dict[str, Chart]) -> None:
    right = [row for row in rows_of(contents.system("late")) if "+" in row["truth"] and row["right_presence"]]
    assert right
    pairs = Counter((row["truth"].split()[1], row["answer"].split()[1]) for row in right)
    cells = next(data_of(charts["saliences-late"].spec))
    assert {(cell["truth"], cell["answer"]): int(cell["clips"]) for cell in cells} == pairs


def test_actors_have_their_own_scores_and_the_best_comes_first(contents: Contents) -> None:
    system = contents.system("late")
    rows = rows_of(system)
    found = actor_rows(system)
    assert sorted(found, key=lambda row: -row["Score"]) == found
    assert len(found) == 9
    for row in found:
        mine = [each for each in rows if each["actor"] == row["actor"]]
        blends = [each["right_salience"] for each in mine if each["right_salience"] is not None]
        presence, salience = np.mean([each["right_presence"] for each in mine]), np.mean(blends)
        assert (row["clips"], row["fold"]) == (len(mine), mine[0]["fold"])
        assert [row["ACC_P"], row["ACC_S"]] == pytest.approx([presence, salience], abs=5e-5)
        assert row["Score"] == pytest.approx((presence + salience) / 2, abs=5e-5)


def test_an_actor_without_blends_has_no_score(contents: Contents) -> None:
    system = contents.system("late")
    actors = np.array(system.actors)
    kept = ~((actors == "A1") & system.blends)
    few = tuple(actors[kept].tolist())
    answers = system.answers
    part = replace(
        system, ids=tuple(np.array(system.ids)[kept].tolist()), actors=few, folds=system.folds[kept],
        answers=replace(answers, truth=answers.truth[kept], labels=answers.labels[kept], folds=answers.folds[kept],
                        actors=few, genders=few),
    )  # fmt: skip
    rows = actor_rows(part)
    assert (rows[-1]["actor"], rows[-1]["ACC_S"], rows[-1]["Score"], rows[-1]["clips"]) == ("A1", None, None, 6)
    assert [row for row in rows if row["actor"] != "A1"] == [row for row in actor_rows(system) if row["actor"] != "A1"]
    chart = draw_actors(part)
    assert "without blends have ACC_P only (1)" in chart.caption
    assert next(row for row in chart.rows if row[0] == "A1")[-1] == ""


def test_the_surface_is_what_decoding_at_every_pair_scores(contents: Contents, charts: dict[str, Chart]) -> None:
    system = contents.system(LONG)
    chart = charts[file_name("score-surface", LONG)]
    panels = chart.spec["concat"]
    assert [panel["title"] for panel in panels] == ["fold 0", "fold 1", "fold 2"]
    for fold, panel in enumerate(panels):
        surface, points = data_of(panel)
        mine = system.folds == fold
        truth, rows = system.truth[mine], system.probabilities[mine]
        blends = (truth > 0).sum(axis=1) == 2
        assert max(row["alpha"] for row in surface) > 0.5
        for row in surface[::3]:
            for place in (0, 7, 19):
                labels = decode(rows, row["alpha"], 0.05 + place * 0.9 / 19)
                present = ((labels > 0) == (truth > 0)).all(axis=1).mean()
                exact = (labels == truth).all(axis=1)[blends].mean()
                assert row["score"][place] == pytest.approx((present + exact) / 2, abs=1e-3)
        best, others = points
        assert best["score"] == pytest.approx(max(max(row["score"]) for row in surface), abs=1e-3)
        kept = system.record.folds[fold].cross_fitted
        assert (others["alpha"], others["beta"]) == (round(kept.alpha, 4), round(kept.beta, 4))
        assert best["score"] >= others["score"]


def test_errors_of_the_same_clips_correlate() -> None:
    right = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]], dtype=bool)
    found = correlate_errors(right)
    assert found[0, :4].tolist() == pytest.approx([1, 1, -1, 0])
    assert np.isnan(found[4]).all(), "a system that is always right"
    assert found[:4, :4] == pytest.approx(np.corrcoef(~right[:4]))


def test_the_result_chart_has_intervals_and_published_numbers(contents: Contents) -> None:
    rows = list(result_rows([contents]))
    crossed = [row for row in rows if row["number"] == "cross-fitted"]
    assert [row["score"] for row in crossed] == sorted((row["score"] for row in crossed), reverse=True)
    for row in crossed:
        record = contents.system(row["system"]).record
        assert record.intervals is not None
        assert (row["low"], row["high"]) == tuple(round(end, 4) for end in record.intervals.score)
    asked = replace(contents.record.submission, name="sub", expect={"score": 0.3, "test_score": 0.2, "source": "paper"})
    published = list(result_rows([replace(contents, record=replace(contents.record, submission=asked))]))[-2:]
    assert [(row["system"], row["number"], row["score"], row["source"]) for row in published] == [
        ("sub, published", "published", 0.3, "paper"), ("sub, published", "published, test clips", 0.2, "paper"),
    ]  # fmt: skip
    twice = list(result_rows([contents, contents]))
    assert {row["system"] for row in twice} == {f"{name} ({contents.folder.name})" for name in (LONG, "two", "late")}


def test_weights_and_curves_come_from_the_notes(contents: Contents, charts: dict[str, Chart]) -> None:
    rows = next(data_of(charts["fusion-weights-late"].spec))
    noted = {note["fold"]: note["weights"] for note in contents.system("late").record.notes}
    assert {(row["base model"], row["fit"]): row["weight"] for row in rows} == {
        (name, FINAL if fold is None else f"fold {fold}"): weight
        for fold, weights in noted.items() for name, weight in weights.items()
    }  # fmt: skip
    curves = contents.system(LONG).curves
    assert {(curve.fold, curve.name) for curve in curves} == {
        (fold, name) for fold in (0, 1, 2, None) for name in ("nothing known", "training loss", "validation Score")
    }
    nothing, loss, score = curves[:3]
    assert nothing.values == ()
    assert (loss.epochs, loss.values) == ((1, 2), (0.9, 0.5)), "without what is not finite"
    assert len(score.epochs) == 100
    assert (score.epochs[0], score.epochs[-1], score.values[-1]) == (1, 250, 0.249)
    drawn = next(data_of(charts[file_name("training-curves", LONG)].spec))
    assert [len(row["epoch"]) for row in drawn] == [2, 100] * 4
    assert {row["kind"] for row in drawn} == {"loss", "Score"}


def test_a_system_without_weights_or_curves_has_no_chart_of_them(contents: Contents) -> None:
    kinds = {chart.name for chart in system_charts(contents.system("two"))}
    assert not any(name.startswith(("fusion-weights", "training-curves")) for name in kinds)
    assert len(kinds) >= 5


def test_every_chart_is_valid_small_described_and_free_of_a_theme(charts: dict[str, Chart]) -> None:
    kinds = (
        "results", "error-correlation", "confusion-sets", "confusion-emotions", "saliences", "actors", "score-surface",
        "reliability", "fusion-weights", "training-curves",
    )  # fmt: skip
    assert {kind for kind in kinds if any(name.startswith(f"{kind}-") for name in charts)} == set(kinds)
    for chart in charts.values():
        alt.Chart.from_dict(dict(chart.spec))  # raises where the schema of Vega-Lite is broken
        assert "config" not in chart.spec
        assert "background" not in chart.spec
        assert len(json.dumps(chart.spec)) < 60_000
        assert chart.caption.endswith(".")
        assert len({len(row) for row in chart.rows} | {len(chart.columns)}) == 1
        assert chart.rows
        assert all(isinstance(cell, str) for row in chart.rows for cell in row)


def test_names_of_files_are_plain_short_and_different() -> None:
    assert file_name("actors", "best-of") == "actors-best-of"
    odd = [file_name("actors", name) for name in ("a/b", "a b", "a@b", "x" * 200, "x" * 201)]
    assert len(set(odd)) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9._+-]{1,90}", name) for name in odd)


def test_figures_are_as_wide_as_a_column_in_all_formats(charts: dict[str, Chart], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    written = write_figures(list(charts.values()), tmp_path / "figures")
    assert [path.name for path in written] == [f"{name}.{end}" for name in charts for end in ("png", "svg", "pdf")]
    for name in charts:
        png, svg, pdf = ((tmp_path / "figures" / f"{name}.{end}").read_bytes() for end in ("png", "svg", "pdf"))
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        wide, high = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
        assert wide == pytest.approx(3.4 * 300, abs=25), name
        assert high < 6 * 300
        size = re.search(rb'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', svg)
        assert size is not None
        assert float(size[1]) == pytest.approx(3.4 * 72, abs=6)
        assert pdf.startswith(b"%PDF")
        assert len(pdf) > 2000
        smallest = min(float(found) for found in re.findall(rb'font-size="([\d.]+)px"', svg))
        assert smallest >= 6, "points: smaller text cannot be read in print"
    twice = write_figures([charts["saliences-late"]] * 2, tmp_path / "twice")
    assert [path.stem for path in twice[::3]] == ["saliences-late", "saliences-late-2"]
    assert b"ang+disg" in (tmp_path / "figures" / "confusion-sets-late.svg").read_bytes()


def test_counts_stand_whole_in_cells_that_hold_them() -> None:
    spec = _matrix(np.array([[1234.5, 0], [99, 2000]]), ("a", "b"), ("c", "d"), "answer", "truth")
    (values,) = {json.dumps(layer.get("data", spec.get("data"))) for layer in spec["layer"]}
    assert [row["clips"] for row in json.loads(values)["values"]] == ["1234.5", "99", "2000"]
    seven = [str(k) for k in range(7)]
    widths = [_matrix(np.full((7, 7), n), seven, seven, "", "")["width"] for n in (1.0, 1234.5)]
    assert widths == [7 * 22, 7 * 42]


def test_figures_without_their_package_say_what_to_install(
    charts: dict[str, Chart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from blemore_harness.errors import ExtraMissing

    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ExtraMissing, match=r"vl_convert .*blemore-harness\[report\]"):
        write_figures(list(charts.values()), tmp_path)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ExtraMissing, match=r"altair .*blemore-harness\[report\]"):
        run_charts([SimpleNamespace()])  # type: ignore[list-item]

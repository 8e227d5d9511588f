"""The report's text and data: what a page says, what it never lets out, and what is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.clips import EMOTIONS
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import DataError, RunError
from blemore_harness.files.runs import read_record
from blemore_harness.protocol.rules import label_text
from blemore_harness.record.types import CardFacts, Error
from blemore_harness.scoring import paired_tests
from blemore_harness.scoring.analysis import compare_all_systems
from blemore_harness.scoring.breakdown import count_errors, find_kinds
from blemore_harness.scoring.intervals import short
from blemore_harness.systems.submission import from_plugins
from blemore_pages.contents import Contents
from blemore_pages.report.clips import collect_clips, interesting_first
from blemore_pages.report.entries import list_entries
from blemore_pages.report.head import list_caveats
from blemore_pages.report.page import LIMIT, render_page, size_of
from blemore_pages.report.thumbnails import make_thumbnails
from builders import rows_of, write_download
from report_runs import answer, challenge_rows, finished_run
from sample_records import failed_system
from toys import Noisy, Silent, offer, open_bench

pytestmark = pytest.mark.report

ROWS = rows_of(6, 3)


def sample_run(folder: str = "run-0123", **changes: Any) -> Contents:
    return finished_run(Path(folder), {"one": answer(ROWS, 0.5, 1), "two": answer(ROWS, 0.2, 2)}, ROWS, **changes)


def page_of(*runs: Contents, **named: Any) -> str:
    entries = list_entries(runs)
    return render_page(runs, entries, (), [() for _ in entries], **named)


def data_of(page: str, name: str = "clip-data") -> Any:
    found = re.search(f'id="{name}">([^<]*)</script>', page)
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_results_stand_in_the_page_best_first_with_intervals() -> None:
    run = sample_run()
    page = page_of(run)
    scores = {}
    for system in run.record.finished:
        assert system.intervals is not None
        low, high = system.intervals.score
        scores[system.name] = system.cross_fitted.score.mean
        assert f"{short(scores[system.name])} [{short(low)}, {short(high)}]" in page
        assert f"{short(system.official.score.mean)} ± {short(system.official.score.sd)}" in page
    assert scores["one"] > scores["two"]
    assert page.index('<a href="#system-1">one</a>') < page.index('<a href="#system-2">two</a>')
    least = compare_all_systems({each.name: each.loaded for each in run.systems})["pairs"][0]["minimum"]
    assert f"With 6 actors, differences under {short(least)} cannot be told from noise" in page
    assert "uzh-9enc" in page  # published rows


def test_the_page_of_one_system_compares_nothing() -> None:
    page = page_of(finished_run(Path("run-0"), {"one": answer(ROWS, 0.5, 1)}, ROWS))
    assert re.search(r"With 6 actors, this Score is known to about ± \.\d+", page)
    assert 'id="pair"' not in page
    assert 'id="wrong"' not in page


def test_every_clip_has_its_label_and_the_answers_of_all_systems() -> None:
    run = sample_run()
    entries = list_entries([run])
    found = collect_clips(entries)
    assert found["ids"] == tuple(sorted(row["filename"] for row in ROWS))
    for entry, mine in zip(entries, found["systems"], strict=True):
        system = entry.system
        assert [found["labels"][k] for k in found["truths"]] == list(map(label_text, system.truth))
        assert [found["labels"][k] for k in mine["answer"]] == list(map(label_text, system.labels))
        values = np.array(mine["values"]).reshape(-1, len(EMOTIONS)) / 1000
        np.testing.assert_allclose(values, system.probabilities, atol=0.0005)
        kinds = [found["kinds"][k] for k in mine["kind"]]
        counted = count_errors(system.answers)["kinds"]
        assert {name: kinds.count(name) for name in found["kinds"]} == counted
        right = (system.truth == system.labels).all(axis=1)
        assert [kind == 0 for kind in mine["kind"]] == right.tolist()
    assert data_of(page_of(run))["actors"] == list(entries[0].system.actors)


def test_each_clip_has_one_kind_of_answer() -> None:
    for system in sample_run().systems:
        assert (np.stack(list(find_kinds(system.answers).values())).sum(axis=0) == 1).all()


def test_names_from_runs_are_never_markup() -> None:
    bad = '</script><script>alert("1")</script>'
    rows = [row | {"filename": f"<img src=x onerror=alert(2)>{row['filename']}"} for row in ROWS]
    page = page_of(finished_run(Path("run-0"), {bad: answer(rows, 0.5, 1)}, rows, warnings=(bad,), caveat=bad))
    assert bad not in page
    assert "<img src=x" not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;") >= 4
    assert data_of(page)["systems"][0]["name"] == bad


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_else() -> None:
    page = page_of(sample_run())
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found
    policy = {name: words for name, *words in (part.split() for part in found[1].replace("&#39;", "'").split(";"))}
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert policy.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert set(policy["script-src"]) == {digest(text) for text in re.findall("<script>(.*?)</script>", page, re.DOTALL)}
    assert policy["style-src"] == [digest(text) for text in re.findall("<style>(.*?)</style>", page, re.DOTALL)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"caveat": "transductive test labels (actor-rank)"}, "transductive test labels"),
        ({"caveat": "simulated"}, "simulated"),
        ({"status": "failed", "error": Error("RunError", "out of luck", "")}, "out of luck"),
    ],
)
def test_every_caveat_stands_in_plain_sight(changes: dict[str, Any], expected: str) -> None:
    run = sample_run(**changes)
    assert any(expected in text for text in list_caveats([run]))
    section = re.search('<section class="caveats".*?</section>', page_of(run), re.DOTALL)
    assert section
    assert expected in section[0]


def test_caveats_of_the_data_and_of_systems() -> None:
    run = sample_run()
    assert any("not the official ones" in text for text in list_caveats([run]))
    demo = replace(run.record, data=replace(run.record.data, demo=True, left_out={"A1_ang_int1_ver1": "truncated"}))
    found = list_caveats([replace(run, record=demo)])
    assert found[0].startswith("demo:")
    assert any("1 clip" in text and "truncated" in text for text in found)
    helped = CardFacts("MIT", "CC0", "MAFW", "yes", ("MAFW",), 1, True, None)
    record = replace(run.record, systems=(replace(run.record.finished[0], card=helped), run.record.finished[1]))
    found = list_caveats([replace(run, record=record)])
    assert {"pretrained on acted emotions: MAFW: one", "a paid service takes part: one"} <= set(found)
    asked = replace(run.record, systems=tuple(replace(each, times_asked=7) for each in run.record.finished))
    (text,) = (text for text in list_caveats([replace(run, record=asked)]) if "asked 7 times" in text)
    assert text.endswith(": one, two")


def test_caveats_name_their_run_where_they_do_not_hold_for_all() -> None:
    runs = [sample_run("one-0123"), sample_run("two-0123", status="interrupted")]
    first, second = list_caveats(runs)
    assert first.startswith("folds: those of the metadata")
    assert second.startswith("two-0123: the run is interrupted")


def test_a_system_without_results_stands_last_with_its_reason() -> None:
    run = sample_run()
    record = replace(run.record, systems=(failed_system("broken", "no <weights>"), *run.record.systems))
    page = page_of(replace(run, record=record))
    assert page.index('href="#system-2"') < page.index("failed: no &lt;weights&gt;")


def test_systems_of_several_runs_have_names_of_their_own_and_shared_ones_stand_once() -> None:
    first, second = sample_run("first-1"), sample_run("second-2")
    names = [entry.name for entry in list_entries([first, second])]
    assert sorted(names) == ["one (first-1)", "one (second-2)", "two (first-1)", "two (second-2)"]
    assert [entry.name for entry in list_entries([first, first])] == ["one", "two"]


@pytest.mark.parametrize("what", ["dataset", "protocol version", "clips"])
def test_runs_on_something_else_are_refused(what: str) -> None:
    first, second = sample_run("first-1"), sample_run("second-2")
    record = second.record
    if what == "dataset":
        second = replace(second, record=replace(record, data=replace(record.data, digest="fedcba")))
    elif what == "protocol version":
        second = replace(second, record=replace(record, protocol="2"))
    else:
        rows = ROWS[1:]
        second = finished_run(Path("second-2"), {"one": answer(rows, 0.5, 1)}, rows)
    with pytest.raises(RunError, match=f"second-2 have another {what}"):
        list_entries([first, second])


def test_thumbnails_fill_the_room_that_is_left_the_hardest_clips_first() -> None:
    run = sample_run()
    ids = run.systems[0].ids
    right = sum((system.truth == system.labels).all(axis=1).astype(int) for system in run.systems)
    order = interesting_first(list_entries([run]))
    assert sorted(order) == list(range(len(ids)))
    ranks = [{0: 0, 1: 1, 2: 2}[int(right[k])] for k in order]
    assert ranks == sorted(ranks)
    assert {0, 1} <= set(ranks)
    budgets = []

    def some(budget: int) -> dict[str, str]:
        budgets.append(budget)
        return {ids[0]: "abcd"}

    plain, page = page_of(run), page_of(run, thumbnails=some)
    assert budgets == [LIMIT - size_of(plain)]
    assert data_of(page, "frame-data") == {ids[0]: "abcd"}
    assert f"{len(ids) - 1} clips have no frame here" in page
    assert data_of(plain, "frame-data") == {}
    assert "--thumbnails" in plain


def test_thumbnails_are_jpeg_files_of_the_middle_frame(tmp_path: Path) -> None:
    pytest.importorskip("av")
    image = pytest.importorskip("PIL.Image")
    import io

    from media_files import gradient_frames, write_media

    folder = write_download(tmp_path / "data", ROWS, tests=0)
    dataset = read_dataset(folder)
    frames = np.zeros((9, 96, 128, 3), dtype=np.uint8)
    frames[4] = gradient_frames(1, 96, 128)[0]
    for name in dataset.ids[:3]:
        write_media(dataset.videos[name].with_suffix(".mp4"), frames).replace(dataset.videos[name])
    reporter = Silent()
    found = make_thumbnails(dataset, dataset.ids[:4], 1_000_000, reporter)
    assert list(found) == list(dataset.ids[:3])
    assert any(dataset.ids[3] in line for line in reporter.said)  # a stand-in that is no video
    picture = image.open(io.BytesIO(base64.b64decode(found[dataset.ids[0]])))
    assert picture.format == "JPEG"
    assert picture.size == (96, 72)
    assert np.asarray(picture).mean() > 60  # the only frame that is not black
    room = len(found[dataset.ids[0]]) + len(dataset.ids[0]) + 6
    assert list(make_thumbnails(dataset, dataset.ids[:3], room, reporter)) == [dataset.ids[0]]
    with pytest.raises(DataError, match="leave out --thumbnails"):
        make_thumbnails(replace(dataset, videos={}), dataset.ids, 1, reporter)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bench, and the folders of two runs that share the encoder `one`."""
    bench = open_bench(tmp_path_factory.mktemp("bench"), actors=6, tests=2)
    plugins, _ = offer(Noisy("one"), Noisy("two", 2.0))
    _, fused = bench.run(plugins, from_plugins(("one", "two"), "late"))
    _, alone = bench.run(plugins, from_plugins(("one",)))
    return bench, fused, alone


def report(*words: object) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, words)])


def test_the_command_writes_a_page_and_prints_where(finished: Any, tmp_path: Path) -> None:
    _, fused, alone = finished
    result = report(fused, alone, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'page.html'}\n"
    page = (tmp_path / "page.html").read_text()
    assert sorted(system["name"] for system in data_of(page)["systems"]) == ["late", "one", "two"]
    assert fused.name in page
    assert alone.name in page
    charts = data_of(page, "chart-data")
    assert set(re.findall('data-chart="([^"]*)"', page)) == set(charts)
    assert len(charts) > 10
    assert report(fused).stdout == f"{fused / 'report.html'}\n"


def test_figures_are_the_charts_of_the_page(finished: Any, tmp_path: Path) -> None:
    _, _, alone = finished
    result = report(alone, "-o", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert result.exit_code == 0, result.output
    pdfs = list((tmp_path / "figures").glob("*.pdf"))
    assert len(pdfs) == len(data_of((tmp_path / "page.html").read_text(), "chart-data"))


def test_the_table_alone_is_the_answer_where_it_is_asked_for(finished: Any, tmp_path: Path) -> None:
    _, fused, _ = finished
    asked = report(fused, "-o", tmp_path / "page.html", "--table", "csv")
    table = CliRunner().invoke(cli, ["table", str(fused), "--format", "csv"])
    assert asked.exit_code == table.exit_code == 0, asked.output
    assert asked.stdout == table.stdout
    assert str(tmp_path / "page.html") in asked.stderr


def test_bad_runs_are_a_clear_line_each(finished: Any, tmp_path: Path) -> None:
    _, fused, _ = finished

    def refused(name: str, **changes: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps(read_record(fused).to_json() | changes))
        result = report(folder, "-o", tmp_path / "page.html")
        assert not (tmp_path / "page.html").exists()
        assert isinstance(result.exception, RunError | DataError), result.output
        return str(result.exception)

    assert "started" in refused("unfinished", systems=[], status="started")
    assert "schema 1" in refused("older", schema=1)
    data = read_record(fused).to_json()["data"]
    assert "--data" in refused("moved", data=data | {"root": str(tmp_path / "gone")})
    assert "no run matches 'nothing'" in str(report("nothing", "--runs", tmp_path).exception)


def test_a_run_without_test_clips_has_a_page(tmp_path: Path) -> None:
    bench = open_bench(tmp_path, actors=6, tests=0)
    plugins, _ = offer(Noisy("one"))
    _, folder = bench.run(plugins, from_plugins(("one",)))
    result = report(folder)
    assert result.exit_code == 0, result.output
    assert "<dt>Test labels</dt><dd>none</dd>" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_the_page_of_the_whole_challenge_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    from blemore_pages.charts.every import run_charts, system_charts

    monkeypatch.setattr(paired_tests, "SWAPS", 20)  # p-values take no room in a page
    rows = challenge_rows()
    assert len(rows) >= 3050
    run = finished_run(Path("run-0"), {f"system {k}": answer(rows, 0.1 + k / 20, k) for k in range(12)}, rows)
    entries = list_entries([run])
    page = render_page([run], entries, run_charts([run]), [system_charts(entry.system) for entry in entries])
    assert 500_000 < size_of(page) < LIMIT

"""Runs on several workers: the same files as one, nothing lost when a worker is, no labels where they must not be."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blemore_harness.api import watching
from blemore_harness.api.watching import follow_run
from blemore_harness.disk import hold
from blemore_harness.errors import BlemoreError, RunError
from blemore_harness.executors import WAITING_FILE, Needs
from blemore_harness.running import work
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.local import LocalStarter
from blemore_harness.running.plan import plan_run
from blemore_harness.running.pool import Pool
from blemore_harness.running.run import open_run
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import from_plugins
from isolated_runs import COMMAND, Bench, alive, all_files, opened_bench, timeless
from second_distributions import environment
from toys import system

pytestmark = pytest.mark.once


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    with opened_bench(tmp_path) as opened:
        yield opened


def spread(jobs: int = 2, **more: Any) -> Isolation:
    return Isolation(jobs=jobs, fresh=False, **more)


def test_two_jobs_give_the_same_files_and_record_as_one(bench: Bench) -> None:
    plain, folder = bench.run("talker,together,file-bytes", "one", None)
    record, elsewhere = bench.run("talker,together,file-bytes", "two", spread())
    assert record["status"] == "finished", [each.get("error") for each in record["systems"]]
    assert all_files(folder.parent) == all_files(elsewhere.parent)
    for key in set(record) - {"execution", "submission", "data"}:
        assert timeless(record[key]) == timeless(plain[key]), key
    assert (elsewhere / "submission.zip").read_bytes() == (folder / "submission.zip").read_bytes()
    places = system(record, "talker")["places"]
    assert [place["fold"] for place in places] == [0, 1, None]
    assert all(place["worker"].startswith("process ") and place["host"] for place in places)
    assert {place["worker"] for place in system(plain, "talker")["places"]} == {None}
    assert not list(elsewhere.parent.rglob("*.log")), "nobody printed anything"


def test_a_worker_is_told_labels_of_one_fold_only(bench: Bench) -> None:
    record, _ = bench.run("pids,other-pids", "runs", spread())
    folds: dict[int, set[object]] = {}
    for name in ("pids", "other-pids"):
        for note in system(record, name)["notes"]:
            folds.setdefault(note["pid"], set()).add(note["fold"])
    assert all(len(known) == 1 for known in folds.values()), folds
    assert len(folds) <= 4, "workers are kept for the same fold of another system"
    nosy, _ = bench.run("nosy,talker", "runs", spread())
    notes = {note["fold"]: note for note in system(nosy, "nosy")["notes"]}
    assert [notes[index]["names"] for index in (0, 1)] == [[], []]
    # Of 40 clips 20 are trained on; a worker that was kept may still hold those of another system, which are the same.
    assert all(set(notes[index]["labels"]) == {20} for index in (0, 1))


def test_workers_without_work_are_kept_as_far_as_memory_and_gpus_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (Needs("s4d fold-1", "s4d", "video", gpus, 1, 2**30) for gpus in (0, 1))
    starter = LocalStarter((), 1, ["0"], 3 * 2**30)
    assert starter.has_room(small, [small, small])
    assert not starter.has_room(small, [small, small, small])
    assert starter.has_room(large, [small])
    assert not starter.has_room(large, [large])
    monkeypatch.setattr(work, "free_memory", lambda: 1)
    record, _ = bench.run("pids,other-pids", "runs", spread())
    assert record["status"] == "finished"
    pids = [note["pid"] for name in ("pids", "other-pids") for note in system(record, name)["notes"]]
    assert len(set(pids)) == 3, "one worker at a time, and one for each fold"


@pytest.mark.parametrize(("deaths", "status"), [("2", "finished"), ("3", "failed")])
def test_a_lost_worker_is_tried_again_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, deaths: str, status: str
) -> None:
    monkeypatch.setenv("DEATHS", deaths)
    record, folder = bench.run("dying,talker", "two", spread())
    row = system(record, "dying")
    assert row["status"] == status
    assert Path("deaths").read_text() == "x" * 3
    assert system(record, "talker")["status"] == "finished"
    assert sum("tried again" in text for text in bench.reporter.said) == 2
    if status == "failed":
        assert "was killed by SIGKILL" in row["error"]["message"]
        assert "dying was here" in row["error"]["message"]
        assert {path.stem for path in folder.parent.glob("systems/dying-*/*.csv")} >= {"fold-0"}
        again, _ = bench.run("dying,talker", "two", spread())
        assert system(again, "dying")["status"] == "finished"


def test_a_worker_that_dies_while_it_has_no_work_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when memory runs out: workers are ended first."""
    release, killed = Pool._release, []

    def release_and_kill(pool: Pool, kept: Any) -> None:
        if not killed:
            killed.append(kept)
            kept.worker._process.kill()
        release(pool, kept)

    monkeypatch.setattr(Pool, "_release", release_and_kill)
    record, _ = bench.run("talker,file-bytes", "two", spread())
    assert record["status"] == "finished", [each.get("error") for each in record["systems"]]
    assert sum("tried again" in text for text in bench.reporter.said) == 1


@pytest.mark.parametrize("isolation", [None, spread()], ids=["one", "two"])
def test_a_plugin_that_changes_the_current_folder_changes_it_for_nobody_else(
    bench: Bench, isolation: Isolation | None
) -> None:
    """A worker is kept for other systems, and paths are relative."""
    here = Path.cwd()
    record, _ = bench.run("wandering,wandering-too", "runs", isolation)
    assert record["status"] == "finished", [each.get("error") for each in record["systems"]]
    notes = [note for name in ("wandering", "wandering-too") for note in system(record, name)["notes"]]
    assert [note["folder"] for note in notes] == [str(here)] * 6
    assert Path.cwd() == here


def test_what_a_plugin_raises_is_not_tried_again_and_the_others_go_on(bench: Bench) -> None:
    record, _ = bench.run("careless,talker", "two", spread())
    assert "note failed: TypeError" in system(record, "careless")["error"]["message"]
    assert not any("tried again" in text for text in bench.reporter.said)
    assert system(record, "talker")["status"] == "finished"
    assert system(record, "median")["status"] == "skipped"


def test_the_plan_is_data_and_its_addresses_follow_the_identities(bench: Bench) -> None:
    where = (bench.root / "plan", bench.root / "cache", bench.reporter)
    run = open_run(from_plugins(["talker,file-bytes"], "median"), load_plugins(), bench.dataset, bench.blinded, *where)
    plan = plan_run(run, False, lambda system: False)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert [node.name for node in plan] == [
        "talker prepare", "file-bytes prepare", "talker fold-0", "talker fold-1", "talker final",
        "file-bytes fold-0", "file-bytes fold-1", "file-bytes final", "median fold-0", "median fold-1", "median final",
    ]  # fmt: skip
    done: set[str] = set()
    for node in plan:
        assert done.issuperset(node.after), "each comes after what it needs"
        done.add(node.address)
    assert len(done) == len(plan)
    other = run.of(replace(run.submission, seed=1))
    assert not done & {node.address for node in plan_run(other, False, lambda system: False)}


def test_workers_share_the_clips_of_one_encoder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prepares a block; then the encoder is called with all clips, and says once what there is to say."""
    monkeypatch.setattr(work, "LEAST_BLOCK", 8)
    plain, folder = bench.run("sharing", "one", None)
    assert Path("blocks").read_text().split("\n") == ["42 42", ""]
    Path("blocks").unlink()
    record, elsewhere = bench.run("sharing", "two", spread())
    *blocks, whole, _ = Path("blocks").read_text().split("\n")
    assert (sorted(blocks), whole) == (["21 21", "21 21"], "42 0")
    row, expected = system(record, "sharing"), system(plain, "sharing")
    assert row["prepared"]["notes"] == {"extracted": [{"clips": 21}, {"clips": 21}], "version": 1}
    assert row["prepared"]["warnings"] == expected["prepared"]["warnings"] == ["warned of 42 clips"]
    assert sum("warned of" in text for text in bench.reporter.said) == 2, "once in each run"
    assert not list(elsewhere.parent.glob("systems/*/work/prepare-*")), "nobody continues in the folder of a block"
    first, second = (
        {name: found for name, found in all_files(each.parent).items() if not name.endswith("prepare.json")}
        for each in (folder, elsewhere)
    )
    assert first == second
    Path("blocks").unlink()
    bench.run("sharing,talker", "three", spread())
    assert Path("blocks").read_text().split("\n") == ["42 42", ""], "no worker would have nothing to do"


def test_what_a_block_fails_at_is_said_as_without_workers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LEAST_BLOCK", 8)
    monkeypatch.setenv("FAULTY", bench.blinded.everything().items[-1].content)
    plain, _ = bench.run("sharing,talker", "one", None)
    record, folder = bench.run("sharing", "two", spread())
    assert system(record, "sharing")["error"]["message"] == system(plain, "sharing")["error"]["message"].replace(
        "one", "two"
    )
    assert [path.name for path in folder.parent.glob("systems/sharing-*/*-traceback.txt")] == ["prepare-traceback.txt"]
    assert Path("blocks").read_text().split("\n")[-2] == "42 1", "what the blocks have made is kept"
    monkeypatch.delenv("FAULTY")
    again, _ = bench.run("sharing", "two", spread())
    assert system(again, "sharing")["status"] == "finished"


def test_there_are_as_many_blocks_as_places_without_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LEAST_BLOCK", 8)
    where = (bench.root / "plan", bench.root / "cache", bench.reporter)

    def count(names: str, jobs: int, gpus: int = 0, **changes: Any) -> list[int]:
        monkeypatch.setattr(work, "list_gpus", lambda device: tuple(map(str, range(gpus))))
        run = open_run(
            from_plugins([names], "median"), load_plugins(), bench.dataset, bench.blinded, *where,
            isolation=spread(jobs), **changes,
        )  # fmt: skip
        return [work.count_blocks(run, encoder) for encoder in run.encoders]

    assert count("sharing", 1) == [1]
    assert count("sharing", 4) == [4]
    assert count("sharing", 9) == [5], "of 8 clips at least"
    assert count("sharing,talker", 4) == [2, 1]
    assert count("sharing", 5, gpus=4) == [4], "one for each GPU"
    assert count("sharing,talker", 5, gpus=4) == [2, 1]
    assert count("sharing", 4, stop_at_bad_clips=True) == [1]


def test_killed_workers_and_ctrl_c_lose_nothing(bench: Bench) -> None:
    """The same command goes on, whatever was killed; an interrupted run leaves no process behind."""
    paths = os.pathsep.join(path for path in sys.path if path)
    words = [*COMMAND, "--data", "data", "--plugin", "talker,waiting", "--jobs", "2"]
    with (bench.root / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            words, cwd=bench.root, stdout=said, stderr=said,
            env=environment(bench.root, PYTHONPATH=paths, BLEMORE_CACHE=str(bench.root / "cache")),
        )  # fmt: skip
    pids = bench.root / "pids"
    while not (pids.exists() and pids.read_text().endswith("\n")) and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, (bench.root / "said.txt").read_text()
    family = [int(word) for word in pids.read_text().split()]
    process.send_signal(signal.SIGINT)
    assert process.wait() == 1 or process.returncode in (130, -signal.SIGINT)
    deadline = time.monotonic() + 300
    while any(map(alive, family)):
        assert time.monotonic() < deadline, "a worker, or what it started, lives on"
        time.sleep(0.05)
    assert "tried again" not in (bench.root / "said.txt").read_text(), "a worker that is ended with the run is not lost"
    [record] = bench.root.glob("blemore-runs/talker*/record.json")
    assert json.loads(record.read_text())["status"] == "interrupted"


def test_jobs_are_a_number_or_auto(bench: Bench) -> None:
    import blemore_harness as bh

    for wrong in (0, "many", "-1"):
        with pytest.raises(BlemoreError, match=str(wrong)):
            bh.run(plugins=["file-bytes"], data="data", jobs=wrong)
    with pytest.raises(BlemoreError, match="speed"):
        bh.run(plugins=["file-bytes"], data="data", executor_options={"speed": "1"})
    with pytest.raises(BlemoreError, match="slorm"):
        bh.run(plugins=["file-bytes"], data="data", executor="slorm")


def test_hooks_are_told_in_one_thread(bench: Bench) -> None:
    plugins, threads = load_plugins(), set()
    tell = plugins.tell
    plugins.tell = lambda *words: (threads.add(threading.get_ident()), tell(*words))[1]  # type: ignore[method-assign,assign]
    from blemore_harness.pipeline import evaluate

    where = (bench.root / "told", bench.root / "cache", bench.reporter)
    run = open_run(from_plugins(["talker,file-bytes"], "median"), plugins, bench.dataset, bench.blinded, *where)
    evaluate(replace(run, isolation=spread()))
    assert threads == {threading.get_ident()}


def test_a_run_is_watched_until_it_has_ended(bench: Bench) -> None:
    """From its last start on; a run that is going on is followed, one that was killed is over."""
    import blemore_harness as bh

    _, folder = bench.run("file-bytes", "one", None)
    log = folder / "log.txt"
    log.write_text("2026-01-01 00:00:00 started: before\n2026-01-01 00:00:00 old\n" + log.read_text())
    lines = list(follow_run(folder))
    assert "started:" in lines[0]
    assert not any(line.endswith(" old") for line in lines)
    assert bh.watch_run(folder.name, runs=folder.parent).record.status == "finished"

    aside = (folder / "record.json").rename(folder / "aside.json")
    threading.Timer(0.1, aside.rename, (folder / "record.json",)).start()
    assert bh.watch_run(folder.name, runs=folder.parent).folder == folder, "a detached run has a folder, then a record"
    with pytest.raises(RunError, match="no run matches 'systems'"):
        bh.watch_run("systems", runs=folder.parent)

    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "status": "started"}))
    assert list(follow_run(folder)) == lines, "nobody works on it"
    with hold(folder, print):
        following = follow_run(folder, pause=0)
        assert [next(following) for _ in lines] == lines
        with log.open("a") as file:
            file.write("2026-01-01 00:00:00 half")
            file.flush()
            file.write(" a line\n")
        assert next(following).endswith("half a line")
        (folder / "record.json").write_text(json.dumps({**record, "status": "failed"}))
        assert list(following) == []


def test_a_run_that_was_sent_to_begin_again_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of before says that it was interrupted, or that it has finished."""
    _, folder = bench.run("file-bytes", "one", None)
    before = (folder / "log.txt").read_text().splitlines()
    (folder / WAITING_FILE).touch()
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=lambda seconds: bench.run("file-bytes", "one", None)))
    lines = list(follow_run(folder))
    assert lines == (folder / "log.txt").read_text().splitlines()[len(before) :]
    assert "started:" in lines[0]


@pytest.mark.slow
@pytest.mark.encoders
def test_encoders_of_the_demo_have_the_same_bits_on_two_workers(tmp_path: Path) -> None:
    """Whatever number of threads torch has here and there."""
    import blemore_harness as bh
    from blemore_harness.demo.writing import write_demo

    write_demo(tmp_path / "data", actors=5, test_actors=1)
    few = {name: {"epochs": 3} for name in ("s4d", "wav2vec2", "prosody", "wav2vec2+prosody")}
    runs = {
        jobs: bh.run(
            plugins=list(few), settings=few, data=tmp_path / "data", runs=tmp_path / f"runs-{jobs}", device="cpu",
            jobs=jobs,
        )
        for jobs in (1, 2)
    }  # fmt: skip
    assert runs[1].record.status == "finished", runs[1].table()
    # What a preparation notes depends on what is in the cache already, which the two runs share.
    first, second = (
        {name: found for name, found in all_files(run.folder.parent).items() if not name.endswith("prepare.json")}
        for run in runs.values()
    )
    assert len(first) > 4 * 5
    assert first == second
    assert (runs[1].folder / "submission.zip").read_bytes() == (runs[2].folder / "submission.zip").read_bytes()


@pytest.mark.slow
@pytest.mark.encoders
def test_clips_prepared_in_blocks_have_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import blemore_harness as bh
    from blemore_harness.demo.writing import write_demo

    monkeypatch.setattr(work, "LEAST_BLOCK", 16)
    write_demo(tmp_path / "data", actors=3, test_actors=1)
    found = []
    for jobs in (1, 4):
        monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / f"cache-{jobs}"))
        rows = bh.prepare(
            plugins=["s4d", "wav2vec2"], data=tmp_path / "data", runs=tmp_path / f"runs-{jobs}", device="cpu", jobs=jobs
        )
        assert [row["status"] for row in rows] == ["ready", "ready"]
        arrays = tmp_path / f"cache-{jobs}" / "arrays"
        found.append({path.relative_to(arrays): path.read_bytes() for path in arrays.rglob("*.np?")})
    notes = [json.loads(path.read_text())["notes"] for path in tmp_path.glob("runs-4/systems/*/prepare.json")]
    assert sum(len(note.get("extracted", ())) for note in notes) == 2, "wav2vec2 extracted two blocks"
    assert found[0] == found[1]
    assert len(found[0]) > 200

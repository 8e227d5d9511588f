"""Plugins in worker processes: the same bits, no labels over there, and no way to take others down."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from blemore_harness.disk import TAIL_BYTES, hold
from blemore_harness.errors import BlemoreError, MediaError, PluginFailed
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.template import Template
from blemore_harness.running.worker_process import WorkerProcess
from blemore_scale.launch import last_line
from installed_plugins import make_site
from isolated_runs import COMMAND, Bench, alive, files_of, opened_bench, timeless
from second_distributions import environment
from toys import Silent, system

pytestmark = pytest.mark.once

EDITED = """
import numpy as np
from blemore_harness.predictions import Probabilities

class Model:
    def predict(self, clips, context):
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))

class Saying(Toy):
    def fit(self, fold, options, context):
        context.log("fold")
        return Model()

@hookimpl
def blemore_encoders():
    return [Saying()]
"""

SECONDS = 300
"""What no machine takes, however busy it is."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with opened_bench(tmp_path) as opened:
        yield opened


def command(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [*COMMAND, "--data", "data", *words], cwd=bench.root, capture_output=True, text=True, check=False,
        env=environment(bench.root, PYTHONPATH=paths, BLEMORE_CACHE=str(bench.root / "cache")),
    )  # fmt: skip


@pytest.mark.slow
def test_isolated_results_are_the_same_bits(bench: Bench) -> None:
    plain, folder = bench.run("talker,together,file-bytes", "plain", None)
    said = list(bench.reporter.said)
    bench.reporter.said.clear()
    record, elsewhere = bench.run("talker,together,file-bytes", "isolated", Isolation(limit=300))
    assert record["status"] == "finished", record
    assert files_of(folder.parent) == files_of(elsewhere.parent)
    scores = (elsewhere / "scores.csv").read_text().splitlines()
    assert len(scores) == 1 + len(record["systems"]), "the example's hook wrote a line per system"
    assert len(files_of(elsewhere.parent)) == 4 * 3
    assert timeless(record["systems"]) == timeless(plain["systems"])
    assert bench.reporter.said == said, "what a plugin says does not depend on where it runs"
    assert (elsewhere / "submission.zip").read_bytes() == (folder / "submission.zip").read_bytes()
    first = system(record, "talker")
    assert first["prepared"]["notes"] == {"clips": 42}
    assert first["folds"][0]["times_asked"] == 4
    assert first["notes"][0]["first"] in bench.dataset.ids, "a stand-in name reached the record"
    assert not list(elsewhere.parent.rglob("*.log")), "nobody printed anything"
    assert not list(elsewhere.parent.rglob("checkpoint"))


@pytest.mark.slow
@pytest.mark.encoders
def test_trained_heads_have_the_same_bits_in_a_worker(bench: Bench) -> None:
    pytest.importorskip("torch")
    bench = Bench(bench.root / "trained", tests=0)
    small = {"talker+file-bytes": {"hidden": "8", "epochs": 3}}
    _, folder = bench.run("talker+file-bytes", "plain", None, options=small)
    _, elsewhere = bench.run("talker+file-bytes", "isolated", Isolation(), options=small)
    assert len(files_of(folder.parent)) == 2
    assert files_of(folder.parent) == files_of(elsewhere.parent)


@pytest.mark.slow
def test_a_worker_holds_no_label_of_what_it_predicts_and_no_real_name(bench: Bench) -> None:
    record, _ = bench.run("nosy", "isolated", Isolation())
    notes = {note["fold"]: note for note in system(record, "nosy")["notes"]}
    done = command(bench, "--plugin", "nosy", "--json")  # not here, where all tests before left their objects
    here = {note["fold"]: note for note in system(json.loads(done.stdout), "nosy")["notes"]}
    assert here[0]["names"], "somebody who looks finds them where they are"
    assert 40 in here[0]["labels"]
    for index in (0, 1):
        assert notes[index]["names"] == []
        assert notes[index]["labels"] == [20], "of 40 clips, 20 are trained on"
    assert notes[None]["labels"] == [40]


@pytest.mark.slow
def test_breaking_plugins_are_rows_that_say_how_they_ended(bench: Bench) -> None:
    broken = {
        "broken-killed": "(fold-1) was lost: its process was killed by SIGKILL, as it happens when memory runs out",
        "broken-segfault": "(fold-1) was lost: its process was ended by SIGSEGV",
        "broken-exits": "(fold-1) was lost: its process ended by itself with exit code 7",
        "broken-sys-exit": "(fold-1) crashed: SystemExit: 0",
        "broken-nan": "(fold-0): NaN or infinite values",
        "broken-nothing": "(fold-0): expected `predict` to give Probabilities, found NoneType",
    }
    record, folder = bench.run(",".join([*broken, "file-bytes"]), "isolated", Isolation())
    assert record["status"] == "failed"
    for name, ending in broken.items():
        row = system(record, name)
        assert row["status"] == "failed"
        assert f"{name} {ending}" in row["error"]["message"], row["error"]
        kept = [path.name for path in folder.parent.glob(f"systems/{name}-*/*.csv")]
        assert kept == ([] if "fold-0" in ending else ["fold-0.csv"]), "a finished fold was lost"
    assert "broken-killed was here" in system(record, "broken-killed")["error"]["message"]
    assert "systems.py" in system(record, "broken-segfault")["error"]["trace"], "where it stood is in the log"
    assert system(record, "file-bytes")["status"] == "finished"
    assert system(record, "median")["status"] == "skipped"
    told = [text for text in record["warnings"] if "broken-told" in text]
    assert told, "a hook that raises is named"
    alone, _ = bench.run("file-bytes", "plain", None)
    assert timeless(system(alone, "file-bytes")) == timeless(system(record, "file-bytes"))


def test_what_raises_breaks_nobody_else_in_one_process_either(bench: Bench) -> None:
    broken = ("broken-raises", "broken-sys-exit", "broken-nan", "broken-nothing")
    record, _ = bench.run(",".join([*broken, "file-bytes"]), "plain", None)
    for name in broken:
        assert system(record, name)["error"]["message"].startswith(f"{name} (fold-")
    assert "broken-sys-exit (fold-1) crashed: SystemExit: 0" in system(record, "broken-sys-exit")["error"]["message"]
    assert system(record, "file-bytes")["status"] == "finished"


@pytest.mark.slow
def test_a_plugin_that_hangs_is_stopped_and_says_where_it_stood(bench: Bench) -> None:
    # A busy machine may need more time to get that far.
    for limit in (3, 12, 60, 300):
        record, folder = bench.run("broken-hangs", "isolated", Isolation(limit=limit))
        error = system(record, "broken-hangs")["error"]
        if "in break_down" in error["trace"]:
            break
    assert f"broken-hangs (fold-1) was stopped after {limit / 60:g} minutes (--time-limit)" in error["message"]
    assert "in break_down" in error["trace"]
    assert [path.name for path in folder.parent.glob("systems/broken-hangs-*/*.csv")] == ["fold-0.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("isolation", [None, Isolation()], ids=["here", "isolated"])
def test_errors_of_the_harness_raised_by_a_plugin_are_its_failure(bench: Bench, isolation: Isolation | None) -> None:
    record, folder = bench.run("fixable,odd,lacking,careless,file-bytes", "raised", isolation)
    expected = {
        "fixable": r"fixable \(fold-0\): clip A._.* has no audio; run --skip-bad-clips",
        "odd": r"odd \(fold-0\): an error of its own",
        "lacking": r"lacking \(fold-0\) needs the package 'surely_not_installed'",
        "careless": r"careless \(fold-0\): note failed: TypeError",
    }
    for name, words in expected.items():
        message = system(record, name)["error"]["message"]
        assert re.match(words, message), message
        [trace] = folder.parent.glob(f"systems/{name}-*/fold-0-traceback.txt")
        line = re.search(r"\(at plugin_talker\.py:(\d+); traceback: (.*)\)$", message)
        assert line is not None, message
        assert line[2] == str(trace)
        assert f'plugin_talker.py", line {line[1]}, in fit' in trace.read_text()
    assert not re.search(r"\bc[0-9a-f]{16}\b", system(record, "fixable")["error"]["trace"])
    assert system(record, "file-bytes")["status"] == "finished"
    with pytest.raises(MediaError, match=r"fixable: clip A._.* has no audio$"):
        bench.run("fixable", "stopping", isolation, stop_at_bad_clips=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("isolation", [None, Isolation()], ids=["here", "isolated"])
def test_a_full_disk_is_nobodys_fault_and_stops_the_run(bench: Bench, isolation: Isolation | None) -> None:
    with pytest.raises(BlemoreError, match=r"full \(fold-0\): .*the disk is full"):
        bench.run("full", "full", isolation)


def test_a_message_that_cannot_be_read_fails_its_sender_alone(bench: Bench) -> None:
    record, _ = bench.run("garbling,file-bytes", "garbled", Isolation())
    assert (
        "garbling (fold-0) sent something that cannot be read: ValueError"
        in (system(record, "garbling")["error"]["message"])
    )
    assert system(record, "file-bytes")["status"] == "finished"


@pytest.mark.slow
def test_code_that_is_edited_while_a_run_goes_on_is_noticed(bench: Bench) -> None:
    class Editor(Silent):
        def log(self, message: str) -> None:
            super().log(message)
            source.write_text(source.read_text() + "\n# edited\n")

    with make_site(bench.root / "checkout") as site:
        site.install("edited", EDITED, editable=bench.root)
        source = bench.root / "checkout" / "plugin_edited.py"
        bench.reporter = Editor()
        with pytest.raises(BlemoreError, match="the code of toy was edited while the run went on"):
            bench.run("toy", "isolated", Isolation())


def test_errors_cross_from_one_process_to_another() -> None:
    import pickle

    there = pickle.loads(pickle.dumps(PluginFailed("it broke", "toy", "line 3")))
    assert (str(there), there.plugin, there.trace) == ("it broke", "toy", "line 3")


def test_last_words_of_a_killed_run_do_not_reach_the_log_of_the_next(tmp_path: Path) -> None:
    log = tmp_path / "fold-0.log"
    with log.open("wb") as dying:
        with WorkerProcess.started(log):
            dying.write(b"EOFError: the harness is gone")
            dying.flush()
        assert not log.exists(), "the worker of this run printed nothing"


def test_of_gigabytes_that_a_worker_printed_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "fold-0.log"
    with WorkerProcess.started(log) as worker:
        with log.open("ab") as file:
            file.truncate(1 << 36)  # takes no space
            file.write(b"\nthe last line\n")
        lost = worker.lose("was lost")
        assert "its last line: the last line" in lost.what
        assert len(lost.trace) <= TAIL_BYTES
        assert last_line(log) == "the last line"
        log.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_worker_is_forked_from_a_template_unless_that_has_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "busy_module.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    for modules, forked in ((["json", "no_such_module"], True), (["busy_module"], False)):
        template = Template(modules, {})
        with WorkerProcess.started(tmp_path / "fold-0.log", (), {}, template) as worker:
            while not worker.said.endswith(b"\n"):
                worker.read_life()
            parent = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[1])
            assert parent == (template.pid if forked else os.getpid())
            assert set(states(worker.pid)) <= set("RSD"), "a group of its own"
            worker.dismiss()
            assert worker.said.endswith(b"\n0\n")
        assert set(states(worker.pid)) <= {"Z"}
        os.kill(template.pid, signal.SIGSTOP)
        template.close()
        assert states(worker.pid) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_worker_of_which_a_dying_template_said_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template, forked = Template(["json"], {}), []
    fork = template.fork

    def fork_unheard(output: int, descriptors: Sequence[int], environment: Mapping[str, str]) -> None:
        forked.append(fork(output, descriptors, environment))

    monkeypatch.setattr(template, "fork", fork_unheard)
    with WorkerProcess.started(tmp_path / "fold-0.log", (), {}, template) as worker:
        template.close()
        (unheard,) = forked
        assert unheard not in (None, worker.pid)
        while set(states(unheard)) - {"Z"}:
            time.sleep(0.01)
        worker.dismiss()
        assert worker.said.endswith(b"\n0\n"), "the other took none of its messages"


HARNESS = """
import sys, time
from pathlib import Path
from blemore_harness.disk import hold
from blemore_harness.running.worker_process import WorkerProcess
folder = Path(sys.argv[1])
with hold(folder, print) as lock, WorkerProcess.started(folder / "fold-0.log", (lock,)) as worker:
    while not worker.said.endswith(b"\\n"):
        worker.read_life()
    print(worker.pid, flush=True)
    time.sleep(600)
"""


def states(group: int) -> str:
    """The states of all processes of a group, one letter each, as /proc gives them."""
    found = ""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has ended since
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
            found += state if int(its_group) == group else ""
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_folder_is_free_only_when_the_worker_of_a_killed_run_is_gone_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HARNESS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        group = int(harness.stdout.readline())
        os.killpg(group, signal.SIGSTOP)  # a worker that takes its time to die
        while set(states(group)) != {"T"}:  # until then it would see the harness go, and die at once
            time.sleep(0.01)
        harness.kill()
    with (tmp_path / ".lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.killpg(group, signal.SIGCONT)
    with hold(tmp_path, Silent().log):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_harness(bench: Bench, sent: signal.Signals) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [*COMMAND, "--plugin", "waiting", "--data", "data", "--isolate"], cwd=bench.root,
        env=environment(bench.root, PYTHONPATH=paths, BLEMORE_CACHE=str(bench.root / "cache")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + SECONDS
    file = bench.root / "pids"
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pids = [int(word) for word in file.read_text().split()]
    assert all(alive(pid) for pid in pids)
    process.send_signal(sent)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == (-9 if sent == signal.SIGKILL else 130), err
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker, or what it started, lives on"
        time.sleep(0.05)
    if sent != signal.SIGKILL:
        [record] = bench.root.glob("blemore-runs/waiting-*/record.json")
        assert json.loads(record.read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_the_command_line_names_the_culprit_and_exits_with_3(bench: Bench) -> None:
    done = command(bench, "--plugin", "broken-killed,file-bytes", "--isolate", "--time-limit", "5")
    assert done.returncode == 3, done.stderr
    assert "broken-killed" in done.stdout
    assert "SIGKILL" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    wrong = command(bench, "--plugin", "file-bytes", "--time-limit", "5")
    assert wrong.returncode == 2
    assert re.search("--time-limit .*--isolate", wrong.stderr)

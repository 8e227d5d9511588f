"""What every hosted encoder does about faults of its service, through the real client against a scripted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("PIL")

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import MediaError, ServiceError
from gemini_service import Reply, make_clips, make_context
from hosted_services import HOSTED, Hosted, set_keys

pytestmark = pytest.mark.encoders


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), 4, sound=True)


@pytest.fixture(autouse=True)
def keys(monkeypatch, tmp_path):
    set_keys(monkeypatch, tmp_path)


@pytest.fixture
def hosted(request) -> Hosted:
    found = HOSTED[request.param]
    pytest.importorskip(found.client)
    return found


each_service = pytest.mark.parametrize("hosted", HOSTED, indirect=True)


def each(attribute):
    """One case for every answer of a list of each service."""
    cases = [(name, index) for name, found in HOSTED.items() for index in range(len(getattr(found, attribute)))]
    return pytest.mark.parametrize(("hosted", "index"), cases, indirect=["hosted"])


@each_service
def test_a_wait_that_the_service_asks_for_is_kept(clips, tmp_path, hosted):
    encoder, clock = hosted.quick()
    with hosted.serve([None, hosted.busy(34)]) as service:
        context = make_context(tmp_path)
        encoder.prepare(clips, hosted.options(service.address), context)
    assert [round(seconds - 0.5) for seconds in clock.slept] == [34]
    assert any("34 s" in line for line in context.reporter.lines)
    assert set(service.paid.values()) == {1}


@each("stops")
def test_what_no_clip_can_pass_stops_at_once_and_keeps_what_is_there(clips, tmp_path, hosted, index):
    reply, hint = hosted.stops[index]
    encoder, clock = hosted.quick()
    with hosted.serve([None, None, reply]) as service:
        chosen = hosted.options(service.address)
        with pytest.raises(ServiceError, match=rf"{hint}.*2 new {encoder.noun}s are kept"):
            encoder.prepare(clips, chosen, make_context(tmp_path))
        assert len(service.requests) == 3
        assert not clock.slept
        encoder.prepare(clips, chosen, make_context(tmp_path))
    assert len(service.requests) == 5
    assert set(service.paid.values()) == {1}
    assert len(service.paid) == len(clips)


@each("passes")
def test_what_passes_is_tried_again(clips, tmp_path, hosted, index):
    encoder, clock = hosted.quick()
    with hosted.serve([hosted.passes[index]] * 2) as service:
        encoder.prepare(clips, hosted.options(service.address), make_context(tmp_path))
    assert len(service.requests) == len(clips) + 2
    assert len(clock.slept) == 2
    assert 0.5 <= clock.slept[0] <= 1 <= clock.slept[1] <= 2


@each_service
def test_a_hang_ends_at_the_time_limit(clips, tmp_path, hosted):
    with hosted.serve(lambda *_: Reply(hang=True)) as service:
        chosen = hosted.options(service.address, timeout=0.2, attempts=2)
        with pytest.raises(ServiceError, match=r"1 clip .*gave up after 2 attempts"):
            hosted.quick()[0].prepare(clips.take([0]), chosen, make_context(tmp_path))
    assert len(service.requests) == 2


@each_service
def test_a_server_that_does_not_run_is_one_clear_line(clips, tmp_path, hosted):
    with hosted.serve(None) as service:
        chosen = hosted.options(service.address, attempts=2)
    with pytest.raises(ServiceError, match=rf"{hosted.unreachable}.*gave up after 2 attempts.*nothing is lost"):
        hosted.quick()[0].prepare(clips, chosen, make_context(tmp_path))


@each_service
def test_a_service_that_is_down_is_not_asked_for_every_clip(tmp_path, hosted):
    many = make_clips(tmp_path / "clips", 8, seconds=0.2)
    with hosted.serve(lambda *_: hosted.down) as service:
        chosen = hosted.options(service.address, attempts=2, **hosted.silent)
        with pytest.raises(ServiceError, match="5 clips in a row"):
            hosted.quick()[0].prepare(many, chosen, make_context(tmp_path))
    assert len(service.requests) <= 12


@each_service
def test_a_refused_clip_is_named_after_all_others_are_done(clips, tmp_path, hosted):
    encoder, _ = hosted.quick()
    value, note, row = hosted.replaced
    with hosted.serve([None, hosted.refusal("bad video")]) as service:
        chosen = hosted.options(service.address)
        hint = rf"refuses 1 clip \(first: 'c1'\).*bad video.*{encoder.name}\.refused={value}"
        with pytest.raises(MediaError, match=hint) as caught:
            encoder.prepare(clips, chosen, make_context(tmp_path))
        assert caught.value.clip == "c1"
        assert len(service.paid) == 3
        # Going on without it: it is not sent again, its row is known, and the record says so.
        context, without = make_context(tmp_path), hosted.options(service.address, refused=value)
        encoder.prepare(clips, without, context)
        rows = hosted.values(clips, without, context)
        assert len(service.requests) == 4
        assert [bool(np.allclose(values, row)) for values in rows] == [False, True, False, False]
        assert context.reporter.notes[note] == ["c1"]
        # Or once more, now that it is taken.
        encoder.prepare(clips, chosen, make_context(tmp_path))
    assert len(service.requests) == 5
    assert set(service.paid.values()) == {1}


@each_service
def test_refusals_alone_are_blamed_on_the_request(tmp_path, hosted):
    many = make_clips(tmp_path / "clips", 8, seconds=0.2)
    with (
        hosted.serve(lambda *_: hosted.refusal("no such field")) as service,
        pytest.raises(ServiceError, match=r"5 clips in a row.*no such field"),
    ):
        hosted.quick()[0].prepare(many, hosted.options(service.address, **hosted.silent), make_context(tmp_path))
    assert len(service.requests) <= 7
    assert not list(tmp_path.rglob("*-refused.*"))


@each_service
def test_a_broken_file_is_named_after_all_others_are_done(clips, tmp_path, hosted):
    broken = tmp_path / "broken.mov"
    broken.write_bytes(b"not a video")
    mixed = Clips((Clip("bad", broken, {}, "0" * 64), *clips.items))
    with hosted.serve(None) as service, pytest.raises(MediaError, match="bad") as caught:
        hosted.quick()[0].prepare(mixed, hosted.options(service.address, **hosted.silent), make_context(tmp_path))
    assert caught.value.clip == "bad"
    assert len(service.paid) == len(clips)


@each_service
def test_the_same_video_twice_is_paid_once(clips, tmp_path, hosted):
    first = clips.items[0]
    twins = Clips((first, Clip("twin", first.video_file, {}, first.content)))
    with hosted.serve(None) as service:
        chosen = hosted.options(service.address)
        hosted.kind().prepare(twins, chosen, make_context(tmp_path))
        rows = hosted.values(twins, chosen, make_context(tmp_path))
    assert len(service.requests) == 1
    assert np.array_equal(rows[0], rows[1])


@each_service
def test_ctrl_c_keeps_what_is_on_its_way(clips, tmp_path, hosted):
    context = make_context(tmp_path)

    def interrupt(count=1):
        raise KeyboardInterrupt

    context.reporter.advance = interrupt
    with hosted.serve(None) as service:
        chosen = hosted.options(service.address)
        with pytest.raises(KeyboardInterrupt):
            hosted.kind().prepare(clips, chosen, context)
        assert service.requests
        hosted.kind().prepare(clips, chosen, make_context(tmp_path))
    assert set(service.paid.values()) == {1}
    assert len(service.paid) == len(clips)


@each_service
def test_processes_that_need_the_same_take_turns(clips, tmp_path, hosted):
    with hosted.serve(None) as service:
        chosen = hosted.options(service.address)
        jobs = [
            threading.Thread(target=hosted.kind().prepare, args=(clips, chosen, make_context(tmp_path)))
            for _ in range(3)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert len(service.requests) == len(clips)


CHILD = """
import sys
from pathlib import Path
from gemini_service import make_clips, make_context
from hosted_services import HOSTED
folder, name, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
clips = make_clips(folder / "clips", 4, sound=True)
HOSTED[name].kind().prepare(clips, HOSTED[name].options(address), make_context(folder))
"""


@pytest.mark.slow
@each_service
def test_a_killed_extraction_goes_on_and_pays_nothing_twice(tmp_path, hosted):
    kept = tmp_path / "cache" / hosted.kind.name
    with hosted.serve([None, None, Reply(hang=True)]) as service:
        command = [sys.executable, "-c", CHILD, str(tmp_path), hosted.kind.name, service.address]
        paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
        # The third request may leave while the second answer is being written down.
        while len(service.requests) < 3 or len(list(kept.rglob(hosted.kept))) < 2:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        made = make_clips(tmp_path / "clips", 4, sound=True)
        hosted.kind().prepare(made, hosted.options(service.address), make_context(tmp_path))
    assert len(service.requests) == 5
    assert sorted(service.paid.values()) == [1, 1, 1, 1]


SCRIPTS = {
    name: ((), (Reply(half=True),) * 9, (Reply(hang=True),) * 9, *found.quoting) for name, found in HOSTED.items()
}


@pytest.mark.parametrize(
    ("hosted", "replies"),
    [(name, script) for name, scripts in SCRIPTS.items() for script in scripts],
    indirect=["hosted"],
)
def test_keys_are_printed_and_kept_nowhere(clips, tmp_path, hosted, replies, capfd, caplog):
    caplog.set_level(hosted.level)
    context = make_context(tmp_path)
    told = ""
    with hosted.serve(list(replies)) as service:
        given = {"attempts": 2, "timeout": 0.2} if replies and replies[0].hang else {}
        try:
            hosted.quick()[0].prepare(clips.take([0]), hosted.options(service.address, **given), context)
        except (ServiceError, MediaError) as error:
            told = "".join(traceback.format_exception(error)) + repr(error)
            link = error
            while link is not None:
                told += repr(vars(link)) + repr(link.args)
                link = link.__cause__ or link.__context__
    headers = {name.lower(): value for name, value in service.requests[0]["headers"].items()}
    assert hosted.sent(headers)
    seen = capfd.readouterr()
    told += seen.out + seen.err + caplog.text + repr(context.reporter.lines) + repr(context.reporter.notes)
    for secret in hosted.secrets:
        assert secret not in told
        for file in tmp_path.rglob("*"):
            assert secret not in file.name
            assert not file.is_file() or secret.encode() not in file.read_bytes()

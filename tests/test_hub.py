"""Finding and fetching weights: folders, a hub on loopback, and machines without either."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from blemore_harness.cache import Cache
from blemore_harness.errors import DataError, WeightsMissing
from blemore_plugins import hub
from blemore_plugins.s4d import S4DEncoder
from blemore_plugins.s4d.options import S4DOptions
from blemore_plugins.shards import list_shards

pytestmark = pytest.mark.encoders

WANTED = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """Speaks as much of the hub's protocol as a download needs."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/models/owner/model"):
            body = json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]})
            self.reply(200, body.encode(), "application/json")
        elif (name := self.path.partition("/resolve/main/")[2] or self.path.partition(f"{COMMIT}/")[2]) in self.files:
            self.reply(200, self.files[name])
        else:
            self.reply(404, b"{}")

    def reply(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(monkeypatch, tmp_path) -> Iterator[type[FakeHub]]:
    """A hub on loopback with an empty cache on this side."""
    handler = type("Handler", (FakeHub,), {"files": {"config.json": b"{}", "pytorch_model.bin": b"w"}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    use_hub(monkeypatch, tmp_path, server.server_port)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def use_hub(monkeypatch, folder: Path, port: int) -> None:
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def find(download: bool = True, source: str = "owner/model") -> hub.Weights:
    return hub.find_weights(source, WANTED, "toy.model", download=download)


def test_files_are_fetched_once_and_then_found_without_asking(served, tmp_path):
    weights = find()
    assert [path.name for path in weights.files] == ["config.json", "pytorch_model.bin"]
    assert [path.read_bytes() for path in weights.files] == [b"{}", b"w"]
    assert weights.commit == COMMIT
    assert weights.identity(Cache(tmp_path)) == {"commit": COMMIT}
    count = len(served.asked)
    assert find(download=False) == weights
    assert find() == weights
    assert len(served.asked) == count


INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def offer_shards(served, *offered: str) -> None:
    index = {"metadata": {}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    served.files |= {INDEX: json.dumps(index).encode()} | {name: name.encode() for name in offered}


def test_all_shards_are_fetched_once_and_found_without_asking(served, tmp_path):
    offer_shards(served, *SHARDS)
    weights = find()
    assert [path.name for path in weights.files] == ["config.json", INDEX], "before a whole file of the next kind"
    assert [path.read_bytes() for path in list_shards(weights.files[1])] == [name.encode() for name in SHARDS]
    count = len(served.asked)
    assert find(download=False) == find() == weights
    assert len(served.asked) == count
    # What an interrupted download left out is fetched.
    list_shards(weights.files[1])[1].unlink()
    with pytest.raises(WeightsMissing, match="nothing is fetched after `prepare`"):
        find(download=False)
    assert find() == weights
    assert list_shards(weights.files[1])[1].is_file()


def test_a_repository_that_lacks_a_shard_is_said(served):
    offer_shards(served, SHARDS[0])
    with pytest.raises(WeightsMissing, match=rf"lacks 1 shard \(first: '{SHARDS[1]}'\)"):
        find()


def test_an_index_that_climbs_fetches_nothing(served):
    served.files |= {INDEX: b'{"metadata": {}, "weight_map": {"a": "../../x.bin"}}', "../../x.bin": b"x"}
    with pytest.raises(DataError, match=r"1 file \(first: '../../x.bin'\) that cannot be a shard"):
        find()
    assert not [line for line in served.asked if "x.bin" in line]


def kept(folder: Path, *revisions: str) -> Path:
    """A hub cache as somebody makes it by hand: complete, and without a word on what `main` is."""
    snapshots = folder / "hub" / "models--owner--model" / "snapshots"
    for revision in revisions:
        (snapshots / revision).mkdir(parents=True)
        (snapshots / revision / "config.json").write_text("{}")
        (snapshots / revision / "model.safetensors").write_text(revision)
    return snapshots


def test_the_only_revision_of_a_cache_without_references_is_taken(served, tmp_path):
    snapshots = kept(tmp_path, COMMIT)
    weights = find(download=False)
    assert weights.files == (snapshots / COMMIT / "config.json", snapshots / COMMIT / "model.safetensors")
    assert weights.identity(Cache(tmp_path)) == {"commit": COMMIT}
    assert find() == weights
    assert not served.asked
    # Another branch is not guessed.
    with pytest.raises(WeightsMissing, match=rf"{COMMIT} .*'v2'.* --set toy\.revision={COMMIT}"):
        hub.find_weights("owner/model", WANTED, "toy.model", revision="v2")


def test_several_revisions_without_references_are_listed(served, monkeypatch, tmp_path):
    from huggingface_hub import constants

    snapshots = kept(tmp_path, "aaa", "bbb")
    with pytest.raises(WeightsMissing, match=r"aaa, bbb and .* --set toy\.revision=aaa") as caught:
        hub.find_weights("owner/model", WANTED, "toy.model", revision="main")
    assert "--set toy.revision=aaa" in str(caught.value.todo)
    with pytest.raises(WeightsMissing, match=re.escape(f"--set toy.model={snapshots / 'aaa'}")):
        find(download=False)
    found = hub.find_weights("owner/model", WANTED, "toy.model", revision="bbb")
    assert found.files[1].read_text() == found.commit == "bbb"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissing, match=r"HF_HUB_OFFLINE is set.* aaa, bbb and"):
        find()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert find().commit == COMMIT, "with a network, the hub says what main is"


def test_references_written_by_hand_are_read(tmp_path, served):
    snapshots = kept(tmp_path, "aaa", "bbb")
    (snapshots.parent / "refs").mkdir()
    (snapshots.parent / "refs" / "main").write_text("bbb\n")
    assert find(download=False).commit == "bbb"
    # A reference to what is not here is no leave to take another.
    shutil.rmtree(snapshots / "bbb")
    with pytest.raises(WeightsMissing, match="nothing is fetched after `prepare`"):
        find(download=False)


def test_a_repository_without_the_file_is_said(served):
    del served.files["pytorch_model.bin"]
    with pytest.raises(WeightsMissing, match=r"the repository has no model.safetensors or pytorch_model.bin"):
        find()


def test_a_repository_that_does_not_exist_is_said(served):
    with pytest.raises(WeightsMissing, match=r"'owner/other' are not on this machine \(the hub says") as caught:
        find(source="owner/other")
    assert caught.value.source is None, "a network would not help"


def test_nothing_is_fetched_unless_allowed(served):
    with pytest.raises(WeightsMissing, match="nothing is fetched after `prepare`"):
        find(download=False)
    assert not served.asked


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound and never listening, so that nobody else can be found there.
        use_hub(monkeypatch, tmp_path, free.getsockname()[1])
        with pytest.raises(WeightsMissing) as caught:
            find()
    line = str(caught.value)
    assert "\n" not in line
    assert "fetch config.json and model.safetensors or pytorch_model.bin of owner/model" in line
    assert line.endswith("--set toy.model=FOLDER")
    assert (caught.value.source, line.endswith(caught.value.todo)) == ("owner/model", True)


def test_a_hub_that_never_answers_is_left_in_time(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, tmp_path, silent.getsockname()[1])
        monkeypatch.setattr(hub, "TIMEOUT", 0.2)
        with pytest.raises(WeightsMissing, match="time"):
            find()


def test_offline_mode_asks_nobody(served, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissing, match="HF_HUB_OFFLINE is set"):
        find()
    assert not served.asked


@pytest.mark.parametrize("source", ["a/b--c", "a/b..c", "a/b.git", "a/b.", "a/b/c", "/no/such", "model", "a/"])
def test_what_is_neither_a_folder_nor_an_id_is_refused_without_asking(served, source):
    with pytest.raises(WeightsMissing, match="expected a hub id such as owner/name, or an existing folder"):
        find(source=source)
    assert not served.asked


def test_a_local_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsMissing, match=re.escape(f"no model.safetensors or pytorch_model.bin in {tmp_path}")):
        find(source=str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"old")
    (tmp_path / "model.safetensors").write_bytes(b"new")
    weights = find(download=False, source=str(tmp_path))
    assert [path.name for path in weights.files] == ["config.json", "model.safetensors"]
    assert weights.commit is None
    assert weights.folder == tmp_path


def test_a_single_file_may_be_named_itself(tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(b"x")
    assert hub.find_weights(str(path), [("s4d.pt",)], "toy.model").files == (path,)
    with pytest.raises(WeightsMissing, match="expected a hub id such as owner/name"):
        find(source=str(tmp_path / "no" / "such"))


def test_local_files_are_known_by_their_content(tmp_path):
    path, cache = tmp_path / "w.bin", Cache(tmp_path / "cache")
    path.write_bytes(b"abc")
    first = cache.digest_file(path)
    assert first == hashlib.sha256(b"abc").hexdigest()
    assert cache.digest_file(path) == first
    path.write_bytes(b"abcd")
    assert cache.digest_file(path) == hashlib.sha256(b"abcd").hexdigest()
    assert hub.Weights((path,), None).identity(cache) == {"files": {"w.bin": cache.digest_file(path)}}


def test_local_files_replaced_by_others_of_equal_size_and_time_are_seen(tmp_path: Path) -> None:
    path, cache = tmp_path / "w.bin", Cache(tmp_path / "cache")
    path.write_bytes(b"abc")
    status = path.stat()
    assert cache.digest_file(path) == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"xyz")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert cache.digest_file(path) == hashlib.sha256(b"xyz").hexdigest()


def test_weights_are_told_by_content_and_not_by_place(tmp_path: Path) -> None:
    for place, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.safetensors").write_bytes(content)
        (tmp_path / place / "README.md").write_text(f"in {place}")
    folders = [hub.identify_source(str(tmp_path / place)) for place in "abc"]
    assert folders[0] == folders[1] != folders[2]
    files = [hub.identify_source(str(tmp_path / place / "model.safetensors")) for place in "abc"]
    assert files[0] == files[1] != files[2]
    assert hub.identify_source("facebook/wav2vec2-large") == "facebook/wav2vec2-large"


def test_wanted_files_in_folders_of_a_folder_count(tmp_path: Path) -> None:
    (tmp_path / "mae-g").mkdir()
    seen = []
    for content in (b"one", b"two"):
        (tmp_path / "mae-g" / "giant.pth").write_bytes(content)
        seen.append(hub.identify_source(str(tmp_path), [("giant.pth", "mae-g/giant.pth")]))
    assert seen[0] != seen[1]


def test_a_replaced_weights_file_is_another_identity(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    seen = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        seen.append(S4DEncoder().identify(S4DOptions(weights=str(file))))
    assert seen[0] != seen[1]

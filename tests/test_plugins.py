"""Plugins are found one at a time: good ones work, and whatever is wrong with one stays its own business."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from blemore_harness import hookspecs
from blemore_harness.clips import Corpus
from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.executors import Executor
from blemore_harness.hookspecs import Encoder, FoldFinished, RunFinished, RunStarted, Tracker, hookimpl
from blemore_harness.predictions import Probabilities
from blemore_harness.systems.distributions import Distribution, Installed
from blemore_harness.systems.plugins import PluginRow, Plugins, load_plugins, register
from installed_plugins import Site, make_site
from sample_records import sample_record

IN_TREE = {"gemini", "late", "s4d", "trivial-blend", "trivial-single", "wav2vec2"}

GOOD = """
@hookimpl
def blemore_encoders():
    return [Toy()]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path / "site") as made:
        yield made


def failures(plugins: Plugins) -> dict[str, str]:
    return {row.name: row.summary for row in plugins.failures}


def test_in_tree_plugins_register_like_anyone_elses() -> None:
    plugins = load_plugins({})
    assert set(plugins.offers) >= IN_TREE
    assert failures(plugins) == {}
    homes = {"blemore-harness", "blemore-example"}  # tox installs `examples/example_plugin` too
    assert all(row.status == "ok" and row.distribution in homes for row in plugins.rows())


def test_third_party_plugin_is_found_with_its_distribution(site: Site) -> None:
    site.install("good", GOOD, version="2.5")
    offer = load_plugins({}).encoder("toy")
    assert offer.system.name == "toy"
    assert offer.plugin == "good"
    assert offer.distribution == Distribution("blemore-good", "2.5")


def test_blemore_encoders_is_asked_for_encoders(site: Site) -> None:
    site.install("good", "@hookimpl\ndef blemore_encoders():\n    yield Toy()\n")
    assert isinstance(load_plugins({}).encoder("toy").system, Encoder)


def test_blemore_fusions_is_asked_for_fusions(site: Site) -> None:
    site.install("good", "@hookimpl\ndef blemore_fusions():\n    return (Blend(),)\n")
    plugins = load_plugins({})
    assert plugins.fusion("blend").plugin == "good"
    with pytest.raises(ConfigError, match=r"'blend'.*--fusion"):
        plugins.encoder("blend")
    with pytest.raises(ConfigError, match=r"'s4d'.*--plugin"):
        plugins.fusion("s4d")


BROKEN = {
    "raises at import": (
        "raise OSError('no such library\\nsecond line')",
        "import failed: OSError: no such library second line",
    ),
    "exits at import": ("import sys; sys.exit(3)", "import failed: SystemExit: 3"),
    "lacks a package": ("import a_package_that_nobody_has", "import failed: ModuleNotFoundError"),
    "has a syntax error": ("def broken(:", "import failed: SyntaxError"),
    "misspells a hook": ("@hookimpl\ndef blemore_encoder():\n    return []", "wrong hook: .*blemore_encoder"),
    "wants unknown arguments": ("@hookimpl\ndef blemore_encoders(config):\n    return []", "wrong hook: .*config"),
    "wraps a hook": (
        "@hookimpl(wrapper=True)\ndef blemore_run_finished(event):\n    yield",
        "wrong hook: .*blemore_run_finished is a hook wrapper",
    ),
    "raises in a hook": ("@hookimpl\ndef blemore_encoders():\n    return 1 / 0", "blemore_encoders failed: ZeroDivis"),
    "exits in a hook": ("@hookimpl\ndef blemore_encoders():\n    raise SystemExit", "blemore_encoders failed: System"),
    "offers nothing": ("@hookimpl\ndef blemore_encoders():\n    pass", "blemore_encoders failed: TypeError"),
    "offers a class": ("@hookimpl\ndef blemore_encoders():\n    return [Toy]", "expected Encoder objects, found type"),
    "offers a fusion as encoder": (
        "@hookimpl\ndef blemore_encoders():\n    return [Blend()]",
        "expected Encoder objects, found Blend",
    ),
    "has no name": (
        "class Nameless(Encoder):\n    summary = 'x'\n    modality = 'video'\n"
        "@hookimpl\ndef blemore_encoders():\n    return [Nameless()]",
        "Nameless lacks the text attribute `name`",
    ),
    "has a name that is a path": (
        "class Odd(Toy):\n    name = '../toy'\n@hookimpl\ndef blemore_encoders():\n    return [Odd()]",
        "lower case letters, digits and dashes, found '../toy'",
    ),
    "has an unknown modality": (
        "class Odd(Toy):\n    modality = 'smell'\n@hookimpl\ndef blemore_encoders():\n    return [Odd()]",
        "expected a modality of video, audio, audiovisual, found 'smell'",
    ),
    "has Options that are no dataclass": (
        "class Odd(Toy):\n    Options = dict\n@hookimpl\ndef blemore_encoders():\n    return [Odd()]",
        "Odd.Options: expected a frozen dataclass",
    ),
    "has Options without a default": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Need:\n    size: int\n"
        "class Odd(Toy):\n    Options = Need\n@hookimpl\ndef blemore_encoders():\n    return [Odd()]",
        "Odd.Options: .*'size'",
    ),
    "has demo options that it does not know": (
        "class Odd(Toy):\n    demo_options = {'epoch': 3}\n@hookimpl\ndef blemore_encoders():\n    return [Odd()]",
        "Odd.demo_options: unknown option of toy 'epoch'",
    ),
    "offers one name twice": (
        "@hookimpl\ndef blemore_encoders():\n    return [Toy(), Toy()]",
        "'toy' .*twice",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_broken_plugin_becomes_a_row_and_hurts_nobody(site: Site, what: str) -> None:
    code, expected = BROKEN[what]
    site.install("broken", code, version="0.3")
    site.install("good", "class Other(Toy):\n    name='other'\n" + GOOD.replace("Toy()", "Other()"))
    plugins = load_plugins({})
    (row,) = plugins.failures
    assert (row.name, row.kind, row.distribution, row.version) == ("broken", "plugin", "blemore-broken", "0.3")
    assert row.status == "failed"
    assert "\n" not in row.summary
    assert re.search(expected, row.summary), row.summary
    assert plugins.rows()[-1] == row
    assert set(plugins.offers) >= IN_TREE | {"other"}
    assert "toy" not in plugins.offers


def test_the_good_encoders_beside_a_bad_one_stay(site: Site) -> None:
    site.install(
        "mixed",
        """
class Nameless(Encoder):
    summary, modality = "x", "video"
class Loud(Toy):
    name = "LOUD"
class Last(Toy):
    name = "last"
@hookimpl
def blemore_encoders():
    yield from (Toy(), Nameless(), Loud(), Last(), Last())
    yield from [Toy][1]
""",
    )
    plugins = load_plugins({"BLEMORE_PLUGINS": "mixed"})
    assert set(plugins.offers) == {"toy"}
    summaries = [row.summary for row in plugins.failures]
    assert all(row.name == "mixed" and row.status == "failed" for row in plugins.failures)
    for words, summary in zip(("Nameless", "LOUD", "IndexError", "'last'"), summaries, strict=True):
        assert words in summary


def test_unknown_name_suggests_and_points_at_plugins_that_failed(site: Site) -> None:
    with pytest.raises(UnknownName, match=r"'wav2vec'; did you mean 'wav2vec2'\? \(known: .*gemini"):
        load_plugins({}).encoder("wav2vec")
    site.install("broken", "1 / 0")
    with pytest.raises(UnknownName, match="failed to load: broken"):
        load_plugins({}).encoder("toy")
    with pytest.raises(UnknownName, match="'lat'; did you mean 'late'"):
        load_plugins({}).fusion("lat")


@pytest.mark.parametrize(
    ("name", "use"), [("crema-d", "--data crema-d:FOLDER"), ("mlflow", "--track"), ("slurm", "--executor slurm")]
)
def test_what_is_listed_but_is_no_system_is_said_how_to_use(name: str, use: str) -> None:
    plugins = load_plugins({})
    assert name in {row.name for row in plugins.rows()}
    for look_up in (plugins.find, plugins.encoder, plugins.fusion):
        with pytest.raises(ConfigError, match=f"'{name}' is an? .*{use}") as caught:
            look_up(name)
        assert not isinstance(caught.value, UnknownName)


def test_two_plugins_with_one_name_are_both_named_at_look_up(site: Site) -> None:
    site.install("one", GOOD, version="1.1")
    site.install("two", GOOD, version="2.2")
    plugins = load_plugins({})
    with pytest.raises(ConfigError) as caught:
        plugins.encoder("toy")
    for part in ("two plugins", "'toy'", "one (blemore-one 1.1) and two (blemore-two 2.2)", "BLEMORE_BLOCK=two"):
        assert part in str(caught.value)
    assert [row.status for row in plugins.rows() if row.name == "toy"] == ["conflict: provided by 2 plugins"] * 2
    assert plugins.encoder("s4d").plugin == "s4d"
    assert load_plugins({"BLEMORE_BLOCK": "two"}).encoder("toy").plugin == "one"


def test_two_distributions_with_one_entry_point_name_keep_the_first(site: Site) -> None:
    site.install("one", GOOD, point="same", distribution="blemore-a")
    site.install("two", GOOD, point="same", distribution="blemore-b")
    plugins = load_plugins({})
    kept = plugins.encoder("toy").distribution.name
    (row,) = plugins.failures
    assert {kept, row.distribution} == {"blemore-a", "blemore-b"}
    assert "another distribution" in row.summary
    assert plugins.manager.has_plugin("same")


def test_environment_bisects(site: Site) -> None:
    site.install("broken", "1 / 0")
    site.install("good", GOOD)
    assert set(load_plugins({"BLEMORE_PLUGINS": "good, late"}).offers) == {"toy", "late"}
    assert failures(load_plugins({"BLEMORE_PLUGINS": "good,late"})) == {}
    blocked = load_plugins({"BLEMORE_BLOCK": "broken,trivial"})
    assert failures(blocked) == {}
    assert set(blocked.offers) >= {"toy", "s4d"}
    assert "trivial-single" not in blocked.offers
    few = load_plugins({"BLEMORE_PLUGINS": "good,late", "BLEMORE_BLOCK": "good"})
    assert set(few.offers) == {"late"}
    with pytest.raises(UnknownName, match=r"BLEMORE_PLUGINS or BLEMORE_BLOCK: .*good.*trivial"):
        few.encoder("trivial-single")


def test_plugins_command_prints_rows_with_exactly_these_keys(site: Site) -> None:
    site.install("broken", "raise ValueError('away')")
    site.install("good", GOOD)
    done = subprocess.run(
        [sys.executable, "-c", "from blemore_harness.cli import main; main()", "plugins", "--json"],
        env={**os.environ, "PYTHONPATH": str(site.folder)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = json.loads(done.stdout)
    keys = ["name", "kind", "modality", "distribution", "version", "status", "summary"]
    assert all(list(row) == keys and all(isinstance(value, str) for value in row.values()) for row in rows)
    assert {row["name"] for row in rows} >= IN_TREE | {"toy", "broken"}
    assert {row["kind"] for row in rows} == {"encoder", "executor", "fusion", "tracker", "corpus", "plugin"}
    assert dict(zip(keys, ["toy", "encoder", "audio", "blemore-good", "1.0", "ok", "a toy"], strict=True)) in rows
    assert rows[-1] == {
        "name": "broken", "kind": "plugin", "modality": "", "distribution": "blemore-broken", "version": "1.0",
        "status": "failed", "summary": "import failed: ValueError: away",
    }  # fmt: skip
    assert done.stderr == ""


class Listener:
    """A plugin that is an object, keeps what it is told, and tries to change it."""

    def __init__(self, broken: bool = False) -> None:
        self.told: list[object] = []
        self._broken = broken

    def _tell(self, event: RunStarted | FoldFinished | RunFinished) -> None:
        self.told.append(event)
        event.record.submission.expect["score"] = 1.0  # type: ignore[index]
        if self._broken:
            raise RuntimeError("cannot listen\nat all")

    @hookimpl
    def blemore_run_started(self, event: RunStarted) -> None:
        self._tell(event)

    @hookimpl
    def blemore_fold_finished(self, event: FoldFinished) -> None:
        self._tell(event)

    @hookimpl
    def blemore_run_finished(self, event: RunFinished) -> None:
        self._tell(event)


@pytest.fixture
def told() -> tuple[Plugins, Listener, Listener]:
    plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
    broken, good = Listener(broken=True), Listener()
    register(plugins, broken, "broken", Distribution("b", "1"))
    register(plugins, good, "good", Distribution("g", "1"))
    assert plugins.failures == []
    return plugins, broken, good


def test_blemore_run_started_reaches_everyone_with_a_copy(told: tuple[Plugins, Listener, Listener]) -> None:
    plugins, broken, good = told
    record = sample_record()
    warnings = plugins.tell("blemore_run_started", RunStarted(Path("run"), record))
    assert warnings == ["plugin broken: blemore_run_started raised RuntimeError: cannot listen at all"]
    assert len(broken.told) == len(good.told) == 1
    assert record == sample_record(), "no hook changes what is recorded"


def test_blemore_fold_finished_reaches_everyone(told: tuple[Plugins, Listener, Listener]) -> None:
    plugins, _, good = told
    rows = Probabilities(("c1",), np.full((1, 6), 1 / 6))
    event = FoldFinished(Path("run"), sample_record(), "one", 0, 1.5, 0, {"epochs": 3}, (), rows)
    assert len(plugins.tell("blemore_fold_finished", event)) == 1
    [heard] = good.told
    assert isinstance(heard, FoldFinished)
    assert (heard.system, heard.fold, heard.notes, heard.probabilities.ids) == ("one", 0, {"epochs": 3}, ("c1",))


def test_blemore_run_finished_reaches_everyone_and_may_take_nothing(told: tuple[Plugins, Listener, Listener]) -> None:
    plugins, _, good = told
    calls: list[str] = []

    class Short:
        @hookimpl
        def blemore_run_finished(self) -> None:
            calls.append("finished")

    register(plugins, Short(), "short", Distribution("s", "1"))
    record = sample_record()
    assert len(plugins.tell("blemore_run_finished", RunFinished(Path("run"), record))) == 1
    assert calls == ["finished"]
    assert len(good.told) == 1


def test_a_hook_that_wants_other_arguments_is_refused() -> None:
    plugins = load_plugins({"BLEMORE_PLUGINS": "late"})

    class Old:
        @hookimpl
        def blemore_run_finished(self, record: object) -> None:
            """Take what hooks were given before events."""

    register(plugins, Old(), "old", Distribution("o", "1"))
    [row] = plugins.failures
    assert "blemore_run_finished(record" in row.summary


def test_rows_that_hooks_get_are_read_only() -> None:
    rows = Probabilities(("c1",), np.full((1, 6), 1 / 6))
    with pytest.raises(ValueError, match="read-only"):
        rows.values[0, 0] = 1


class Named(Tracker):
    """A tracker of any name."""

    summary = "a toy"

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]


class Mine(Corpus):
    name, summary, endings, example = "mine", "a corpus", (".wav",), "1.wav"


def test_blemore_corpora_are_listed_and_what_is_none_is_a_failure() -> None:
    for offered, said in ((object(), "found object"), (Mine(), "'mine'")):

        class Offering:
            @hookimpl
            def blemore_corpora(self, offered: object = offered) -> list[object]:
                return [Mine(), offered]

        plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
        register(plugins, Offering(), "offering", Distribution("t", "1"))
        assert [(row.name, row.status) for row in plugins.rows() if row.kind == "corpus"] == [("mine", "ok")]
        [failure] = plugins.failures
        assert said in failure.summary


def test_blemore_experiment_trackers_are_listed_and_what_is_none_is_a_failure() -> None:
    for offered, said in ((object(), "found object"), (Named("Bad Name"), "'Bad Name'"), (Named("good"), "'good'")):

        class Offering:
            @hookimpl
            def blemore_experiment_trackers(self, offered: object = offered) -> list[object]:
                return [Named("good"), offered]

        plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
        register(plugins, Offering(), "offering", Distribution("t", "1"))
        assert list(plugins.trackers) == ["good"]
        [failure] = plugins.failures
        assert said in failure.summary


class Engine(Executor):
    name = "engine"
    summary = "a toy"


def test_blemore_executors_are_listed_and_what_is_none_is_a_failure() -> None:
    for offered, said in ((Engine({}), "found <"), (type("Local", (Engine,), {"name": "local"}), "'local'")):

        class Offering:
            @hookimpl
            def blemore_executors(self, offered: object = offered) -> list[object]:
                return [Engine, offered]

        plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
        register(plugins, Offering(), "offering", Distribution("t", "1"))
        assert [row.name for row in plugins.rows() if row.kind == "executor"] == ["engine"]
        [failure] = plugins.failures
        assert said in failure.summary


def test_every_hook_has_a_test_named_after_it_and_says_when_it_is_called() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("blemore_")]
    assert len(hooks) == 8
    tests = [name for name, value in globals().items() if inspect.isfunction(value) and name.startswith("test_")]
    for hook in hooks:
        assert any(name.startswith(f"test_{hook}") for name in tests), hook
        assert "Called" in (getattr(hookspecs, hook).__doc__ or ""), hook


# --- where a plugin comes from -------------------------------------------------------------------------------------


def only_distribution(site: Site, name: str = "toy") -> Distribution:
    return load_plugins({}).encoder(name).distribution


def test_installed_distribution_is_its_version(site: Site) -> None:
    site.install("good", GOOD, version="4")
    found = only_distribution(site)
    assert (found.commit, found.source) == (None, None)
    assert found.facts() == {"distribution": "blemore-good", "version": "4", "source": None}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_editable_distribution_shows_commit_and_dirt_and_changes_with_every_edit(site: Site, tmp_path: Path) -> None:
    checkout = site.folder
    site.install("good", GOOD, editable=checkout)
    (checkout / ".gitignore").write_text("__pycache__\n")
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "x")
    commit = git(checkout, "rev-parse", "--short=12", "HEAD")
    clean = only_distribution(site)
    assert clean.commit == commit
    assert clean.source is not None
    assert clean == only_distribution(site)
    module = checkout / "plugin_good.py"
    module.write_text(module.read_text() + "\n# an edit\n")
    dirty = only_distribution(site)
    assert dirty.commit == f"{commit}-dirty"
    assert dirty.source != clean.source
    assert dirty.describe() == {"distribution": "blemore-good", "version": "1.0", "commit": f"{commit}-dirty"}


def test_source_digest_covers_the_package_and_survives_dangling_links(site: Site) -> None:
    package = site.folder / "plugin_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "help.py").write_text("x = 1\n")
    (package / ".#lock.py").symlink_to("somebody@somewhere.1234")
    site.install("good", GOOD, editable=site.folder, distribution="toys")
    info = site.folder / "toys-1.0.dist-info"
    (site.folder / "plugin_good.py").rename(package / "main.py")
    (info / "entry_points.txt").write_text("[blemore_harness]\ngood = plugin_package.main\n")
    before = only_distribution(site).source
    (package / "inner" / "help.py").write_text("x = 2\n")
    assert before is not None
    assert only_distribution(site).source not in (None, before)


def test_source_digest_of_a_namespace_package_and_of_an_object(site: Site) -> None:
    folder = site.folder / "plugin_space"
    folder.mkdir()
    code = "class P:\n    @hookimpl\n    def blemore_encoders(self):\n        return [Toy()]\nplugin = P()\n"
    site.install("good", code, editable=site.folder, distribution="toys")
    (site.folder / "plugin_good.py").rename(folder / "main.py")
    info = site.folder / "toys-1.0.dist-info"
    (info / "entry_points.txt").write_text("[blemore_harness]\ngood = plugin_space.main:plugin\n")
    assert only_distribution(site).source is not None


def test_metadata_is_read_once_for_all_entry_points_of_a_distribution(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("one", GOOD, editable=site.folder, distribution="toys")
    names = ("one", "two", "three")
    for name in names[1:]:
        (site.folder / f"plugin_{name}.py").write_text((site.folder / "plugin_one.py").read_text())
    points = "".join(f"{name} = plugin_{name}\n" for name in names)
    (site.folder / "toys-1.0.dist-info" / "entry_points.txt").write_text(f"[blemore_harness]\n{points}")
    real, read = importlib.metadata.PathDistribution.read_text, list[str]()

    def read_text(self: importlib.metadata.PathDistribution, filename: str) -> str | None:
        read.extend([filename] if self.locate_file("") == site.folder else [])
        return real(self, filename)

    monkeypatch.setattr(importlib.metadata.PathDistribution, "read_text", read_text)
    found = load_plugins({"BLEMORE_PLUGINS": ",".join(names)})
    assert len(found.manager.get_plugins()) == len(names)
    assert read.count("direct_url.json") == 1
    assert read.count("METADATA") == 1


def test_half_an_installation_hurts_nobody(site: Site) -> None:
    site.install("good", GOOD)
    info = site.folder / "blemore_good-1.0.dist-info"
    (info / "direct_url.json").write_text("{ not json")
    assert only_distribution(site) == Distribution("blemore-good", "1.0")
    (info / "direct_url.json").write_text('{"url": "https://example.org/x.whl", "archive_info": {}}')
    assert only_distribution(site) == Distribution("blemore-good", "1.0")
    (info / "METADATA").unlink()
    assert only_distribution(site) == Distribution("unknown", "0")


def test_entry_point_without_a_distribution() -> None:
    assert Installed().find(None, ModuleType("x")) == Distribution("unknown", "0")


def test_object_with_a_hostile_attribute_becomes_a_row() -> None:
    class Hostile:
        @property
        def blemore_encoders(self) -> None:
            raise RuntimeError("no")

        def __dir__(self) -> list[str]:
            raise RuntimeError("no listing")

    plugins = load_plugins({"BLEMORE_PLUGINS": "late"})
    register(plugins, Hostile(), "hostile", Distribution("h", "1"))
    register(plugins, SimpleNamespace(), "empty", Distribution("e", "1"))
    assert [row.name for row in plugins.failures] == ["hostile"]
    assert all(isinstance(row, PluginRow) for row in plugins.rows())

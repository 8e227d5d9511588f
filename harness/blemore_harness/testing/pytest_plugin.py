"""The checks as tests of a plugin author's own suite; the only module here that imports pytest.

    from blemore_harness.testing.pytest_plugin import PluginChecks

    class TestLoudness(PluginChecks):
        system = Loudness()
        not_applicable = {"learns": "it hears loudness only, and the clips differ in colour and pitch"}

gives one test for each check. A module that needs the fixture `conformance_session` elsewhere names this one:
`pytest_plugins = ["blemore_harness.testing.pytest_plugin"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.testing.checks import Check, checks_for
from blemore_harness.testing.running import refuse_unknown, run_check
from blemore_harness.testing.subjects import Release, Session, Subject
from blemore_harness.testing.trials import Trials
from blemore_harness.testing.verdicts import Verdict


@dataclass
class Checked:
    """What the tests of one class share, and what they came to so far."""

    bench: Trials
    verdicts: list[Verdict] = field(default_factory=list)


_SESSION = pytest.StashKey[Session]()
_CHECKED = pytest.StashKey[dict[type, Checked]]()


def give_session(request: pytest.FixtureRequest) -> Session:
    """Return the session that all checks of one pytest run share; clips are written once."""
    stash = request.config.stash
    if _SESSION not in stash:
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        stash[_SESSION] = Session(factory.mktemp("conformance"))
    return stash[_SESSION]


@pytest.fixture(scope="session")
def conformance_session(request: pytest.FixtureRequest) -> Session:
    """Generated clips and the watch of this process, for tests that call `check_subject` themselves."""
    return give_session(request)


class PluginChecks:
    """Base class of the tests of one system: a test for every check that applies to its kind.

    Attributes:
        system: the encoder or fusion, ready made.
        settings, network, not_applicable, known_failures, release: as of `subjects.Subject`.
    """

    system: ClassVar[Encoder | Fusion]
    settings: ClassVar[Mapping[str, object]] = {}
    network: ClassVar[bool] = False
    not_applicable: ClassVar[Mapping[str, str]] = {}
    known_failures: ClassVar[Mapping[str, str]] = {}
    release: ClassVar[Release | None] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each check."""
        if "check" in metafunc.fixturenames:
            checks = checks_for(isinstance(type(self).system, Fusion))
            metafunc.parametrize("check", checks, ids=[check.name for check in checks])

    @pytest.fixture
    def checked(self, request: pytest.FixtureRequest) -> Checked:
        """What the tests of this class share."""
        benches = request.config.stash.setdefault(_CHECKED, {})
        kind = type(self)
        if kind not in benches:
            subject = self.subject()
            refuse_unknown([*subject.not_applicable, *subject.known_failures])
            benches[kind] = Checked(Trials(subject, give_session(request)))
        return benches[kind]

    def subject(self) -> Subject:
        """Report who is checked and how."""
        kind: Any = type(self)
        return Subject(
            kind.system, kind.settings, kind.network, kind.not_applicable, kind.known_failures,
            None if kind.release is None else vars(kind).get("release", kind.release),
        )  # fmt: skip

    def test_conformance(self, check: Check, checked: Checked) -> None:
        """Run one check."""
        verdict = run_check(check, checked.bench)
        checked.verdicts.append(verdict)
        if verdict.status == "skipped":
            pytest.skip(verdict.reason)
        if verdict.status == "known failure":
            pytest.xfail(verdict.reason)
        if not verdict.good:
            pytest.fail(f"{check.says}: {verdict.reason}\n{verdict.trace}".rstrip(), pytrace=False)

    def test_something_was_checked(self, checked: Checked) -> None:
        """Refuse a suite in which every check was set aside."""
        if len(checked.verdicts) < len(checks_for(isinstance(self.system, Fusion))):
            pytest.skip("only some of the checks were run")
        assert any(verdict.status != "skipped" for verdict in checked.verdicts), (
            "every check was skipped: nothing was checked"
        )

"""A file of results, a JSON line per world and per replicate: a study goes on where it ended, or takes more methods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blemore_harness.errors import ConfigError, DataError
from blemore_harness.protocol.rules import Scores
from blemore_lab.calibration import Calibrated
from blemore_lab.causes import Causes
from blemore_lab.encoders import Skill
from blemore_lab.replicates import Outcome, ReplicateResult


class ResultsFile:
    """What is known of worlds and replicates, kept in a file where there is one.

    Args:
        path: of the file, which need not exist; None keeps nothing. A last line that was not finished is removed.

    Raises:
        DataError: a line that is none of a study's.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.worlds: dict[str, dict[str, Any]] = {}
        self._options: dict[tuple[str, str], Any] = {}
        self._replicates: dict[tuple[str, int], ReplicateResult] = {}
        if path is None or not path.exists():
            return
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            path.write_bytes(whole)
        for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), start=1):
            try:
                self._read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path}, line {number}: expected a line written by `simulate --results`") from error

    def _read(self, line: Mapping[str, Any]) -> None:
        if "settings" in line:
            self.worlds[line["world"]] = {name: line[name] for name in ("summary", "settings", "encoders")}
        else:
            self._merge(line["world"], line["number"], _from_json(line), line["options"])

    def _merge(self, world: str, number: int, result: ReplicateResult, options: Mapping[str, Any]) -> None:
        self._options |= {(world, name): options.get(name, {}) for name in result.official}
        self._replicates[world, number] = merge(self._replicates.get((world, number)), result)

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def open_world(self, world: str, settings: Mapping[str, Any]) -> tuple[Calibrated, ...] | None:
        """Return the calibrated encoders of a world; None where the file does not have it yet.

        Raises:
            ConfigError: the file has it with other settings.
        """
        there = self.worlds.get(world)
        if there is None:
            return None
        for name, value in json.loads(json.dumps(settings)).items():
            if there["settings"].get(name) != value:
                raise ConfigError(
                    f"{self._path} has the world '{world}' with {name} {there['settings'].get(name)}, found {value}: "
                    "use another file for other settings"
                )
        return self.encoders(world)

    def encoders(self, world: str) -> tuple[Calibrated, ...]:
        """Return the calibrated encoders of a world that the file has."""
        return tuple(
            Calibrated(each["name"], Skill(**each["skill"]), Scores(**each["reached"]), each["level"])
            for each in self.worlds[world]["encoders"]
        )

    def add_world(self, world: str, summary: str, settings: Mapping[str, Any], encoders: Iterable[Calibrated]) -> None:
        """Keep what replicates of a world are drawn with."""
        line = {"summary": summary, "settings": dict(settings), "encoders": [asdict(each) for each in encoders]}
        self.worlds[world] = json.loads(json.dumps(line))
        self._append({"world": world, **line})

    def check_options(self, world: str, options: Mapping[str, Any]) -> None:
        """Compare options by method with those that the file's replicates were computed with.

        Raises:
            ConfigError: a method of the file had others.
        """
        for (name, method), there in self._options.items():
            own = json.loads(json.dumps(options.get(method, there)))
            if name == world and own != there:
                raise ConfigError(
                    f"{self._path} has '{method}' with options {there}, found {own}: use another file, or another "
                    f"name ({method.partition('@')[0]}@NAME)"
                )

    def add(self, world: str, number: int, result: ReplicateResult, options: Mapping[str, Any]) -> None:
        """Keep a replicate, or further methods of one, computed with options by method."""
        own = {name: given for name, given in json.loads(json.dumps(options)).items() if name in result.official}
        self._merge(world, number, result, own)
        self._append({"world": world, "number": number, "options": own, **_to_json(result)})

    def has(self, world: str, number: int, method: str) -> bool:
        """Return whether a method's result in a replicate is known."""
        found = self._replicates.get((world, number))
        return found is not None and method in found.official

    def replicates(self, world: str) -> list[ReplicateResult]:
        """Return the known replicates of a world in the order of their numbers."""
        return [result for (name, _), result in sorted(self._replicates.items()) if name == world]


def merge(first: ReplicateResult | None, second: ReplicateResult) -> ReplicateResult:
    """Return a replicate with the methods of both."""
    if first is None:
        return second
    return ReplicateResult(
        {**first.official, **second.official},
        {**first.outcomes, **second.outcomes},
        {**first.thresholds, **second.thresholds},
        first.encoders,
        {**first.causes, **second.causes},
    )


def _to_json(result: ReplicateResult) -> dict[str, Any]:
    outcomes: dict[str, dict[str, Any]] = {}
    for (method, strategy), outcome in result.outcomes.items():
        own = outcomes.setdefault(method, {})
        own[strategy] = [outcome.reported, outcome.unseen.presence, outcome.unseen.salience, outcome.used]
    return {
        "official": {name: [s.presence, s.salience] for name, s in result.official.items()},
        "outcomes": outcomes,
        "thresholds": result.thresholds,
        "encoders": {name: [[s.presence, s.salience] for s in folds] for name, folds in result.encoders.items()},
        "causes": {name: asdict(causes) for name, causes in result.causes.items()},
    }


def _from_json(line: Mapping[str, Any]) -> ReplicateResult:
    return ReplicateResult(
        {name: Scores(*pair) for name, pair in line["official"].items()},
        {
            (method, strategy): Outcome(reported, Scores(presence, salience), used)
            for method, own in line["outcomes"].items()
            for strategy, (reported, presence, salience, used) in own.items()
        },
        {name: tuple((alpha, beta) for alpha, beta in pairs) for name, pairs in line["thresholds"].items()},
        {name: tuple(Scores(*pair) for pair in folds) for name, folds in line["encoders"].items()},
        {name: Causes(**causes) for name, causes in line["causes"].items()},
    )

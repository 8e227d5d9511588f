"""`export`: files of others' formats hold the numbers of the record, and its caveats with them."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.errors import ConfigError, RunError, UnknownName
from blemore_harness.record.types import CardFacts, Record
from blemore_pages.exports.every_eval_ever import describe_system, path_of
from sample_records import failed_system, sample_record, sample_system

# The keys that version 0.3.0 of the schema of Every Eval Ever wants, and what may stand there.
REQUIRED: dict[str, Any] = {
    "schema_version": "0.3.0",
    "evaluation_id": str,
    "retrieved_timestamp": str,
    "source_metadata": {
        "source_type": {"documentation", "evaluation_run"},
        "source_organization_name": str,
        "evaluator_relationship": {"first_party", "third_party", "collaborative", "other"},
    },
    "model_info": {
        "name": str,
        "id": str,
        "additional_details": {
            "deployment_type": {"self_deployed", "externally_managed", "unknown"},
            "model_availability": {"open_weights", "closed_weights", "unknown"},
        },
    },
    "eval_library": {"name": str, "version": str},
    "evaluation_results": [
        {
            "evaluation_name": str,
            "source_data": {"dataset_name": str, "source_type": "other"},
            "metric_config": {"lower_is_better": False, "score_type": "continuous", "min_score": 0, "max_score": 1},
            "score_details": {"score": float},
        }
    ],
}

CARD = CardFacts("MIT", "CC0", "CREMA-D", "yes", ("CREMA-D",), 7, True, "arXiv 1")


def record_of() -> Record:
    record = sample_record(
        sample_system("one", card=CARD, caveat="untrained", times_asked=3),
        sample_system("mix", kind="fusion", base_models=("one",), modality=""),
        failed_system("broken", "no"),
        demo=True,
    )
    return replace(record, execution=replace(record.execution, finished="2026-11-02T03:04:05+00:00"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "sample-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record_of().to_json()))
    return tmp_path / "runs"


def command(runs: Path, *words: str) -> Result:
    where = ["--runs", str(runs), "-o", str(runs.parent / "out")]
    return CliRunner().invoke(cli, ["export", "sample", *words, *where])


def check(content: Any, wanted: Any, way: str = "") -> None:
    """Compare a part of a file with what must stand there."""
    if isinstance(wanted, dict):
        assert set(wanted) <= set(content), way
        for key, inner in wanted.items():
            check(content[key], inner, f"{way}.{key}")
    elif isinstance(wanted, list):
        assert content, way
        for inner in content:
            check(inner, wanted[0], f"{way}[]")
    elif isinstance(wanted, set):
        assert content in wanted, way
    elif isinstance(wanted, type):
        assert isinstance(content, wanted), way
    else:
        assert content == wanted, way


def contents(runs: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in sorted((runs.parent / "out").glob("data/blemore/*/*/*.json"))]
    return {content["model_info"]["name"]: content for content in found}


def test_every_eval_ever_has_a_file_per_scored_system_with_the_keys_of_its_schema(runs: Path) -> None:
    result = command(runs, "--to", "every-eval-ever", "--organization", "us")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    found = contents(runs)
    assert set(found) == {"one", "mix"}
    for content in found.values():
        check(content, REQUIRED)
        assert content["source_metadata"]["source_organization_name"] == "us"
        # Everything under additional details must be text.
        for part in (content["source_metadata"], content["model_info"], content["eval_library"]):
            assert {type(value) for value in part["additional_details"].values()} == {str}


def test_its_numbers_are_those_of_the_record(runs: Path) -> None:
    command(runs, "--to", "every-eval-ever")
    results = {each["evaluation_result_id"]: each for each in contents(runs)["one"]["evaluation_results"]}
    system = record_of().finished[0]
    assert len(results) == 6
    for kind, means in (("out-of-sample", system.cross_fitted), ("official", system.official)):
        for measure, value in means.by_measure().items():
            details = results[f"{system.digest}/{kind}/{measure}"]["score_details"]
            assert details["score"] == value.mean
            assert float(details["details"]["sd_over_folds"]) == pytest.approx(value.sd, abs=1e-6)
            assert ("confidence_interval" in details["uncertainty"]) == (kind == "out-of-sample")
    interval = results[f"{system.digest}/out-of-sample/score"]["score_details"]["uncertainty"]["confidence_interval"]
    assert system.intervals is not None
    assert (interval["lower"], interval["upper"], interval["confidence_level"]) == (*system.intervals.score, 0.95)


def test_caveats_travel_along(runs: Path) -> None:
    command(runs, "--to", "every-eval-ever")
    command(runs, "--to", "hf-eval-results", "--dataset", "a/b", "--system", "one")
    yaml = (runs.parent / "out" / ".eval_results" / "blemore_out_of_sample.yaml").read_text()
    for system, words in {
        "one": ("demo", "untrained", "asked 3 times", "acted emotions: CREMA-D"),
        "mix": ("demo", "untrained", "base models chosen on the held-out folds", "acted emotions: CREMA-D"),
    }.items():
        content = contents(runs)[system]
        for text in words:
            assert text in content["source_metadata"]["additional_details"]["caveats"]
            assert all(
                text in result["score_details"]["details"]["caveats"] for result in content["evaluation_results"]
            )
            assert system == "mix" or yaml.count(text) == 3
        details = content["model_info"]["additional_details"]
        assert (details["deployment_type"], details["model_availability"]) == ("externally_managed", "closed_weights")
    assert contents(runs)["one"]["model_info"]["additional_details"]["card_weights_licence"] == "CC0"
    assert contents(runs)["one"]["evaluation_results"][0]["source_data"]["dataset_name"].startswith("demo")


def test_the_same_run_has_the_same_files_each_time(runs: Path) -> None:
    first = command(runs, "--to", "every-eval-ever").stdout
    assert command(runs, "--to", "every-eval-ever").stdout == first
    names = [Path(line).stem for line in first.splitlines()]
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", n) for n in names)
    record = record_of()
    assert path_of(record, record.finished[0]) != path_of(record, record.finished[1])


def test_it_is_valid_by_the_schema_of_the_package() -> None:
    if importlib.util.find_spec("every_eval_ever") is None:
        pytest.skip("every-eval-ever is not installed: it needs Python 3.12")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(files("every_eval_ever").joinpath("schemas", "eval.schema.json").read_text(encoding="utf-8"))
    record = record_of()
    for system in record.finished:
        jsonschema.Draft7Validator(schema).validate(describe_system(record, system, "us", 1.0))


def test_hugging_face_files_are_lists_of_results(runs: Path) -> None:
    yaml = pytest.importorskip("yaml")
    result = command(runs, "--to", "hf-eval-results", "--dataset", "blemore/BLEMORE")
    assert result.exit_code == 0
    system = record_of().finished[-1]
    for kind, means in (("out_of_sample", system.cross_fitted), ("official", system.official)):
        entries = yaml.safe_load((runs.parent / "out" / ".eval_results" / f"blemore_{kind}.yaml").read_text())
        assert [entry["value"] for entry in entries] == [
            pytest.approx(value.mean, abs=1e-6) for value in means.by_measure().values()
        ]
        for entry in entries:
            assert set(entry) == {"dataset", "value", "date", "notes"}
            assert entry["dataset"]["id"] == "blemore/BLEMORE"
            assert (entry["date"], type(entry["value"])) == ("2026-11-02", float)


@pytest.mark.parametrize("dataset", [(), ("--dataset", "blemore"), ("--dataset", "a/b\n- x: 1")])
def test_hugging_face_files_need_a_dataset(runs: Path, dataset: tuple[str, ...]) -> None:
    assert isinstance(command(runs, "--to", "hf-eval-results", *dataset).exception, ConfigError)
    assert not (runs.parent / "out").exists()


def test_a_run_without_results_and_an_unknown_system_are_refused(runs: Path) -> None:
    assert isinstance(command(runs, "--to", "every-eval-ever", "--system", "broken").exception, UnknownName)
    file = runs / "sample-0123456789ab" / "record.json"
    file.write_text(json.dumps(sample_record(failed_system("one", "no"), status="failed").to_json()))
    refusal = command(runs, "--to", "every-eval-ever").exception
    assert isinstance(refusal, RunError)
    assert "status: failed" in str(refusal)

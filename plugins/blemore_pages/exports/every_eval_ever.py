"""Results in the schema of Every Eval Ever, version 0.3.0: a JSON file per system."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from blemore_harness.disk import digest_of
from blemore_harness.record.types import FinishedSystem, Record
from blemore_harness.scoring.intervals import LEVEL
from blemore_pages.exports.facts import KINDS, Result, list_caveats, list_results, plain_file_name

SCHEMA = "0.3.0"

LIBRARY = "blemore-harness"


def path_of(record: Record, system: FinishedSystem) -> str:
    """Return the path of a system's file as the data store of Every Eval Ever has it; the same one each time."""
    digest = digest_of([record.identity, system.digest, record.execution.started], 32)
    name = uuid.UUID(digest, version=4)
    return f"data/blemore/{plain_file_name(system.plugin.distribution)}/{plain_file_name(system.name)}/{name}.json"


def describe_system(record: Record, system: FinishedSystem, organization: str, now: float) -> dict[str, Any]:
    """Return the content of a system's file.

    Args:
        record: of the run.
        system: one of its scored systems.
        organization: who publishes the result.
        now: time of the export, in seconds since 1970.
    """
    model = f"{plain_file_name(system.plugin.distribution)}/{plain_file_name(system.name)}"
    caveats = "; ".join(list_caveats(record, system)) or "none"
    versions = {each.plugin.version for each in record.systems if each.plugin.distribution == LIBRARY}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"blemore/{model}/{int(now)}",
        "evaluation_timestamp": record.execution.finished or record.execution.started,
        "retrieved_timestamp": str(int(now)),
        "source_metadata": {
            "source_name": LIBRARY,
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "other",
            "additional_details": {"caveats": caveats},
        },
        "eval_library": {
            "name": LIBRARY,
            "version": versions.pop() if len(versions) == 1 else "unknown",
            "additional_details": {"protocol": record.protocol},
        },
        "model_info": {"name": system.name, "id": model, "additional_details": _describe_model(record, system)},
        "evaluation_results": [_describe_result(record, system, result, caveats) for result in list_results(system)],
    }


def _describe_model(record: Record, system: FinishedSystem) -> dict[str, str]:
    inside = [each for each in record.systems if each.name in system.base_models]
    cards = [each.card for each in (system, *inside)]
    paid = any(card.paid for card in cards)
    known = all(card.weights_licence not in (None, "unknown") for card in cards)
    card = {
        key: ", ".join(value) if isinstance(value, tuple) else str(value)
        for key, value in vars(system.card).items()
        if value not in (None, ())
    }
    return {
        "deployment_type": "externally_managed" if paid else "self_deployed",
        "model_availability": "closed_weights" if paid else "open_weights" if known else "unknown",
        "plugin": f"{system.plugin.distribution} {system.plugin.version}",
        "configuration": system.digest,
        "options": ", ".join(f"{key}={value}" for key, value in system.options_given.items()) or "defaults",
        "base_models": ", ".join(system.base_models) or "none",
        **{f"card_{key}": value for key, value in card.items()},
    }


def _describe_result(record: Record, system: FinishedSystem, result: Result, caveats: str) -> dict[str, Any]:
    data = record.data
    uncertainty: dict[str, Any] = {"num_samples": data.blends if result.measure == "acc_salience" else data.clips}
    if result.interval is not None:
        low, high = result.interval
        uncertainty["confidence_interval"] = {
            "lower": low, "upper": high, "confidence_level": LEVEL / 100,
            "method": "Wilson interval with the variance between actors",
        }  # fmt: skip
    ended = record.execution.finished or record.execution.started
    return {
        "evaluation_result_id": f"{system.digest}/{result.kind}/{result.measure}",
        "evaluation_name": f"BLEMORE {data.folds}-fold validation, {result.kind}: {result.title}",
        "evaluation_timestamp": datetime.fromisoformat(ended).isoformat(),
        "source_data": {
            "dataset_name": "demo dataset of blemore-harness" if data.demo else "BLEMORE",
            "source_type": "other",
            "additional_details": {
                "digest": data.digest, "clips": str(data.clips), "blends": str(data.blends),
                "actors": str(data.actors), "folds": f"{data.folds} ({data.fold_source})",
            },
        },
        "metric_config": {
            "evaluation_description": f"{result.title} over folds; {KINDS[result.kind]}",
            "metric_id": f"blemore.{result.measure}",
            "metric_name": result.title,
            "metric_kind": "accuracy",
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {
            "score": result.value.mean,
            "details": {"sd_over_folds": f"{result.value.sd:.6f}", "caveats": caveats},
            "uncertainty": uncertainty,
        },
    }  # fmt: skip

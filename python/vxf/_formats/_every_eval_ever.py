"""Records of Every Eval Ever: one JSON file for each run, and one line for each figure of each answer.

The schemas are those of the project `evaleval/every_eval_ever`. Its program `every_eval_ever validate` checks the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

from .. import _runs
from .._text import REDACTED, details, is_defined, settings
from ._common import File, Sample, Source, by_experiment, identifier, metrics, model_name, samples, set_of

#: The version of both schemas.
SCHEMA_VERSION = "0.3.0"
_COLLECTION = "vxf"


def every_eval_ever_files(path: _runs.Place, with_samples: bool, organization: str) -> Iterator[File]:
    """The records in ``data/vxf/<organization>/<model>``, where the project wants them."""
    for origin, runs in by_experiment(path):
        for run in runs:
            if not metrics(run.record):
                continue
            name = run.place.relative_to(run.root).as_posix()
            key = identifier(origin.manifest.get("recipe"), origin.manifest.get("started"), name)
            # Of version 4 by its form, and the same whenever this run is written.
            number = str(uuid.UUID(bytes=bytes.fromhex(key)[:16], version=4))
            model = f"{_folder(organization)}/{model_name(origin, run)}"
            place = f"data/{_COLLECTION}/{model}"
            record = _record(origin, run, model, organization)
            lines = _lines(run, record, with_samples)
            if lines:
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                file = f"{place}/{number}_samples.jsonl"
                record["detailed_evaluation_results"] = {
                    "format": "jsonl",
                    "file_path": file,
                    "hash_algorithm": "sha256",
                    "checksum": hashlib.sha256(text.encode()).hexdigest(),
                    "total_rows": len(lines),
                    "additional_details": {"redacted": str(not with_samples).lower()},
                }
                yield file, text
            yield f"{place}/{number}.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _record(origin: Source, run: _runs._Run, model: str, organization: str) -> dict[str, Any]:
    # Not the time of the export, so that a second export gives the same files.
    measured = str(origin.seconds)
    about = {name: value for name, value in run.identity().items() if is_defined(value)}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{_COLLECTION}/{model}/{measured}",
        "evaluation_timestamp": origin.measured,
        "retrieved_timestamp": measured,
        "source_metadata": {
            "source_name": "vxf",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            # Who the evaluator is to the model is not in the experiment.
            "evaluator_relationship": "other",
            "additional_details": _texts(about),
        },
        "eval_library": {"name": "vxf", "version": origin.version},
        "model_info": {
            "name": model.partition("/")[2],
            "id": model,
            "developer": organization,
            "inference_engine": {"name": "vxf", "version": origin.version},
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                "base_model": origin.base,
                **_texts(settings(run.record)),
            },
        },
        "evaluation_results": [
            _result(metric, row, rows, origin) for metric, rows in metrics(run.record).items() for row in rows
        ],
    }


def _result(metric: str, row: dict[str, Any], rows: list[dict[str, Any]], origin: Source) -> dict[str, Any]:
    rate = row["unit"] == "%"
    name = set_of(rows)
    outcomes = row.get("outcomes") or {}
    config: dict[str, Any] = {
        "metric_id": f"vxf.{row['name']}",
        "metric_name": row["name"],
        "lower_is_better": row["better"] == "lower",
        "score_type": "continuous",
        # Only of a rate are the bounds known.
        "min_score": 0.0 if rate else "-Infinity",
        "max_score": 100.0 if rate else "Infinity",
        "additional_details": _texts(details(row)),
    }
    if row["unit"]:
        config["metric_unit"] = "percent" if rate else row["unit"]
    uncertainty: dict[str, Any] = {"num_samples": row["n"]}
    if row.get("interval"):
        low, high = row["interval"]
        uncertainty["confidence_interval"] = {
            "lower": low,
            "upper": high,
            "confidence_level": 0.95,
            "method": "over the prompts of this run",
        }
    data: dict[str, Any] = {"dataset_name": f"vxf {name or metric}", "source_type": "other"}
    if outcomes.get("prompts"):
        data["additional_details"] = {"prompts_digest": str(outcomes["prompts"])}
    return {
        "evaluation_result_id": f"{metric}.{row['name']}",
        "evaluation_name": metric,
        "source_data": data,
        "evaluation_timestamp": origin.measured,
        "metric_config": config,
        "score_details": {"score": row["value"], "uncertainty": uncertainty},
    }


def _lines(run: _runs._Run, record: dict[str, Any], with_samples: bool) -> list[dict[str, Any]]:
    lines = []
    for metric, rows in metrics(run.record).items():
        better = {row["name"]: row["better"] for row in rows}
        for sample in samples(run, rows, with_samples):
            for figure, counts in sample.counts.items():
                lines.append(_line(record, metric, figure, sample, counts, counts == (better[figure] == "higher")))
    return lines


def _line(record: dict[str, Any], metric: str, figure: str, sample: Sample, counts: bool, good: bool) -> dict[str, Any]:
    reference = [] if sample.expected is None else [sample.expected]
    # A digest of a short text can be guessed, so there is none of a text that is withheld.
    digest = hashlib.sha256("".join([sample.prompt, *reference]).encode()).hexdigest()
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": record["evaluation_id"],
        "model_id": record["model_info"]["id"],
        "evaluation_name": metric,
        "evaluation_result_id": f"{metric}.{figure}",
        "sample_id": sample.id,
        "sample_hash": None if sample.prompt == REDACTED else digest,
        "interaction_type": "single_turn",
        "input": {"raw": sample.prompt, "reference": reference},
        "output": {"raw": [sample.answer]},
        "messages": None,
        "answer_attribution": [],
        "evaluation": {"score": float(counts), "is_correct": good},
        "metadata": {"figure": figure, "set": sample.set},
    }


def _texts(values: dict[str, Any]) -> dict[str, str]:
    """The schema wants all further values as text."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _folder(name: str) -> str:
    """The name of a directory for an organization."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "anonymous"

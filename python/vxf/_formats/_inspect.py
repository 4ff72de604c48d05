"""Eval logs of Inspect: one JSON file for each run and metric.

Rates become proportions from 0 to 1, because Inspect's scores are: the `mean` of a score is the mean of its samples. Other
figures keep their unit, which is in the metadata of the score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .. import _runs
from .._text import REDACTED, details, is_defined, settings
from ._common import File, Sample, Source, by_experiment, identifier, metrics, model_name, samples, set_of

#: The version of the layout, as `inspect_ai.log` writes it.
_VERSION = 2


def inspect_files(path: _runs.Place, with_samples: bool) -> Iterator[File]:
    """The logs; they have the names that Inspect's own viewer expects."""
    for origin, runs in by_experiment(path):
        for run in runs:
            for metric, rows in metrics(run.record).items():
                log = _log(origin, run, metric, rows, with_samples)
                time = log["eval"]["created"].replace(":", "-")
                task = re.sub(r"[^\w-]", "-", metric)
                file = f"{time}_{task}_{log['eval']['task_id']}.json"
                yield file, json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _log(
    origin: Source, run: _runs._Run, metric: str, rows: list[dict[str, Any]], with_samples: bool
) -> dict[str, Any]:
    name = run.place.relative_to(run.root).as_posix()
    key = [origin.manifest.get("recipe"), origin.manifest.get("started"), name]
    created = origin.measured.replace("Z", "+00:00")
    model = f"vxf/{model_name(origin, run)}"
    found = samples(run, rows, with_samples)
    about = {name: value for name, value in run.identity().items() if is_defined(value)}
    log: dict[str, Any] = {
        "version": _VERSION,
        "status": "success",
        "eval": {
            "eval_id": identifier("eval", metric, *key)[:22],
            "run_id": identifier("run", *key)[:22],
            "task_id": identifier("task", metric, *key)[:22],
            "created": created,
            "task": metric,
            "task_version": 0,
            "task_args": about,
            "dataset": {
                "name": set_of(rows) or metric,
                "samples": len(found),
                "sample_ids": [each.id for each in found],
                "shuffled": False,
            },
            "model": model,
            "config": {},
            "packages": {"vxf": origin.version},
            "metadata": {"base_model": origin.base, "redacted": not with_samples, **settings(run.record)},
        },
        "plan": {"name": "vxf", "steps": [], "config": {}},
        "results": {
            "total_samples": len(found),
            "completed_samples": len(found),
            "scores": [_score(row) for row in rows],
        },
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
    }
    if found:
        log["samples"] = [_sample(each, model) for each in found]
    return log


def _score(row: dict[str, Any]) -> dict[str, Any]:
    rate = row["unit"] == "%"
    scale, name = (0.01, "mean") if rate else (1.0, "value")
    about = {"unit": "proportion" if rate else row["unit"], "better": row["better"], "n": row["n"], **details(row)}
    if row.get("interval"):
        # 95 %, over the prompts of this run.
        about["low"], about["high"] = (scale * end for end in row["interval"])
    value = {"name": name, "value": scale * row["value"], "params": {}}
    return {"name": row["name"], "scorer": row["name"], "params": {}, "metrics": {name: value}, "metadata": about}


def _sample(sample: Sample, model: str) -> dict[str, Any]:
    answer = {"role": "assistant", "content": sample.answer, "source": "generate"}
    return {
        "id": sample.id,
        "epoch": 1,
        "input": sample.prompt,
        "target": sample.expected or "",
        "messages": [{"role": "user", "content": sample.prompt, "source": "input"}, answer],
        "output": {"model": model, "choices": [{"message": answer, "stop_reason": "unknown"}]},
        "scores": {name: {"value": int(counts)} for name, counts in sample.counts.items()},
        "metadata": {"set": sample.set, "redacted": sample.prompt == REDACTED},
    }

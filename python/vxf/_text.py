"""What may be shown, sent or put into a cell: text from files is not trusted, and some of it stays here."""

from __future__ import annotations

import math
import os
import re
from typing import Any

#: What stands in place of prompts and answers that are not to be passed on.
REDACTED = "[redacted]"

#: A name of a choice, such as `cosine`. A path, a sentence or a file's name is none.
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,39}")

#: The variables of the environment that hold tokens.
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY", "HF_TOKEN", "TRACKIO_WRITE_TOKEN")

#: A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def is_defined(value: Any) -> bool:
    """Whether there is a value: neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def cell(value: Any) -> Any:
    """``value`` for a CSV file: a text that a spreadsheet would compute gets an apostrophe before it.

    Numbers stay as they are, negative ones too.
    """
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return "'" + value
    return value


def printable(text: Any) -> str:
    """``text`` in one line that cannot control a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(text))


def without_secrets(text: str) -> str:
    """``text`` without the tokens of the environment: a client's message may have an address with one in it."""
    for name in _SECRETS:
        secret = os.environ.get(name, "")
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return re.sub(r"(write_token=)[^&\s'\"]+", r"\1***", text)


def settings(record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that may leave the machine, by dotted name.

    These are numbers, switches and single words. Other text could be a path or part of a prompt, and stays here.
    """
    kept: dict[str, Any] = {}
    for key in ("defense", "perturber", "trainable"):
        _flatten(key, record.get(key), kept)
    for key in ("steps", "samples", "truncated", "dropped", "digest"):
        if record.get(key) is not None:
            kept[key] = record[key]
    return kept


def details(row: dict[str, Any]) -> dict[str, Any]:
    """The details of a figure that may leave the machine; the same rule."""
    kept: dict[str, Any] = {}
    for name, value in (row.get("details") or {}).items():
        _flatten(name, value, kept)
    return kept


def _flatten(name: str, value: Any, kept: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, kept)
    elif isinstance(value, (bool, int, float)) or (isinstance(value, str) and _WORD.fullmatch(value)):
        kept[name] = value

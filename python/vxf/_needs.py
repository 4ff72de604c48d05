"""Libraries that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, purpose: str, install: str) -> Any:
    """The library ``module``.

    ``purpose`` is the beginning of the error's sentence, ``install`` the name that pip knows.
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise _missing(module, purpose, install) from error
    # A directory `wandb` in the working directory, as that library makes it, looks like a package without a file.
    if getattr(found, "__file__", None) is None:
        raise _missing(module, purpose, install)
    return found


def _missing(module: str, purpose: str, install: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{purpose} {module}: pip install {install}", name=module)

"""Which runs of which experiments a path means, and whether they are still worked on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import _runs

if TYPE_CHECKING:
    from ._runs import Place

#: The file that a process of the program holds locked while it writes to an experiment.
_LOCK = ".lock"


@dataclass(frozen=True)
class Target:
    """An experiment, and the directory in it whose runs are meant."""

    root: Path
    below: Path

    def runs(self) -> list[_runs._Run]:
        return list(_runs._of_experiment(self.root, self.below, True))

    def has_ended(self) -> bool:
        """Whether everything that is meant is trained and measured."""
        if (self.below / _runs._RESULT).is_file():
            return True
        return _runs._json(self.root / _runs._MANIFEST).get("finished") is not None

    def is_held(self) -> bool:
        """Whether a process of the program has this experiment open on this machine."""
        try:
            import fcntl
        except ModuleNotFoundError:  # not on Windows
            return False
        try:
            with (self.root / _LOCK).open("r+b") as lock:  # NFS locks a file alone only if it is open for writing
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def targets(path: Place) -> list[Target]:
    """What ``path`` means: a run, a part of an experiment, an experiment, or all experiments of a directory.

    The directory of a run under way need not exist yet. Its checkpoints stand for it.
    """
    place = Path(path).absolute()
    known = next((each for each in [place, *place.parents] if each.is_dir()), place)
    try:
        found = _runs._experiments(known)
    except FileNotFoundError:
        found = []
    root = _runs._root(known)
    if not found or (known != place and root is None):
        raise FileNotFoundError(f"{path}: no experiment; `vxf run` makes one")
    if root is None:
        return [Target(each, each) for each in found]
    parts = (known.resolve() / place.relative_to(known)).relative_to(root).parts
    if parts[:1] == (_runs._CHECKPOINTS,):
        parts = tuple(part for part in parts[1:] if not part.startswith("step-"))
    return [Target(root, root.joinpath(*parts))]

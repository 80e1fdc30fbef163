"""Where a machine keeps what belongs to no output: its schedules, its place in a rack."""

from __future__ import annotations

import os
from pathlib import Path

_STATE, _CACHE = "RACKMILL_STATE", "RACKMILL_HOME"


def state_folder() -> Path:
    """``$RACKMILL_STATE``, or the usual place in the home folder."""
    named = os.environ.get(_STATE)
    return Path(named).absolute() if named else Path.home() / ".local/state/rackmill"


def cache_folder() -> Path:
    """What can be made anew: ``$RACKMILL_HOME``, or ``~/.cache/rackmill``."""
    named = os.environ.get(_CACHE)
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "rackmill"

"""Where a machine keeps what belongs to no output: its schedules, its place in a rack."""

from __future__ import annotations

import os
from pathlib import Path

_STATE = "RACKMILL_STATE"


def state_folder() -> Path:
    """``$RACKMILL_STATE``, or the usual place in the home folder."""
    named = os.environ.get(_STATE)
    return Path(named).absolute() if named else Path.home() / ".local/state/rackmill"

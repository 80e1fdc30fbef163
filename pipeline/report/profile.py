"""What runs on this machine measured: one line of JSON each, in a small file of the user.

Predictions learn from it (`pipeline.budget.predict`). It holds no data of the jobs, only counts
and times; if it is deleted, only what was learned is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from pipeline.budget.predict import MeasuredRun, Workload

_KEPT_RUNS = 1000


@dataclass(frozen=True)
class ProfileEntry:
    """One run. ``card``: that each engine had; ``template``: identifies prompt, label, sampling."""

    day: str
    model: str  # name and quantization
    card: str
    engine: str  # its kind
    template: str
    run: MeasuredRun
    predicted_seconds: float | None = None
    seconds: float = 0.0
    overhead_bytes: int | None = None  # that an engine took beside weights and KV cache
    watts: float | None = None  # measured mean of a card (or processor) at work
    compiled: str = ""  # what compiled code depended on (see ``budget.buckets.compile_key``)
    compile_seconds: float = 0.0  # until the engine was ready; not part of the run's own seconds

    def same_setup(self, *, model: str, card: str, engine: str) -> bool:
        """Whether times of this run say anything about that model on that card."""
        return (self.model, self.card, self.engine) == (model, card, engine)


_DECODER = msgspec.json.Decoder(ProfileEntry)


def profile_path() -> Path:
    """``$RACKMILL_PROFILE``, else ``profile.jsonl`` beside the model store."""
    own = os.environ.get("RACKMILL_PROFILE")
    if own:
        return Path(own)
    home = os.environ.get("RACKMILL_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "rackmill") / "profile.jsonl"


def load_profile(path: Path | None = None) -> list[ProfileEntry]:
    """The runs measured so far, oldest first. Lines that cannot be read are skipped."""
    try:
        lines = (path or profile_path()).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    records = []
    for line in lines[-_KEPT_RUNS:]:
        try:
            records.append(_DECODER.decode(line))
        except msgspec.DecodeError:
            continue  # cut off by a crash, or of other types
    return records


def remember(record: ProfileEntry, path: Path | None = None) -> None:
    """Add a run. If the profile cannot be written, a job that is done does not fail."""
    path = path or profile_path()
    line = json.dumps(asdict(record), ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _KEPT_RUNS * 2 * len(line):
            _shorten(path)
        with path.open("a", encoding="utf-8") as file:  # one write: lines of two runs do not mix
            file.write(line)
    except OSError:
        return


def _shorten(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    shorter = path.with_suffix(f".{os.getpid()}")
    shorter.write_text("".join(lines[-_KEPT_RUNS:]), encoding="utf-8")
    os.replace(shorter, path)


def last_workload(records: Sequence[ProfileEntry], template: str) -> Workload | None:
    """What the last run of that prompt, label and sampling did."""
    runs = [r.run.workload for r in records if r.template == template and r.run.workload.rows]
    return runs[-1] if runs else None

"""One seed: the real command, run again and again while its processes are killed."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.blows import Blow, Victim
from tests.chaos.place import Broken, Place, output_rows
from tests.support.processes import Started, called, marked

_POLL_SECONDS, _LOOK_SECONDS = 0.02, 0.1  # the latter to look at all processes
_LONGEST_LIFE = 150.0  # seconds; many times what an undisturbed run takes
_MOST_LIVES = 10
_SECONDS_TO_GO = 30.0  # for what a run started to be gone after its end
_SHOWN_CHARACTERS = 4000  # of a failed run's output
_TITLES = {Victim.WORKER: "WorkerActor", Victim.COORDINATOR: "_CoordinatorActor"}


@dataclass
class Outcome:
    """What became of a story. ``again``: rows that were answered more than once in all its lives;
    ``share``: of the job's rows; ``workers_lost``: killed, or ended with their driver;
    ``trouble``: what was not as promised."""

    name: str
    rows: int
    blows: list[str] = field(default_factory=list)
    victims: Counter[Victim] = field(default_factory=Counter)
    lives: int = 0
    again: int = 0
    workers_lost: int = 0
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.again / self.rows

    def encode(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def decode(cls, content: str) -> Outcome:
        fields = json.loads(content)
        victims = {Victim(name): number for name, number in fields["victims"].items()}
        return cls(**fields | {"victims": Counter(victims)})

    def __str__(self) -> str:
        struck = ", ".join(self.blows) or "nothing was killed"
        again = f"{self.again:5d} rows again ({self.share:4.1%})"
        line = f"{self.name:>9}  {self.seconds:5.1f} s  lives: {self.lives}  {again}  {struck}"
        return "\n".join([line, *(f"    {line}" for t in self.trouble for line in t.splitlines())])


class _Progress:
    """Committed rows of an output folder. Records are read once: they never change."""

    def __init__(self, output: Path) -> None:
        self._commits = output / "_rackmill/commits"
        self._rows: dict[str, int] = {}

    @property
    def rows(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            for path in self._commits.iterdir():
                if path.suffix == ".json" and path.name[0] != "." and path.name not in self._rows:
                    fields = json.loads(path.read_bytes())
                    self._rows[path.name] = 0 if "cut" in fields else fields["tally"]["rows"]
        return sum(self._rows.values())


class Story:
    """A job from its first start to its end, whatever befalls it."""

    def __init__(self, place: Place, name: str, blows: tuple[Blow, ...]) -> None:
        """``name``: of the output folder."""
        self._place = place
        self._left = list(blows)
        self._output = place.folder / name
        self._progress = _Progress(self._output)
        self._outcome = Outcome(name, place.rows)
        self._lives: list[Started] = []
        self._began = 0.0  # the present life
        self._reached: float | None = None  # when the next blow's share was

    def play(self) -> Outcome:
        """Run the command until the job is done, then look at what it made."""
        outcome, started, before = self._outcome, time.monotonic(), self._place.counted.given
        try:
            while not self._live():
                if outcome.lives >= _MOST_LIVES:
                    raise Broken(f"not done after {_MOST_LIVES} lives")
            outcome.again = self._place.counted.given - before - self._place.rows
            self._check()
        except Broken as e:
            outcome.trouble += [str(e), self._lives[-1].output[-_SHOWN_CHARACTERS:]]
        finally:
            for life in self._lives:
                life.kill_all()
        outcome.seconds = time.monotonic() - started
        return outcome

    def _live(self) -> bool:
        """One run of the command; True if the job is done. Raises Broken."""
        self._outcome.lives += 1
        command = self._place.command(self._outcome.name)
        life = Started(command, self._place.folder, self._place.environment)
        self._lives.append(life)
        self._began = time.monotonic()
        excused = False
        while life.process.poll() is None:
            if time.monotonic() - self._began > _LONGEST_LIFE:
                raise Broken(f"the run had not ended after {_LONGEST_LIFE:.0f} s")
            if self._left and self._due(self._left[0]):
                if self._strike(life, self._left[0]):
                    excused = excused or self._left.pop(0).ends_driver
                    self._reached = None
                else:
                    time.sleep(_LOOK_SECONDS)
            time.sleep(_POLL_SECONDS)
        code = life.process.returncode
        if code == 0:
            return True
        if not excused:
            raise Broken(f"the run ended with {code}, though it was not killed")
        if "Traceback" in life.output or "rackmill failed unexpectedly" in life.output:
            raise Broken(f"the run ended with {code} and more than a message")
        return False

    def _due(self, blow: Blow) -> bool:
        now = time.monotonic()
        if blow.share is None:
            return now - self._began >= blow.delay
        if self._reached is None and self._progress.rows >= blow.share * self._place.rows:
            self._reached = now
        return self._reached is not None and now - self._reached >= blow.delay

    def _strike(self, life: Started, blow: Blow) -> bool:
        """SIGKILL; False if there is no such process (yet)."""
        if blow.victim is Victim.MACHINE:
            struck = life.processes()
            life.kill_all()
        else:
            struck = self._find(life, blow)
            for process in struck:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        if struck:
            done = self._progress.rows / self._place.rows
            when = f"{time.monotonic() - self._began:.1f} s"
            self._outcome.blows.append(f"{blow.victim} at {done:.0%} ({when})")
            self._outcome.victims[blow.victim] += 1
            self._outcome.workers_lost += self._workers_lost(blow)
        return bool(struck)

    def _workers_lost(self, blow: Blow) -> int:
        if blow.share is None or blow.victim is Victim.COORDINATOR:
            return 0  # none was at work yet; they wait for the next coordinator
        return 1 if blow.victim is Victim.WORKER else self._place.workers

    def _find(self, life: Started, blow: Blow) -> list[psutil.Process]:
        if blow.victim is Victim.DRIVER:
            return [p for p in life.processes() if p.pid == life.process.pid]
        processes = self._processes(life)
        if blow.victim is Victim.RAY:
            return [p for p in processes if _program(p) == "raylet"]
        found = called(processes, _TITLES[blow.victim])
        return found[int(blow.dice * len(found)) :][:1]

    def _processes(self, life: Started) -> list[psutil.Process]:
        mark = self._place.ray_mark
        return marked(mark) if mark else life.processes()

    def _check(self) -> None:
        """Everything is there once, right, and nothing else is. Raises Broken."""
        rows = self._place.rows
        facts = json.loads(self._lives[-1].out)
        if (facts["rows"], facts["failed"]) != (rows, 0):
            raise Broken(f"{facts['rows']} rows, {facts['failed']} failed: {facts['errors']}")
        table = output_rows(self._output)
        if table["id"].to_pylist() != list(range(rows)):
            raise Broken("the output is not every row once, in order")
        if table["error"].null_count != rows:
            raise Broken("there are error rows")
        if self._place.expected is not None and not table.equals(self._place.expected):
            raise Broken("the output is not that of an undisturbed run")
        verified = self._place.ask("verify", str(self._output), "--json")
        if verified.returncode != 0:
            raise Broken(f"verify: {verified.stdout}{verified.stderr}")
        if not (self._output / "_SUCCESS").exists():
            raise Broken("there is no _SUCCESS")
        self._all_gone()
        litter = [str(path) for path in self._output.rglob(".*")]
        if litter := [*litter, *map(str, (self._output / "_rackmill/attempts").glob("*"))]:
            raise Broken(f"left in the folder: {litter}")
        shutil.rmtree(self._output)

    def _all_gone(self) -> None:
        """Nothing that any of the lives started lives on. Raises Broken."""
        deadline = time.monotonic() + _SECONDS_TO_GO
        while True:
            left = [p for life in self._lives for p in life.processes()]
            if self._place.ray_mark:  # Ray itself is to stay
                there = marked(self._place.ray_mark)
                left += [p for title in _TITLES.values() for p in called(there, title)]
            if not left:
                return
            if time.monotonic() > deadline:
                raise Broken(f"left behind: {[_program(p) for p in left]}")
            time.sleep(_LOOK_SECONDS)


def _program(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, IndexError):
        return Path(process.cmdline()[0]).name
    return ""

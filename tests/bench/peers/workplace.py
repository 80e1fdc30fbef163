"""One piece of work as each system wants it: a job file, and the same rows and prompts beside."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from workloads import MODEL, sharegpt_rows, tokenizer, tweets

from peers.hidden_lengths import install
from peers.measure import Measured, run_json
from pipeline import job_from
from pipeline.prompt.builder import PromptBuilder

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
MARK = "{{row}}"  # where a prompt's template has the row's text
_LONGEST_ANSWER = 2048  # what every system is told of every row
# vLLM's default on a CPU is 92 % of the machine's memory, and it does not start where so much is
# not free. This holds as many requests as its other defaults let run.
MEMORY = {"kv_cache_memory_bytes": 2 << 30}


@dataclass(frozen=True)
class Workplace:
    """``sampling`` and ``choices``: what the peers are asked for. ``tokens``: that the answers
    will have in all, where that is known. ``environment``: for every system alike."""

    folder: Path
    job: dict[str, Any]
    column: str
    template: str
    rows: int
    sampling: Mapping[str, Any]
    choices: Sequence[str] = ()
    tokens: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def job_file(self) -> Path:
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(self.job))
        return path

    def plan(self) -> dict[str, Any]:
        """What rackmill would do: the model's folder and the engine arguments it chose."""
        command = [BIN / "rackmill", "plan", self.job_file, "--json", "--fresh"]
        return run_json(command, self._own_environment)

    def rackmill(self) -> Measured:
        """`rackmill run`, into an empty folder, with nothing learnt from earlier runs."""
        command = [BIN / "rackmill", "run", self.job_file, "--json", "--fresh"]
        summary = run_json(command, self._own_environment)
        assert summary["succeeded"] == self.rows, summary["errors"]
        if self.tokens:
            assert summary["completion_tokens"] == self.tokens
        return {
            "seconds": summary["work_seconds"],
            "ready_seconds": summary["ready_seconds"],
            "whole_seconds": summary["whole_seconds"],
            "preemptions": summary["preemptions"],
        }

    def peer(self, script: str, environment: Mapping[str, str], **choices: Any) -> Measured:
        """A script of this folder, in a process of its own. ``choices``: added to what it
        reads: ``engine`` is vLLM's arguments."""
        specification = {
            "model": str(self.plan_once["model_path"]),
            "input": str(self.folder / "input"),
            "column": self.column,
            "template": self.template,
            "sampling": dict(self.sampling),
            "choices": list(self.choices),
            "mark": MARK,
            "output": tempfile.mkdtemp(dir=self.folder),
        } | choices
        path = self.folder / "specification.json"
        path.write_text(json.dumps(specification))
        command = [sys.executable, HERE / script, path]
        found = run_json(command, {**self.environment, **environment})
        assert found["rows"] == self.rows
        if self.tokens:
            assert found["tokens"] == self.tokens, (found["tokens"], self.tokens)
        return found

    @property
    def plan_once(self) -> dict[str, Any]:
        path = self.folder / "plan.json"
        if not path.exists():
            path.write_text(json.dumps(self.plan()))
        plan: dict[str, Any] = json.loads(path.read_text())
        return plan

    @property
    def arguments(self) -> dict[str, Any]:
        """The engine arguments that rackmill chose."""
        arguments: dict[str, Any] = self.plan_once["engines"][0]["arguments"]
        return arguments

    @property
    def _own_environment(self) -> dict[str, str]:
        return {**self.environment, "RACKMILL_PROFILE": str(self.folder / "profile-none.jsonl")}


def sharegpt(
    folder: Path, rows: int, *, skip: int = 0, engine: Mapping[str, Any] | None = None
) -> Workplace:
    """ShareGPT's first turns, each one once, with the recorded lengths of the answers, hidden
    from all systems."""
    chosen: dict[str, int] = {}
    for text, length in sharegpt_rows(2 * rows, skip=skip):
        chosen.setdefault(text, length)
    texts = list(chosen)[:rows]
    lengths = [chosen[text] for text in texts]
    assert len(texts) == rows
    (folder / "input").mkdir(parents=True)
    pq.write_table(pa.table({"prompt": texts}), folder / "input/part-0.parquet")
    sampling = {"max_tokens": _LONGEST_ANSWER, "ignore_eos": True, "temperature": 0.0}
    job = {
        "name": "sharegpt",
        "model": MODEL,
        "input": {"path": str(folder / "input")},
        "prompt": {"column": "prompt"},
        "sampling": sampling,
        "output": {"path": str(folder / "out"), "keep": []},
        "engine": dict(engine or {}),
    }
    ids = tokenizer().encode_batch(texts)
    by_prompt = dict(zip(map(tuple, ids), lengths, strict=True))
    assert len(by_prompt) == rows
    return Workplace(
        folder,
        job,
        "prompt",
        MARK,
        rows,
        sampling,
        tokens=sum(lengths),
        environment=install(folder, by_prompt.items()),
    )


def labelled_tweets(folder: Path, rows: int, *, duplicates: float = 0.2) -> Workplace:
    """The demo's job. rackmill gives a label and its probability over the choices; the peers are
    asked for the label alone: one greedy token, held to the two choices."""
    job = tweets(folder, rows, duplicates=duplicates)
    choices = [f" {choice}" for choice in job["label"]["choices"]]
    template = PromptBuilder(job_from(job), tokenizer()).render({"text": MARK})
    assert isinstance(template, str)
    ids = [tokenizer().encode_plain(choice) for choice in choices]
    assert all(len(i) == 1 for i in ids)
    sampling = {"max_tokens": 1, "temperature": 0.0, "allowed_token_ids": [i[0] for i in ids]}
    return Workplace(folder, job, "text", template, rows, sampling, choices)

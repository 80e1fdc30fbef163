"""What a server can do, and what of a job it cannot do faithfully. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.humanize import plural
from pipeline.job.job import Job
from pipeline.job.sampling import Sampling

# what every server must honour: without these an answer is another one
_PLAIN = frozenset({"n", "temperature", "max_tokens", "seed", "skip_special_tokens"})
_MOST_QUEUED = 8


@dataclass(frozen=True)
class Capabilities:
    """``server``: as it calls itself, with its version; ``model``: as it names it.

    ``concurrency``: requests that it really works on at once; ``given``: the job says so, and it
    gets no more than these. ``context``: tokens of a request.
    ``token_ids``: it takes prompts as token ids; else as text, which it tokenizes itself.
    ``top_logprobs``: of so many of the likeliest tokens it tells log-probabilities; 0: of none.
    ``json_schema``, ``regex``: it holds answers to such a shape. ``seed``: equal seeds draw alike.
    ``streams``: tokens come while it writes, not all at the end.
    ``sampling``: keys of ``sampling`` that it honours beside those that every server must.
    """

    server: str
    model: str
    concurrency: int
    context: int
    given: bool = False
    token_ids: bool = False
    top_logprobs: int = 0
    json_schema: bool = False
    regex: bool = False
    seed: bool = True
    streams: bool = False
    sampling: frozenset[str] = frozenset()

    @property
    def queued(self) -> int:
        """Requests that wait at the server beside those that it works on. Batches end together: as
        many then have to be there already. Few, since no other engine can take them over."""
        return 0 if self.given else min(self.concurrency, _MOST_QUEUED)

    @property
    def held(self) -> tuple[str, ...]:
        """As ``EngineFacts.held``."""
        return ("json",) * self.json_schema + ("regex",) * self.regex

    def in_words(self) -> str:
        """One line for people."""
        shapes = [name.replace("json", "JSON") for name in self.held]
        parts = [
            f"{self.server}: {self.model}",
            f"{plural(self.concurrency, 'request')} at once",
            f"context {self.context}",
            f"log-probabilities of {self.top_logprobs}"
            if self.top_logprobs
            else "no log-probabilities",
            " and ".join(shapes) + " held" if shapes else "no shape held",
            "token ids" if self.token_ids else "text",
            "seeds" if self.seed else "no seeds",
            "tokens as they come" if self.streams else "answers at once",
        ]
        return " · ".join(parts)

    def ignored(self, sampling: Sampling) -> list[str]:
        """Keys that ``sampling`` gives and the server would not honour."""
        given = sampling.model_dump(exclude_defaults=True)
        known = self.sampling | _PLAIN
        ignored = [key for key in given if key not in known]
        if sampling.seed is not None and sampling.temperature > 0 and not self.seed:
            ignored.append("seed")
        return ignored

    def refusals(self, job: Job) -> list[str]:
        """What ``job`` asks for and the server cannot do faithfully, each in a sentence."""
        found = [
            f"sampling.{key}: it is not known to the server, which would ignore it"
            for key in self.ignored(job.sampling)
        ]
        if job.score is not None:
            found.append("score: the server tells no log-probabilities of a prompt's tokens")
        label = job.label
        if label is not None and label.json_schema and not self.json_schema:
            found.append("label.json_schema: the server does not hold answers to a schema")
        if label is not None and label.regex and not self.regex:
            found.append("label.regex: the server does not hold answers to a regular expression")
        if label is not None and label.votes and not self.top_logprobs:
            found.append("label.votes: they are drawn from log-probabilities, and it tells none")
        return found

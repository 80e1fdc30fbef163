"""Servers as kinds of engines: llama.cpp, Ollama, LM Studio, mlx_lm, LiteRT-LM and whatever speaks
OpenAI's interface."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.chat import ChatServer
from pipeline.engine.http.client import Client
from pipeline.engine.http.engine import HttpEngine
from pipeline.engine.http.llama_server import LlamaServer
from pipeline.engine.http.ollama import Ollama
from pipeline.engine.http.openai import OpenAiServer
from pipeline.engine.http.regex_grammar import regex_grammar
from pipeline.engine.http.server_api import Endpoint, ServerApi
from pipeline.engine.protocol import Engine
from pipeline.errors import EndpointGone, EndpointUnfit, UsageError
from pipeline.humanize import duration
from pipeline.job.job import Job
from pipeline.job.secret import secret
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer

_log = logging.getLogger(__name__)
Result = TypeVar("Result")
# of the job's own times, after which an engine counts as one that hangs: a server is given up
# before, and no row of the job is to blame for it
_SHARE = 0.9
_BRIEF_SECONDS = 15.0
_FIRST_SECONDS, _LONGEST_SECONDS = 1.0, 15.0  # between asking a server that is away
_CONTEXT = 4096  # where the job and the server say nothing of it
_DIALECTS: Mapping[str, Callable[[Endpoint], ServerApi]] = {
    "llama.cpp": LlamaServer,
    "ollama": Ollama,
    "openai": OpenAiServer,
    "lmstudio": OpenAiServer,
    "mlx": OpenAiServer,
    "litert": ChatServer,
}


def load(
    job: Job,
    arguments: Mapping[str, Any],  # noqa: ARG001 -- a server has its own
    model: ModelFolder,
    say: Callable[[str], None],
) -> Engine:
    """The server of the job that is this worker's, when it is there. Raises EngineFailed."""
    url = job.engine.urls[0]  # the only one where a run has given each server a worker
    key, faults = key_of(job), job.faults
    patience = min(faults.step_timeout_seconds, _SHARE * faults.load_timeout_seconds)
    return when_it_is_back(lambda: connect(job, model, say, url, key), url, patience, say)


def when_it_is_back(
    ask: Callable[[], Result],
    url: str,
    patience: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """What ``ask`` gives. While it raises EndpointGone it is called again, after a second,
    two, four, … up to a quarter of a minute, for ``patience`` seconds. What is waited for is said
    once, and once more when it is back. Raises EndpointUnfit when the patience is over."""
    began, pause, why = now(), _FIRST_SECONDS, ""
    while True:
        try:
            found = ask()
        except EndpointGone as e:
            reason = e.message.removeprefix(f"{url}: ")
            if reason != why:
                why = reason
                say(f"waits for {url}: {why}")
            left = began + patience - now()
            if left <= 0:
                raise EndpointUnfit(
                    f"{url} was waited for, {duration(patience)}, and is not back: {why}",
                    "start it again; what is committed stays, and the same command goes on from "
                    "there (faults.step_timeout_seconds: for how long it is waited for)",
                ) from None
            _log.info("asks %s again in %s", url, duration(pause))
            sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_SECONDS)
        else:
            if why:
                say(f"{url} is back after {duration(now() - began)}")
            return found


def key_of(job: Job) -> str | None:
    """The key that the environment variable of the job holds."""
    if job.engine.api_key is None:
        return None
    found = secret(job.engine.api_key)
    if found is None:
        raise EndpointUnfit(
            f"engine.api_key: the environment variable {job.engine.api_key} is not set",
            f"export {job.engine.api_key}=… where the job is started",
        )
    return found.get_secret_value()


def connect(
    job: Job,
    model: ModelFolder,
    say: Callable[[str], None],
    url: str,
    key: str | None,
    ended: Callable[[], None] = lambda: None,
    *,
    brief: bool = False,
) -> HttpEngine:
    """An engine of the server at ``url``, whose capabilities are said. ``brief``: one that is away
    is waited for a few seconds alone, and how many requests it works on at once is not measured.
    Raises EngineFailed."""
    settings = job.engine
    patience, tries = _SHARE * job.faults.step_timeout_seconds, None
    if brief:
        patience, tries = min(patience, _BRIEF_SECONDS), 2
        settings = settings.model_copy(update={"max_num_seqs": settings.max_num_seqs or 1})
    tokenizer = Tokenizer(model.path)

    def made() -> tuple[Client, ServerApi]:
        client = Client(url, key, patience, tries)
        context = settings.max_model_len or _CONTEXT
        endpoint = Endpoint(client, settings, context, tokenizer)
        return client, _DIALECTS[settings.kind](endpoint)

    engine = HttpEngine(made, settings.kind, model.geometry, ended)
    say(f"{url}: {engine.capabilities.in_words()}")
    refusals = engine.capabilities.refusals(job)
    if refusals:
        engine.close()
        raise EndpointUnfit(
            f"{url} cannot do the job: {'; '.join(refusals)}",
            "leave these keys out, or take another engine",
        )
    return engine


def ask(job: Job, model: ModelFolder, url: str) -> Capabilities:
    """What the server at ``url`` can do, within seconds. Raises EndpointUnfit where it cannot do
    ``job``, EndpointSlow where it is there and does not answer soon, EndpointGone."""
    engine = connect(job, model, lambda line: None, url, key_of(job), brief=True)
    engine.close()
    return engine.capabilities


def check_answer_shape(job: Job) -> None:
    """Whether a server holds answers to the job's shape it alone knows, and is asked at the start;
    of llama.cpp it is known."""
    label = job.label
    if label is not None and label.regex and job.engine.kind == "llama.cpp":
        try:
            regex_grammar(label.regex)
        except ValueError as e:
            raise UsageError(f"label.regex: {e}", "engine.kind: vllm knows more") from None
    if job.score is not None:
        raise UsageError(
            f"score: no server of kind {job.engine.kind} tells log-probabilities of a prompt's "
            "tokens",
            "engine.kind: vllm does",
        )

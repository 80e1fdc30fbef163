"""llama.cpp's ``llama-server`` by its own API (``tools/server/README.md`` of llama.cpp)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Refused
from pipeline.engine.http.held_schema import held_schema
from pipeline.engine.http.pieces import NamedPieces
from pipeline.engine.http.regex_grammar import regex_grammar
from pipeline.engine.http.server_api import ServerApi, check_count, other_model, told
from pipeline.rows.request import Request

# Of the likeliest tokens so many are told of at a choice's first token. Labels' tokens are nearly
# always among them; the price of one more is 90 bytes of an answer.
_TOP = 256
_FINISHED = {"eos": "stop", "word": "stop", "limit": "length"}


class LlamaServer(ServerApi):
    """One ``llama-server``."""

    _path = "/completion"
    _logprobs_at = ("completion_probabilities", 0, "top_logprobs")

    async def probe(self) -> Capabilities:
        client = self._endpoint.client
        props = await client.get("/props")
        slots = int(told(props, "total_slots"))
        settings = told(props, "default_generation_settings")
        context = int(settings.get("n_ctx") or 0)
        model = str(props.get("model_alias") or props.get("model_path") or "").split("/")[-1]
        await self._check_tokens(model)
        build = str(props.get("build_info") or "").strip()
        return Capabilities(
            server=f"llama.cpp {build}".strip(),
            model=model,
            concurrency=self._endpoint.settings.max_num_seqs or slots,
            given=self._given,
            context=context,
            token_ids=True,
            top_logprobs=_TOP,
            json_schema=True,
            regex=True,
            streams=True,
            sampling=frozenset({"top_p", "top_k", "min_p", "stop", "ignore_eos"}),
        )

    async def _check_tokens(self, model: str) -> None:
        """Raise EndpointUnfit where its tokens are not those of the job's model: it is sent ids."""
        text, ids = self._endpoint.sample()
        body = {"content": text, "add_special": True}
        tokens = told(await self._endpoint.client.post("/tokenize", body), "tokens")
        if isinstance(tokens, list) and tokens != ids:
            differs = f"it has {len(tokens)} tokens, or others,"
            raise other_model(self._endpoint.client.url, model, differs, len(ids))

    def _pieces(self) -> NamedPieces:
        return NamedPieces("content", "stop")

    def _check_prompt(self, answer: Any, request: Request) -> None:
        check_count(answer.get("tokens_evaluated"), request)
        if answer.get("truncated"):
            raise Refused(200, "it cut the prompt: context size")

    def _pairs(self, found: Any, wanted: Sequence[int]) -> Iterable[tuple[int, Any]]:  # noqa: ARG002
        return [(int(one["id"]), one["logprob"]) for one in found]

    def _read(self, answer: Any) -> tuple[Any, Any, Any]:
        text, counted = told(answer, "content"), told(answer, "tokens_predicted")
        kind = answer.get("stop_type")
        if not isinstance(text, str) or not isinstance(counted, int) or kind not in _FINISHED:
            raise Refused(200, f"its answer is not llama.cpp's: {str(answer)[:120]}")
        return text, _FINISHED[kind], counted

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        # what llama.cpp would do by itself is not what was asked for: every sampler is said
        body: dict[str, Any] = {
            "prompt": request.prompt_ids,
            "n_predict": request.max_new_tokens,
            "temperature": 0.0 if request.logprob_ids else sampling.temperature,
            "top_k": max(0, sampling.top_k),
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": 1.0,
            "samplers": ["top_k", "top_p", "min_p", "temperature"],
            "cache_prompt": True,
        }
        if request.logprob_ids:
            return body | {"n_probs": _TOP, "post_sampling_probs": False}
        if sampling.seed is not None:
            body["seed"] = sampling.seed % (1 << 32)
        if sampling.stop:
            body["stop"] = (
                [sampling.stop] if isinstance(sampling.stop, str) else list(sampling.stop)
            )
        if sampling.ignore_eos:
            body["ignore_eos"] = True
        structure = request.structure
        if structure is not None and structure.json_schema is not None:
            body["json_schema"] = held_schema(structure)
        elif structure is not None and structure.regex is not None:
            body["grammar"] = regex_grammar(structure.regex)
        return body

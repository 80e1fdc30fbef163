"""vLLM behind the engine protocol. Code that uses vLLM's unstable internals is here and in the
modules beside it, most of all ``scores`` and ``row_scheduler``."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.failure.oom_errors import is_out_of_memory, out_of_memory, shortage_in
from pipeline.engine.failure.stderr_tail import ELSEWHERE, StderrTail
from pipeline.engine.gpu.environment import CUDA_ENVIRONMENT
from pipeline.engine.protocol import EngineFacts, EngineStats
from pipeline.engine.vllm.compiling import CompileWatch
from pipeline.engine.vllm.core_watch import InFlight, forget_outputs, watch_core
from pipeline.engine.vllm.cpu_compute import UNPACKED, for_vllm
from pipeline.engine.vllm.grammar_compilers import Unsupported, structured_output_settings
from pipeline.engine.vllm.scores import prepare, scores_of
from pipeline.engine.vllm.torch_relatives import without_unfit_relatives
from pipeline.errors import EngineFailed, RowError, RowErrorType
from pipeline.job.engine import Core
from pipeline.model.folder import ModelFolder
from pipeline.model.geometry import Geometry
from pipeline.rows.request import Completion, Request


def environment(*, gpu: bool, eager: bool, core: Core = "auto") -> dict[str, str]:
    """Variables that must be set before vLLM is imported.

    ``core``: whether the engine's core is a separate process. "auto": it is on a GPU, so that its
    Python overlaps with the card; on a CPU that process would only compete for the same cores.

    ``eager``: nothing is compiled. vLLM's own setting of that name covers the model only; some
    helpers would still be compiled at the first step, which takes seconds and a C++ compiler.
    """
    return {
        **(CUDA_ENVIRONMENT if gpu else {}),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if core == "own" or (gpu and core == "auto") else "0",
        "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION": "0",  # late tokens are recognized by it
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "VLLM_NO_USAGE_STATS": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # cards have the driver's numbers
        # Cards of one engine write into each other's memory over NVLink alone. Over PCIe GeForce
        # cards may not, and where others may, an IOMMU can make them hang (vLLM #51513).
        "NCCL_P2P_LEVEL": os.environ.get("NCCL_P2P_LEVEL", "NVL"),
        "HF_HUB_OFFLINE": "1",  # the checkpoint is on this machine already
        "HF_TOKEN": "",  # so a worker needs none
        "TOKENIZERS_PARALLELISM": "true",
        # On a CPU with AMX vLLM would round the activations of int4 layers to 8 bits: at 0.6 of
        # the rate (measured), with 1.4 % more perplexity and other answers than elsewhere.
        "VLLM_CPU_INT4_W4A8": "0",
        "TORCHDYNAMO_DISABLE": "1" if eager else "0",
    }


# the key of ``SamplingParams.extra_args`` under which the row of a request stands
ROW = "row"
ROW_SCHEDULER = "pipeline.engine.vllm.row_scheduler.RowScheduler"


class VllmEngine:
    """A vLLM engine stepped from the calling thread."""

    def __init__(
        self,
        model: ModelFolder,
        arguments: Mapping[str, Any],
        json_schema: Mapping[str, Any] | None = None,
        *,
        scoring: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """``json_schema``: the one that all structured requests will have, if any. ``scoring``: all
        requests are to be scored. ``say``: gets a message before what takes long."""
        self.stats = EngineStats()
        self._score_from: dict[int, int] = {}  # of the scored requests, by id
        self._in_flight = InFlight()
        self._last_words = StderrTail()
        self._closed = threading.Event()
        # loading makes millions of objects that stay: looking for garbage among them takes
        # seconds and finds none
        gc.disable()
        gc.freeze()  # vLLM does so anyway, five times
        try:
            without_unfit_relatives()
            if scoring:
                from vllm.platforms import current_platform

                prepare(cpu=current_platform.is_cpu())
            with CompileWatch(say) as compiling:
                self._engine = _build(model.path, for_vllm(model, arguments), json_schema)
        except Exception as e:  # vLLM may raise anything; the job needs a plain message
            raise self._failure(e, f"vLLM could not load {model.path}") from e
        finally:
            gc.freeze()
            gc.enable()
        self.facts = replace(
            _facts(self._engine, model.geometry), compile_seconds=compiling.seconds
        )
        self._watch_steps()
        watch_core(self._engine.engine_core, self._closed)

    def _failure(self, e: Exception, what: str) -> EngineFailed:
        """``e`` as one of our errors. Where the engine's core is another process, the reason is
        only in its log."""
        reason = str(e) or type(e).__name__
        if not is_out_of_memory(e) and any(word in str(e) for word in ELSEWHERE):
            reason = self._last_words.reason or "its core, a process of its own, died"
        message = f"{what}: {reason}"
        if is_out_of_memory(e) or shortage_in(reason) is not None:
            return out_of_memory(message)
        return EngineFailed(message)

    def _watch_steps(self) -> None:
        """Read what the core sends after each step. It names all requests that got a token, while
        vLLM makes no output object for unfinished requests, which saves time; and it has the
        scheduler's counts, from which vLLM would make statistics for servers."""
        from vllm.v1.engine import EngineCoreEventType

        self._engine.log_stats = self._engine.output_processor.log_stats = False
        self._engine.logger_manager = None
        stats, core, preempted = self.stats, self._engine.engine_core, EngineCoreEventType.PREEMPTED
        get_output = core.get_output

        def watched() -> Any:
            outputs = get_output()
            got = [self._in_flight.find(o.request_id) for o in outputs.outputs if o.new_token_ids]
            stats.sampled = [request_id for request_id in got if request_id is not None]
            stats.late_tokens += len(got) - len(stats.sampled)
            events = (event for o in outputs.outputs for event in o.events or ())
            stats.preemptions += sum(event.type == preempted for event in events)
            scheduler = outputs.scheduler_stats
            if scheduler is not None:
                stats.running = scheduler.num_running_reqs
                stats.waiting = scheduler.num_waiting_reqs + scheduler.num_skipped_waiting_reqs
                stats.kv_use = scheduler.kv_cache_usage
                cache = scheduler.prefix_cache_stats
                stats.recomputed_tokens += cache.preempted_queries - cache.preempted_hits
            return outputs

        core.get_output = watched

    def add(self, request: Request) -> None:
        from vllm.exceptions import VLLMClientError

        try:
            parameters = _sampling_params(request)
            if request.score_from is not None:
                self._score_from[request.id] = request.score_from
            if request.row is not None:
                parameters.extra_args = {ROW: request.row}
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            name = self._engine.add_request(str(request.id), prompt, parameters)
            self._in_flight.began(request.id, name)
        except (ValueError, TypeError, VLLMClientError) as e:
            self._score_from.pop(request.id, None)
            raise RowError(RowErrorType.INVALID_SAMPLING, f"vLLM: {e}") from None

    def step(self) -> list[Completion]:
        self.stats.sampled = ()
        if not self._in_flight:
            return []  # a core in a separate process would keep us waiting for ever
        self.stats.steps += 1
        try:
            outputs = self._engine.step()
        except Exception as e:
            raise self._failure(e, "vLLM failed") from e
        completions = [self._completion(output) for output in outputs if output.finished]
        self._ended(completion.request_id for completion in completions)
        return completions

    def _ended(self, request_ids: Iterable[int]) -> None:
        self._in_flight.ended(request_ids)
        # the core may count requests that have ended here
        left, stats = len(self._in_flight), self.stats
        stats.running, stats.waiting = min(stats.running, left), min(stats.waiting, left)

    def _completion(self, output: Any) -> Completion:
        score_from = self._score_from.pop(int(output.request_id), None)
        completion = _completion(output)
        if score_from is not None and completion.error is None:
            completion.scores = scores_of(output.prompt_logprobs, score_from)
        return completion

    def abort(self, request_ids: Iterable[int]) -> None:
        request_ids = list(request_ids)
        for request_id in request_ids:
            self._score_from.pop(request_id, None)
        self._engine.abort_request([str(i) for i in request_ids])
        self._ended(request_ids)

    def reset(self) -> None:
        self._score_from.clear()
        if self._in_flight or not self._engine.reset_prefix_cache():
            raise EngineFailed("vLLM still works on requests")
        forget_outputs(self._engine.engine_core)
        self.stats.clear()
        self.facts = replace(self.facts, compile_seconds=0.0)  # that was another job's

    def close(self) -> None:
        self._closed.set()
        self._engine.engine_core.shutdown()


def _build(
    model: Path,
    arguments: Mapping[str, Any],
    json_schema: Mapping[str, Any] | None,
) -> Any:
    import vllm.renderers.hf
    from vllm.v1.engine.llm_engine import LLMEngine

    # vLLM deep-copies the tokenizer for every renderer thread, five seconds for Gemma's; we hand
    # over token ids and render nothing.
    vllm.renderers.hf.maybe_make_thread_pool = lambda tokenizer, copies=1: tokenizer
    # vLLM's own seed is 0: all engines would draw the same, in the same places
    seed = secrets.randbits(32)  # as many as its generators take
    return LLMEngine.from_vllm_config(engine_config(model, arguments, json_schema, seed=seed))


def engine_config(
    model: Path,
    arguments: Mapping[str, Any],
    json_schema: Mapping[str, Any] | None = None,
    **more: Any,
) -> Any:
    """vLLM's configuration of an engine. ``more``: more arguments."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform

    given = {**arguments, "trust_remote_code": False}
    if given.get("load_format", "auto") == "auto":
        given["load_format"] = "safetensors"  # "auto" would read pickles where there is no other
    if current_platform.is_cpu():
        given.setdefault("scheduler_cls", ROW_SCHEDULER)
        # vLLM warns of every scheduler but its own
        logging.getLogger("vllm.config.scheduler").setLevel(logging.ERROR)
    if given.get("tensor_parallel_size", 1) > 1:
        given["distributed_executor_backend"] = "mp"  # in a Ray actor vLLM would ask Ray for more
    # during warm-up vLLM would import FlashInfer on RTX 50 cards, to tune unused code
    given["enable_flashinfer_autotune"] = False
    try:
        structured = structured_output_settings(json_schema)
    except Unsupported as e:
        raise EngineFailed(f"vLLM cannot make a grammar of the answer's shape: {e}") from None
    return EngineArgs(
        model=str(model), structured_outputs_config=structured, **given, **more
    ).create_engine_config()


def _facts(engine: Any, geometry: Geometry) -> EngineFacts:
    import vllm
    from vllm.platforms import current_platform

    config = engine.vllm_config
    cache, scheduler = config.cache_config, config.scheduler_config
    hybrid = not scheduler.disable_hybrid_kv_cache_manager
    parts = config.parallel_config.tensor_parallel_size
    layout = KvLayout(
        geometry.on_one_of(parts),
        cache.block_size,
        scheduler.max_num_batched_tokens,
        dtype_bytes=1 if str(cache.cache_dtype).startswith("fp8") else 2,
        hybrid=hybrid,
    )
    return EngineFacts(
        kind="vllm",
        version=vllm.__version__,
        device=current_platform.get_device_name() or current_platform.device_type,
        max_model_len=config.model_config.max_model_len,
        max_num_seqs=scheduler.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        block_size=cache.block_size,
        num_blocks=cache.num_gpu_blocks - 1,
        kv_bytes=cache.num_gpu_blocks * layout.block_bytes,
        weights_bytes=_weights_bytes(engine),
        cards=parts,
        hybrid=hybrid,
        kv_dtype_bytes=layout.dtype_bytes,
        batches_in_flight=config.max_concurrent_batches,
        steps_ahead=config.max_concurrent_batches - _is_shared(engine),
        prefix_caching=bool(cache.enable_prefix_caching),
        dense_retention=cache.prefix_cache_retention_interval is None,
        computed_in="bf16" if config.parallel_config.worker_extension_cls == UNPACKED else "",
    )


def _is_shared(engine: Any) -> bool:
    """Whether its core is in this process."""
    return hasattr(engine, "model_executor")


def _weights_bytes(engine: Any) -> int:
    """Bytes of the loaded parameters, on the card with the most; 0 when vLLM's core is another
    process."""
    if not _is_shared(engine):
        return 0
    return max(int(bytes_) for bytes_ in engine.apply_model(_parameter_bytes))


def _parameter_bytes(model: Any) -> int:
    """Of a module of PyTorch, in whatever process it is.

    On a CPU vLLM keeps a linear layer in bf16 only as its library packed it, and no tensor shows
    it any more: it counts as large as it was.
    """
    tensors = {p.data_ptr(): p.nbytes for p in model.parameters()}
    packed = sum(
        m.input_size_per_partition * m.output_size_per_partition * m.weight.element_size()
        for m in model.modules()
        if hasattr(m, "input_size_per_partition")
        and getattr(m, "weight", None) is not None
        and not m.weight.numel()
    )
    return int(sum(tensors.values()) + packed)  # tied ones once


def _sampling_params(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    arguments: dict[str, Any]
    if request.score_from is not None or request.logprob_ids:
        # one token is the least that vLLM allows
        arguments = {"temperature": 0.0, "max_tokens": 1, "detokenize": False}
        if request.score_from is not None:
            arguments["prompt_logprobs"] = request.top_k
        else:
            arguments["logprob_token_ids"] = list(request.logprob_ids)
    else:
        arguments = request.sampling.as_vllm()
        if request.structure is not None:
            arguments["structured_outputs"] = StructuredOutputsParams(
                json=request.structure.json_schema, regex=request.structure.regex
            )
    return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **arguments)


_FAILED = ("abort", "error")  # finish reasons: vLLM gave this request up, without being asked to


def _completion(output: Any) -> Completion:
    answer = output.outputs[0]
    if answer.finish_reason in _FAILED:
        message = f"vLLM ended the request by itself: {answer.finish_reason}"
        error = RowError(RowErrorType.ENGINE_FAILURE, message, attempts=1)
        return Completion(request_id=int(output.request_id), error=error)
    logprobs = {t: lp.logprob for t, lp in answer.logprobs[0].items()} if answer.logprobs else {}
    return Completion(
        request_id=int(output.request_id),
        text=answer.text,
        completion_tokens=len(answer.token_ids),
        finish_reason=answer.finish_reason or "",
        logprobs=logprobs,
    )

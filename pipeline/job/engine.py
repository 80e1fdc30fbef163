"""The job file's engine: vLLM's arguments, and how a rehearsal behaves."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from pipeline.job.registries.admission_policies import admission_policy
from pipeline.job.registries.engine_kinds import ENGINE_KINDS
from pipeline.job.section import Section

Core = Literal["auto", "own", "shared"]
AUTO = "auto"  # a kind: the engine that suits the cards of the machine
SERVER = " server"  # in the name of a server


class RehearsedFaults(Section):
    """What goes wrong with simulated engines. A TEXT is searched for in the row's prompt.

    ``kill_on``: the process dies; ``hang_on``: a step never ends; ``freeze_on``: the same, and all
    other threads of the process stop too; ``fail_on``: a step raises; ``refuse_on``: only this
    request fails; ``endless_on``: its answer never ends.
    ``load_out_of_memory_above``, ``step_out_of_memory_above``: largest number of sequences that an
    engine can be loaded for, and that can run at once. ``broken``: engines (from 0) that cannot be
    loaded.
    """

    kill_on: str | None = None
    hang_on: str | None = None
    freeze_on: str | None = None
    fail_on: str | None = None
    refuse_on: str | None = None
    endless_on: str | None = None
    load_out_of_memory_above: Annotated[int, Field(ge=1)] | None = None
    step_out_of_memory_above: Annotated[int, Field(ge=1)] | None = None
    broken: tuple[int, ...] = ()


class SimulatedEngineSettings(Section):
    """How the simulated engine behaves. Times in seconds, lengths in tokens, blocks of KV."""

    step_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    output_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 16
    num_blocks: Annotated[int, Field(ge=64, le=1 << 28)] = 16_384
    load_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    faults: RehearsedFaults = RehearsedFaults()


_OTHER_CARDS = (
    "rackmill starts an engine on every card, or slot of cards, and hands rows out among them; "
    "to limit their number: resources.workers"
)
_SLOTS = (
    "an engine's cards are those of one machine and share every layer: "
    "engine.tensor_parallel_size says how many"
)
# vLLM's other ways to use several cards, and to sample
_NOT_OURS = {
    "pipeline_parallel_size": _SLOTS,
    "prefill_context_parallel_size": _SLOTS,
    "decode_context_parallel_size": _SLOTS,
    "distributed_executor_backend": _SLOTS,
    "nnodes": _SLOTS,
    "enable_expert_parallel": "Gemma 3 has no experts",
    "data_parallel_size": _OTHER_CARDS,
    "data_parallel_size_local": _OTHER_CARDS,
    "data_parallel_backend": _OTHER_CARDS,
    "seed": (
        "with one seed all engines would draw the same; every engine begins with another, and "
        "sampling.seed gives every row one of its own"
    ),
}


def _known_policy(text: str) -> str:
    admission_policy(text)
    return text


def _known_address(text: str) -> str:
    """``text`` without a last slash. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"give http://HOST:PORT, not {text!r}")
    if parts.username or parts.password:
        raise ValueError("a key does not belong into an address: engine.api_key: VARIABLE")
    if parts.path.rstrip("/").endswith("/v1"):
        text = text.rstrip("/").removesuffix("/v1")
    return text.rstrip("/")


_Address = Annotated[str, AfterValidator(_known_address)]
_OF_SERVERS = ("url", "served_model", "api_key")
_OF_LLAMA_CPP = ("server", "model_file")
_OURS = ("kind", "core", "admission", "simulated", *_OF_SERVERS, *_OF_LLAMA_CPP)
_FOR_SERVERS = frozenset({"kind", "admission", "max_num_seqs", "max_model_len", *_OF_SERVERS})


class EngineSettings(Section):
    """vLLM's engine arguments under their own names, and a few of rackmill's.

    Operational: none of them changes what a job is, so they may differ between its runs (except
    ``kind``: a rehearsal and a real run do not share an output). None: rackmill chooses.

    ``core``: vLLM's core, which schedules and computes, has its own process or shares the
    worker's; "auto": its own on a GPU, shared on a CPU. ``admission``: which request goes into
    the engine next, and when ("packed" is ours; "engine": the engine's own admission decides).

    ``url``: of the server, or several of them, that is the engine; ``served_model``: its name for
    the model; ``api_key``: the environment variable that holds its key. Of vLLM's arguments a
    server has ``max_num_seqs``, the requests it gets at once, and ``max_model_len``.
    Without a ``url`` rackmill starts llama.cpp. ``server``: its program; ``model_file``: the GGUF
    file ("auto": that of the job's model).
    """

    kind: Annotated[str, AfterValidator(ENGINE_KINDS.known)] = "vllm"
    url: _Address | tuple[_Address, ...] | None = None
    served_model: Annotated[str, Field(min_length=1)] | None = None
    api_key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    server: Annotated[str, Field(min_length=1)] | None = None
    model_file: Annotated[str, Field(min_length=1)] | None = None
    core: Core = "auto"
    admission: Annotated[str, AfterValidator(_known_policy)] = "packed"
    simulated: SimulatedEngineSettings = SimulatedEngineSettings()

    max_model_len: Annotated[int, Field(ge=16, le=1 << 24)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=16, le=1 << 24)] | None = None
    block_size: Literal[16, 32, 64, 128] | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_cache_memory_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 44)] | None = None
    num_gpu_blocks_override: Annotated[int, Field(ge=2, le=1 << 28)] | None = None
    # the types whose blocks are counted here; fp16 overflows on Gemma 3
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] | None = None
    dtype: Literal["auto", "bfloat16", "float32"] | None = None
    # the ones that compile nothing with a CUDA toolkit; FlashInfer does
    attention_backend: Literal["FLASH_ATTN", "TRITON_ATTN"] | None = None
    enforce_eager: bool | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    disable_hybrid_kv_cache_manager: bool | None = None
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = None  # cards of an engine
    disable_custom_all_reduce: bool | None = None
    cpu_offload_gb: Annotated[float, Field(ge=0, le=1 << 20)] | None = None
    load_format: Literal["auto", "safetensors", "dummy"] | None = None
    # the type in which an engine on a CPU computes int4 layers; not vLLM's
    cpu_compute: Literal["auto", "int4", "bf16"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_spread(cls, value: Any) -> Any:
        for name, why in _NOT_OURS.items():
            if isinstance(value, dict) and name in value:
                raise ValueError(f"{name} is not for a job to give: {why}")
        return value

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        given = self.model_fields_set
        ours = set(_OF_LLAMA_CPP) & {key for key in given if getattr(self, key) is not None}
        if ours and (self.kind not in ("llama.cpp", AUTO) or self.url):
            raise ValueError(f"{min(ours)} is for a llama.cpp that rackmill starts itself")
        if not self.served:
            for key in _OF_SERVERS:
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} is for engines that are servers, not for {self.kind}")
            return self
        if not self.url and self.kind != "llama.cpp":
            raise ValueError(f"url: where is the server? kind: {self.kind}, url: http://HOST:PORT")
        foreign = sorted(given - _FOR_SERVERS - set(_OF_LLAMA_CPP))
        if foreign:
            raise ValueError(
                f"{foreign[0]} is not for a server of kind {self.kind}: set it where the server "
                "is started"
            )
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Addresses of the servers; empty if the engine is no server."""
        return (self.url,) if isinstance(self.url, str) else self.url or ()

    @property
    def each(self) -> tuple[EngineSettings, ...]:
        """One for each server if there are several, otherwise these settings."""
        if len(self.urls) < 2:
            return (self,)
        return tuple(self.model_copy(update={"url": url}) for url in self.urls)

    @property
    def name(self) -> str:
        """The name of its servers: their times depend on them and not on a card. "" if it is no
        server."""
        if not self.served:
            return ""
        return " ".join((self.kind + SERVER, *self.urls))

    @property
    def is_kind_alone(self) -> bool:
        return self.model_fields_set == {"kind"}

    @property
    def started_here(self) -> bool:
        """Whether it is a server that rackmill starts."""
        return self.served and not self.urls

    @property
    def served(self) -> bool:
        """Whether its engines are servers."""
        return ENGINE_KINDS.get(self.kind).served

    @property
    def computes(self) -> bool:
        """Whether its engines compute a model, and need cards or a processor for it."""
        return ENGINE_KINDS.get(self.kind).computes

    @property
    def deciding(self) -> dict[str, Any]:
        """Settings of this kind that decide its answers, by their keys."""
        return {key: attrgetter(key)(self) for key in ENGINE_KINDS.get(self.kind).answers_from}

    def own_settings(self) -> dict[str, Any]:
        """All settings that only this kind has: those of the section with its name, or those of
        servers."""
        if self.served:
            return self.model_dump(mode="json", include={*_OF_SERVERS, *_OF_LLAMA_CPP})
        section = getattr(self, self.kind, None)
        return section.model_dump(mode="json") if isinstance(section, Section) else {}

    def vllm_arguments(self) -> dict[str, Any]:
        """The arguments that were given, for ``vllm.EngineArgs``."""
        return self.model_dump(exclude_none=True, exclude={*_OURS})

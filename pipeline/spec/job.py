"""The job file as frozen models. What a key means is said here, once."""

from __future__ import annotations

from posixpath import normpath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from pipeline.spec.address import check_address
from pipeline.spec.answer_shape import check_regex, check_schema_size
from pipeline.spec.deadline import check_deadline
from pipeline.spec.hours import Hours, check_hours, parse_hours
from pipeline.spec.sampling import Sampling
from pipeline.spec.schedule import Schedule
from pipeline.spec.section import Section
from pipeline.spec.template import Template, TemplateSyntaxError, lookup

ANSWER = "answer"
Core = Literal["auto", "own", "shared"]


Address = Annotated[str, AfterValidator(check_address)]


class Input(Section):
    """Where the rows come from. ``path``: a file, folder or glob, any fsspec address.

    ``skip_rows``: of single files (as ``path`` finds them), how many rows at their beginning are
    left out.
    """

    path: Address | Annotated[tuple[Address, ...], Field(min_length=1)]
    format: Literal["parquet", "jsonl", "csv"] | None = None
    skip_rows: dict[Address, Annotated[int, Field(ge=1, lt=1 << 40)]] = Field(default_factory=dict)


class Output(Section):
    """Where the dataset goes, and which input columns it carries along (None: all)."""

    path: Address
    keep: tuple[str, ...] | None = None

    @field_validator("keep")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if value and value.count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return value


class Text(Section):
    """A prompt or a message's content: a template, Jinja, or a column that holds it."""

    template: str | None = None
    jinja: str | None = None
    column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_text_is_a_template(cls, value: Any) -> Any:
        return {"template": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.template, self.jinja, self.column)) != 1:
            raise ValueError("give a text, or exactly one of {jinja: …} and {column: …}")
        try:
            _ = self.compiled
        except TemplateSyntaxError as e:
            raise ValueError(str(e)) from None
        return self

    @property
    def compiled(self) -> Template | None:
        """The template; None when a column holds the text."""
        if self.template is not None:
            return Template(self.template)
        return Template(self.jinja, jinja=True) if self.jinja is not None else None

    @property
    def fields(self) -> tuple[str, ...]:
        template = self.compiled
        return template.fields if template else (str(self.column),)


class Message(Section):
    role: Literal["system", "user", "assistant"]
    content: Text


class MessagesColumn(Section):
    """A column that holds a list of {role, content}."""

    column: str


Messages = Annotated[
    Annotated[tuple[Message, ...], Tag("[list]")] | Annotated[MessagesColumn, Tag("[column]")],
    Discriminator(lambda v: "[column]" if isinstance(v, dict | MessagesColumn) else "[list]"),
]


class Label(Section):
    """The shape of the answer: one of ``choices``, a JSON schema, or a regular expression."""

    choices: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    gold: str | None = None  # a column with the right answer: accuracy goes into the report

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.choices, self.json_schema, self.regex)) != 1:
            raise ValueError("give exactly one of choices, json_schema and regex")
        if self.choices is not None:
            if len(set(self.choices)) < len(self.choices):
                raise ValueError("choices names one choice twice")
            if any(not c.strip() for c in self.choices):
                raise ValueError("a choice is empty")
        return self

    @field_validator("choices", mode="before")
    @classmethod
    def _choices_are_text(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            if any(isinstance(choice, bool) for choice in value):
                raise ValueError("YAML reads yes, no, on and off as true or false: quote choices")
            return tuple(str(c) if isinstance(c, int | float) else c for c in value)
        return value

    @field_validator("json_schema")
    @classmethod
    def _schema_is_an_object(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        from jsonschema import Draft202012Validator, SchemaError

        check_schema_size(value)
        try:
            Draft202012Validator.check_schema(value)
        except SchemaError as e:
            raise ValueError(f"not a JSON schema: {e.message}") from None
        if value.get("type") != "object" or not value.get("properties"):
            raise ValueError("the schema must be of type object with properties: its columns")
        return value

    @field_validator("regex")
    @classmethod
    def _regex_compiles(cls, value: str | None) -> str | None:
        if value is not None:
            check_regex(value)
        return value


class Score(Section):
    """Score texts instead of writing any: the log-probability of every token the rows hold.

    Without ``completion`` the whole prompt is scored; with it, a column whose text follows the
    prompt, and only that text's tokens. ``top_k`` implies ``per_token``.
    """

    completion: str | None = None
    per_token: bool = False  # also the tokens, and each one's log-probability
    top_k: Annotated[int, Field(ge=1, le=16_384)] | None = None  # also the model's likeliest

    @property
    def lists(self) -> bool:
        """Whether there is a list entry for every scored token."""
        return self.per_token or self.top_k is not None


class RehearsedFaults(Section):
    """What goes wrong with simulated engines. A TEXT is looked for in the row's prompt.

    ``kill_on``: the process dies; ``hang_on``: a step never ends; ``freeze_on``: the same, and no
    other thread of the process runs either; ``fail_on``: a step raises; ``refuse_on``: this
    request alone fails; ``endless_on``: its answer never ends.
    ``load_out_of_memory_above``, ``step_out_of_memory_above``: sequences that an engine may be
    loaded for, and that may run at once. ``broken``: engines (from 0) that cannot be loaded.
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


class SimulatedEngine(Section):
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
# vLLM's other ways to use several cards
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
}


class EngineSettings(Section):
    """vLLM's engine arguments under their own names, and a few of rackmill's.

    Operational: none of them changes what a job is, so they may differ between runs of it
    (except ``kind``: a rehearsal and a real run do not share an output). None: rackmill chooses.

    ``core``: vLLM's core, which schedules and computes, has a process of its own or shares the
    worker's; "auto": its own on a GPU, shared on a CPU.
    """

    kind: Literal["vllm", "simulated"] = "vllm"
    core: Core = "auto"
    simulated: SimulatedEngine = SimulatedEngine()

    max_model_len: Annotated[int, Field(ge=16, le=1 << 24)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=16, le=1 << 24)] | None = None
    block_size: Literal[16, 32, 64, 128] | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_cache_memory_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 44)] | None = None
    num_gpu_blocks_override: Annotated[int, Field(ge=2, le=1 << 28)] | None = None
    # those whose blocks are counted here; fp16 overflows on Gemma 3
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] | None = None
    dtype: Literal["auto", "bfloat16", "float32"] | None = None
    # those that compile nothing with a CUDA toolkit, which FlashInfer does
    attention_backend: Literal["FLASH_ATTN", "TRITON_ATTN"] | None = None
    enforce_eager: bool | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    disable_hybrid_kv_cache_manager: bool | None = None
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = None  # cards of an engine
    disable_custom_all_reduce: bool | None = None
    cpu_offload_gb: Annotated[float, Field(ge=0, le=1 << 20)] | None = None
    load_format: Literal["auto", "safetensors", "dummy"] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    # what an engine on a CPU computes int4 layers in; not vLLM's
    cpu_compute: Literal["auto", "int4", "bf16"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_spread(cls, value: Any) -> Any:
        for name, why in _NOT_OURS.items():
            if isinstance(value, dict) and name in value:
                raise ValueError(f"{name} is not for a job to give: {why}")
        return value

    def vllm_arguments(self) -> dict[str, Any]:
        """The arguments that were given, for ``vllm.EngineArgs``."""
        return self.model_dump(exclude_none=True, exclude={"kind", "core", "simulated"})


class Duplicates(Section):
    """Rows that ask exactly the same are computed once, where the answer is a deterministic one
    (temperature 0, or a seed). Operational: the answers are the same either way.

    ``answer_once``: false computes every row. ``store``: a folder (any fsspec address) of answers
    that several jobs share; without one, those of a job lie with its output until it is done.
    """

    answer_once: bool = True
    store: Address | None = None

    @model_validator(mode="after")
    def _a_store_is_used(self) -> Self:
        if self.store is not None and not self.answer_once:
            raise ValueError("store needs answer_once: true")
        return self


class Resources(Section):
    """``workers``: engines to run at once; auto is one on each card or slot of cards, or one
    without a GPU.

    ``gpu``: only such cards (one or several of ``rackmill fit``'s names); ``memory_gib``: only
    cards with so much. None: any. ``deadline``: a time with its zone, or a duration from the start
    (or submission) on ("8h"): then the job is stopped, and what is committed stays.

    ``hours``: windows of the day in which the job may use the cards ("23:00-07:00", or several);
    ``timezone``: whose clocks (None: those of the machine where the run was started, for a
    submitted job of the rack's head). ``yield_to_desktop``: a card that a game or another program
    uses is left to it, and used again when nobody has used it for ``desktop_quiet_seconds``.
    ``price_kwh``: what a kWh costs.
    """

    workers: int | Literal["auto"] = "auto"
    gpu: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    memory_gib: Annotated[float, Field(gt=0, le=1 << 20)] | None = None
    deadline: Annotated[str, BeforeValidator(check_deadline)] | None = None
    hours: Annotated[str, BeforeValidator(check_hours)] | None = None
    timezone: str | None = None
    yield_to_desktop: bool = False
    desktop_quiet_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    price_kwh: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _hours_are_some(self) -> Self:
        if self.timezone is not None and self.hours is None:
            raise ValueError("timezone says whose clocks hours are meant by: give hours, too")
        _ = self.when
        return self

    @property
    def when(self) -> Hours | None:
        """The ``hours``; None: always."""
        return None if self.hours is None else parse_hours(self.hours, self.timezone)

    @field_validator("gpu", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("workers", mode="before")
    @classmethod
    def _auto_or_a_number(cls, value: Any) -> Any:
        if value != "auto" and (type(value) is not int or not 1 <= value <= 4096):
            raise ValueError("give auto, or a number from 1 to 4096")
        return value


class Faults(Section):
    """How much patience there is with what goes wrong. Operational. Times in seconds.

    ``row_timeout_seconds``: from a row's admission to its engine on, never while it waits;
    then it is an error row (null: no limit). ``step_timeout_seconds``: an engine with requests
    that makes no step for so long hangs and is restarted; ``load_timeout_seconds``: the same
    while it loads. ``grace_seconds``: a run that is stopped finishes what its engines work on,
    for so long. ``restarts``: of one card's engine without any progress in between, after which
    the job goes on without the card. ``silence_seconds``: a worker of whom nothing is heard for so
    long (its machine hangs, the network is cut) is given up and replaced.
    """

    row_timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    step_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    load_timeout_seconds: Annotated[float, Field(gt=0)] = 3600.0
    grace_seconds: Annotated[float, Field(ge=0)] = 30.0
    restarts: Annotated[int, Field(ge=0)] = 3
    silence_seconds: Annotated[float, Field(ge=3)] = 30.0


class Job(Section):
    """One batch-inference job: a model, rows, a prompt, a shape of answer, a place for them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    model: Address
    input: Input
    prompt: Text | None = None
    messages: Messages | None = None
    instructions: str | None = None  # stands before everything else (chat: the system message)
    examples: tuple[dict[str, Any], ...] = ()  # few-shot: the prompt's fields, and `answer`
    output: Output
    label: Label | None = None
    score: Score | None = None
    sampling: Sampling = Sampling()
    engine: EngineSettings = EngineSettings()
    duplicates: Duplicates = Duplicates()
    resources: Resources = Resources()
    faults: Faults = Faults()
    schedule: Schedule | None = None

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self

    @model_validator(mode="after")
    def _examples_fit_the_prompt(self) -> Self:
        if not self.examples:
            return self
        if self.prompt is None or self.prompt.column is not None:
            raise ValueError("examples need a prompt template, whose fields they fill")
        for number, example in enumerate(self.examples, 1):
            if ANSWER not in example:
                raise ValueError(f"example {number} has no {ANSWER!r}")
            missing = [f for f in self.prompt.fields if lookup(example, f) is None]
            if missing:
                raise ValueError(f"example {number} lacks the prompt's field {missing[0]!r}")
            choices = self.label.choices if self.label else None
            if choices and str(example[ANSWER]) not in choices:
                raise ValueError(f"example {number}: its answer is none of the choices")
        return self

    @model_validator(mode="after")
    def _scoring_writes_nothing(self) -> Self:
        if self.score is None:
            return self
        if self.label is not None:
            raise ValueError("give either label or score: a score job writes no answer")
        if self.sampling != Sampling():
            raise ValueError("sampling does not go with score: nothing is sampled")
        if self.score.completion is None:
            if self.messages is not None:
                raise ValueError("score of messages needs {completion: COLUMN}: the reply to score")
            if self.instructions or self.examples:
                raise ValueError(
                    "score without completion scores all of the prompt: leave instructions and "
                    "examples away, or name the column to score: {completion: COLUMN}"
                )
        return self

    @model_validator(mode="after")
    def _the_store_is_not_the_output(self) -> Self:
        store, output = self.duplicates.store, normpath(self.output.path)
        if store is not None and f"{normpath(store)}/".startswith(f"{output}/"):
            raise ValueError("duplicates.store must lie outside of output.path")
        return self

    @property
    def longest_answer(self) -> int:
        """Tokens."""
        one = self.score is not None or (self.label is not None and self.label.choices is not None)
        return 1 if one else self.sampling.max_tokens

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """The input columns that the prompt reads, in order of first use."""
        if isinstance(self.messages, MessagesColumn):
            return (self.messages.column,)
        texts = [self.prompt] if self.prompt else [m.content for m in self.messages or ()]
        return tuple(dict.fromkeys(f for t in texts for f in t.fields))

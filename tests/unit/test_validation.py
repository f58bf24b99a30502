"""Errors name the field and the rule, briefly, whatever the input."""

from pathlib import Path

import pytest

from chalicelib.errors import ValidationError
from chalicelib.validation import decode_body, load_yaml, shorten, within


@pytest.mark.parametrize(("text", "short"), [("12345", "12345"), ("123456", "1234…"), ("", "")])
def test_a_text_is_cut_to_the_longest_that_is_asked_for(text, short):
    assert shorten(text, 5) == short


def test_a_value_in_an_error_is_cut_to_80_characters():
    assert shorten("x" * 81) == "x" * 79 + "…"
    assert shorten("x" * 80) == "x" * 80


def test_what_is_wrong_with_json_is_in_its_error():
    with pytest.raises(ValidationError, match=r"^body: not valid JSON: Expecting value: line 1 column 6 \(char 5\)$"):
        decode_body(b'{"a":}')


def yaml_error(folder: Path, text: str) -> str:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValidationError) as refused:
        load_yaml(path, dict[str, dict[str, int]])
    return str(refused.value).removeprefix(f"{path}: ")


def test_a_key_given_twice_is_named_with_the_line_of_its_mapping(tmp_path):
    assert yaml_error(tmp_path, "a: {x: 1}\nb:\n  x: 1\n  ü: 2\n  ü: 3\n") == "ü: the key is given twice (line 3)"


def test_a_wrong_value_in_yaml_is_named_by_its_path(tmp_path):
    assert yaml_error(tmp_path, "a:\n  x: text\n") == "[...][...]: Expected `int`, got `str`"


@pytest.mark.parametrize(
    ("error", "whole"),
    [
        ("value: must be finite", "readings[3].value: must be finite"),
        ("body: Expected `object`, got `int`", "readings[3]: Expected `object`, got `int`"),
        ("a: b: c", "readings[3].a: b: c"),
    ],
)
def test_an_error_of_a_part_names_the_part(error, whole):
    assert within("readings[3]", ValidationError(error)) == whole

"""Turns untrusted objects into typed values; every error names the field and the rule it breaks."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from chalicelib.errors import ServiceUnavailableError, ValidationError

T = TypeVar("T")

# An attacker chooses names and values, so an error never repeats more of them than this.
_LONGEST_ECHO = 80

_MESSAGE_OF_MSGSPEC = re.compile(r"(?P<reason>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_FIELD_OF_MESSAGE = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<field>.*)`", re.DOTALL)


def convert(value: Any, type_: type[T]) -> T:
    """Convert decoded JSON or YAML to `type_`, or raise ValidationError `<field path>: <reason>`."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise ValidationError(_name_key(_describe(str(error)), value, type_)) from None
    except OverflowError:
        raise ValidationError("body: a number is too large") from None


def decode_body(body: bytes) -> Any:
    """Decode JSON from outside; raises ValidationError for anything but plain, unambiguous JSON in UTF-8."""
    try:
        decoded = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys)
        if b"\\u" in body:
            # An escaped half of a surrogate pair is no text that anything behind could store.
            json.dumps(decoded, ensure_ascii=False).encode("utf-8")
        return decoded
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise ValidationError("body: not valid UTF-8") from None
    except RecursionError:
        raise ValidationError("body: nested too deeply") from None
    except ValueError as error:
        raise ValidationError(f"body: not valid JSON: {shorten(str(error))}") from None


def decode_json(text: str | bytes, type_: type[T], name: str) -> T:
    """Decode JSON that Thermonet keeps under that name.

    Raises ServiceUnavailableError `<name>: <field path>: <reason>`, since no caller can do anything about it.
    """
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceUnavailableError(f"{name}: {_describe(str(error))}") from None


def load_yaml(path: Path, type_: type[T]) -> T:
    """Read a YAML file into `type_`, or raise ValidationError `<file>: <key path>: <reason>`."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
        return convert(content, type_)
    except OSError as error:
        raise ValidationError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValidationError(f"{path}: not valid YAML: {error}") from None
    except ValidationError as error:
        raise ValidationError(f"{path}: {error}") from None


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key given twice, of which PyYAML keeps the last silently; in C, since every cold start reads YAML."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValidationError(f"{twice}: the key is given twice (line {node.start_mark.line + 1})")
        return mapping


def _describe(message: str) -> str:
    """Rewrite msgspec's `<reason> - at `$.a.b`` to `a.b: <reason>`."""
    match = _MESSAGE_OF_MSGSPEC.fullmatch(message)
    reason, path = (match["reason"], match["path"] or "$") if match else (message, "$")
    if field := _FIELD_OF_MESSAGE.fullmatch(reason):
        path = f"{path}.{field['field']}"
        reason = "required, but missing" if field["what"] == "missing required" else "unknown field"
    name = path.removeprefix("$").removeprefix(".") or "body"
    return f"{shorten(name)}: {shorten(reason)}"


def _name_key(description: str, value: Any, type_: type[Any]) -> str:
    """Put the key in the place of msgspec's `[...]`: the one that by itself gives the same error."""
    path, unnamed, rest = description.partition("[...]")
    mapping = value
    for name in path.split("."):
        mapping = mapping.get(name) if isinstance(mapping, dict) else None
    if not unnamed or not isinstance(mapping, dict):
        return description
    for key, item in mapping.items():
        try:
            msgspec.convert({**value, path: {key: item}}, type_)
        except msgspec.ValidationError as error:
            if _describe(str(error)) == description:
                return f"{path}.{shorten(str(key))}{rest}"
    return description


def within(path: str, error: ValidationError) -> str:
    """Rewrite an error of a part as one of the whole: `<path>.<field path>: <reason>`, or `<path>: <reason>`."""
    field_path, _, reason = str(error).partition(": ")
    # A part that is no object at all is called "body" by its own check.
    return f"{path}: {reason}" if field_path == "body" else f"{path}.{field_path}: {reason}"


def shorten(text: str, longest: int = _LONGEST_ECHO) -> str:
    """Cut a text that quotes its input to a length that is safe to log and to answer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) == len(pairs):
        return mapping
    ((key, _),) = Counter(name for name, _ in pairs).most_common(1)
    raise ValidationError(f"{shorten(key)}: the field is given twice")

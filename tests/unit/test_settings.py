"""Settings: the stages' files load, and every mistake is an error that names the file and the key."""

import copy
from itertools import product

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from chalicelib.errors import ServiceUnavailableError, ValidationError
from chalicelib.settings import CONFIG_FOLDER, Settings, load_settings
from chalicelib.thermistor import Status, Thermistor
from chalicelib.validation import convert, decode_json, load_yaml, shorten
from tests.factories import thermistor
from tests.strategies import JSON_VALUES

DEV = yaml.safe_load((CONFIG_FOLDER / "dev.yaml").read_text())


def changed(path, value):
    """The dev settings with one key set, or removed when the value is ...; the path is dotted."""
    settings = copy.deepcopy(DEV)
    *parents, key = path.split(".")
    group = settings
    for parent in parents:
        group = group[parent]
    if value is ...:
        del group[key]
    else:
        group[key] = value
    return settings


def load_error(tmp_path, text):
    (tmp_path / "test.yaml").write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    with pytest.raises(ValidationError) as error:
        load_settings("test", folder=tmp_path)
    return str(error.value).removeprefix(f"{tmp_path / 'test.yaml'}: ")


@pytest.mark.parametrize(("stage", "seconds"), [("dev", 60), ("prod", 3600)])
def test_the_settings_of_both_stages_load(stage, seconds):
    settings = load_settings(stage)
    assert settings.message_retention_seconds == seconds
    assert settings.thermistors["default"].thermistor == thermistor()
    assert settings.status_below_celsius.OK == 100
    assert Status.BROKEN in settings.alerts.statuses
    assert (settings.analytics.window_minutes, settings.analytics.history_hours) == (5, 24)


def test_settings_survive_being_written_and_read(tmp_path):
    settings = load_settings("dev")
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(settings)))
    assert load_settings("copy", folder=tmp_path) == settings


def figures(type_):
    """The types of all whole numbers and texts in the settings."""
    if isinstance(type_, inspect.StructType):
        return [found for field in type_.fields for found in figures(field.type)]
    if isinstance(type_, inspect.UnionType):
        return [found for one in type_.types for found in figures(one)]
    return [type_] if isinstance(type_, inspect.IntType | inspect.StrType) else []


def test_every_figure_has_an_upper_and_a_lower_bound_and_every_text_a_longest_one():
    found = figures(inspect.type_info(Settings))
    assert len(found) > 10
    for one in found:
        bounds = (one.ge, one.le) if isinstance(one, inspect.IntType) else (one.max_length,)
        assert None not in bounds, one


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        load_settings("dev").message_retention_seconds = 5


def paths(tree, prefix=""):
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


# Types but the default, and of each type either its coefficients or its points.
MAY_BE_MISSING = {
    f"thermistors.{name}{rest}" for name in DEV["thermistors"] for rest in ("", ".coefficients", ".points")
} - {"thermistors.default"}


@pytest.mark.parametrize("path", sorted({*paths(DEV)} - MAY_BE_MISSING))
def test_a_missing_key_is_named(tmp_path, path):
    assert load_error(tmp_path, changed(path, ...)) == f"{path}: required, but missing"


@pytest.mark.parametrize(
    "path", ["", "api.", "thermistors.default.coefficients.", "limits.", "alerts.", "idempotency.", "analytics."]
)
def test_an_unknown_key_is_named(tmp_path, path):
    assert load_error(tmp_path, changed(f"{path}surplus", 1)) == f"{path}surplus: unknown field"


@pytest.mark.parametrize(
    ("path", "value"),
    # Only a mail address may be null: then nobody gets mail.
    sorted(
        {*product(paths(DEV), ["text", None, True])}
        - {("alerts.email", None), *((f"thermistors.{name}.title", "text") for name in DEV["thermistors"])},
        key=str,
    ),
)
def test_a_value_of_the_wrong_type_is_named(tmp_path, path, value):
    assert load_error(tmp_path, changed(path, value)).startswith(f"{path}: Expected")


@pytest.mark.parametrize("address", ["a@example.org", "first.last+alarms@mail.example.org", "x" * 242 + "@example.org"])
def test_alarms_may_go_to_a_mail_address(tmp_path, address):
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(changed("alerts.email", address)))
    assert load_settings("test", folder=tmp_path).alerts.email == address


@pytest.mark.parametrize("version", [1, 2, 1_000_000])
def test_the_signing_key_may_be_replaced_many_times(tmp_path, version):
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(changed("signing_key_version", version)))
    assert load_settings("test", folder=tmp_path).signing_key_version == version


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("message_retention_seconds", 59),
        ("message_retention_seconds", 61),
        ("message_retention_seconds", 43_260),
        ("message_retention_seconds", 90.5),
        ("api.requests_per_second", 0),
        ("api.requests_per_second", 10_001),
        ("api.burst_requests", 0),
        ("api.burst_requests", 5_001),
        ("signing_key_version", 0),
        ("signing_key_version", 1.5),
        ("signing_key_version", 1_000_001),
        ("alerts.email", ""),
        ("alerts.email", "@example.org"),
        ("alerts.email", "a@"),
        ("alerts.email", "a@b@example.org"),
        ("alerts.email", "a b@example.org"),
        ("alerts.email", "a@example.org\n"),
        ("alerts.email", "x" * 243 + "@example.org"),
        ("limits.locations", 0),
        ("limits.locations", 20_001),
        ("limits.sensors_per_location", 0),
        ("limits.sensors_per_location", 100_001),
        ("thermistors.default.title", ""),
        ("alerts.cooldown_seconds", -1),
        ("alerts.cooldown_seconds", 7 * 86_400 + 1),
        ("idempotency.expires_after_seconds", 59),
        ("idempotency.anonymous_window_seconds", 0),
        ("idempotency.anonymous_window_seconds", 3_601),
        ("analytics.window_minutes", 0),
        ("analytics.window_minutes", 1_441),
        ("analytics.history_hours", 0),
        ("analytics.history_hours", 169),
        ("analytics.max_concurrency", 0),
        ("analytics.max_concurrency", 1_001),
        ("analytics.duckdb_memory_limit_mb", 99),
        ("analytics.duckdb_memory_limit_mb", 10**400),
        ("ingest.accepted_age_hours", 0),
        ("ingest.accepted_age_hours", 721),
        ("archive.interval_minutes", 0),
        ("archive.interval_minutes", 1_441),
        ("archive.entry_rows", 999),
        ("archive.entry_rows", 5_000_001),
    ],
)
def test_a_value_out_of_bounds_is_named(tmp_path, path, value):
    assert load_error(tmp_path, changed(path, value)).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("thermistors.default.accepted_resistance_ohm.min", 0.0),
        ("thermistors.default.accepted_resistance_ohm.max", float("inf")),
        ("status_below_celsius.OK", 10.0),
    ],
)
def test_values_that_contradict_each_other_are_named_by_their_group(tmp_path, path, value):
    group = path.rpartition(".")[0]
    assert load_error(tmp_path, changed(path, value)).startswith(f"{group}: ")


def test_a_type_of_thermistor_has_either_coefficients_or_three_points(tmp_path):
    group = "thermistors.default"
    for settings in (
        changed(f"{group}.coefficients", ...),
        changed(f"{group}.points", [[0, 9796], [10, 5971], [32, 2221]]),
    ):
        assert load_error(tmp_path, settings) == f"{group}: either coefficients or points must be given"


def test_a_type_of_thermistor_may_be_given_by_three_points(tmp_path):
    settings = changed("thermistors.ntc-10k.coefficients", ...)
    settings["thermistors"]["ntc-10k"]["points"] = [[0, 32650.9], [-40, 336103.2], [-20, 97006.9]]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(settings))
    curve = load_settings("test", folder=tmp_path).thermistors["ntc-10k"].thermistor
    assert curve.temperature_celsius(176_804.8) == pytest.approx(-30, abs=0.01)


def test_a_type_of_thermistor_whose_curve_does_not_fall_is_named(tmp_path):
    error = load_error(tmp_path, changed("thermistors.ntc-10k.coefficients.b", -1.0))
    assert error == "thermistors.ntc-10k: temperature does not fall with resistance from 100.0 to 1000000.0 ohm"


def test_an_alert_status_that_does_not_exist_is_named_with_its_place(tmp_path):
    error = load_error(tmp_path, changed("alerts.statuses", ["BROKEN", "HOT"]))
    assert error.startswith("alerts.statuses")
    assert "HOT" in error


def test_a_key_given_twice_is_named_with_its_line(tmp_path):
    assert load_error(tmp_path, "a: 1\nb: {c: 1, c: 2}\n").startswith("c: the key is given twice (line 2)")


@pytest.mark.parametrize("text", ["", "- 1\n", "text", "5", "null"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path, text):
    assert load_error(tmp_path, text).startswith("body: Expected `object`")


@pytest.mark.parametrize("text", ["a: [", "a: !!python/object/apply:os.system [ls]", "\x00", "a: {b: 1", "? [1]\n: 2"])
def test_a_file_that_is_no_yaml_is_an_error_that_says_so(tmp_path, text):
    assert load_error(tmp_path, text).startswith("not valid YAML: ")


def test_a_value_that_yaml_itself_cannot_read_is_an_error_that_says_so(tmp_path):
    assert load_error(tmp_path, "a: 2026-13-45\n").startswith("not valid YAML: ")


def test_bytes_that_are_no_text_are_an_error(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValidationError, match=r"bad\.yaml: not valid YAML"):
        load_yaml(tmp_path / "bad.yaml", Settings)


def test_a_stage_without_a_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValidationError, match=r"nowhere\.yaml: No such file"):
        load_settings("nowhere", folder=tmp_path)


@pytest.mark.parametrize("stage", ["", "../dev", "Dev", "dev\n", "a" * 17, "1st", "dév"])
def test_what_is_no_stage_name_is_refused_before_any_file_is_read(stage):
    with pytest.raises(ValidationError, match=r"^stage: "):
        load_settings(stage)


def test_broken_json_of_our_own_is_nothing_that_a_caller_can_mend():
    with pytest.raises(ServiceUnavailableError, match=r"^parameter x: .*truncated"):
        decode_json("{", Settings, "parameter x")
    with pytest.raises(ServiceUnavailableError, match=r"^parameter x: message_retention_seconds: required"):
        decode_json("{}", Settings, "parameter x")
    with pytest.raises(ServiceUnavailableError, match=r"^parameter x: "):
        decode_json(b'"\xff"', str, "parameter x")


@given(st.text())
def test_a_shortened_text_keeps_its_start_and_is_never_long(text):
    short = shorten(text)
    assert len(short) <= 80
    assert short == text or (text.startswith(short[:-1]) and short.endswith("…"))


@given(JSON_VALUES)
def test_anything_that_is_no_thermistor_is_a_validation_error(value):
    with pytest.raises(ValidationError, match=r"(?s)\A.+: "):
        convert(value, Thermistor)

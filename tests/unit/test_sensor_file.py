"""The CSV file of sensors: what a row says, what is wrong with it, and that what is written is read as the same."""

import io
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.calibration import Calibration, Thermistors
from chalicelib.errors import ValidationError
from ops.sensor_file import COLUMNS, read_rows, write_rows
from tests.factories import ODD_IDS, SETTINGS
from tests.strategies import IDS

THERMISTORS = Thermistors(SETTINGS.thermistors)
POINTS = "celsius_1,ohm_1,celsius_2,ohm_2,celsius_3,ohm_3"
HEADER = "location_id,sensor_id"


def read(*lines):
    return list(read_rows(lines, THERMISTORS))


def read_one(header, line):
    (row,) = read(header, line)
    return row


@pytest.mark.parametrize(
    ("header", "line", "thermistor"),
    [
        (HEADER, "a,1", None),
        (f"{HEADER},thermistor", "a,1,", None),
        (f"{HEADER},thermistor", "a,1,ntc-10k", "ntc-10k"),
        ("thermistor,sensor_id,location_id", "default,1,a", "default"),
        (f"{HEADER},a,b,c", "a,1,1.4e-3,.000237,99E-9", {"a": 1.4e-3, "b": 2.37e-4, "c": 9.9e-8}),
        (
            f"{HEADER},a,b,c,min_ohm,max_ohm",
            "a,1,1.4e-3,2.37e-4,0,10,2e4",
            {"a": 1.4e-3, "b": 2.37e-4, "c": 0.0, "min_ohm": 10.0, "max_ohm": 20_000.0},
        ),
        (
            f"{HEADER},{POINTS},min_ohm",
            "a,1,0,9796,32,2221,-40,101000,100",
            {"points": [[0.0, 9_796.0], [32.0, 2_221.0], [-40.0, 101_000.0]], "min_ohm": 100.0},
        ),
    ],
)
def test_a_row_says_a_type_coefficients_points_or_nothing(header, line, thermistor):
    row = read_one(header, line)
    assert (row.number, row.location_id, row.sensor_id, row.problems) == (2, "a", "1", ())
    assert row.thermistor == thermistor


def test_blanks_quotes_and_empty_lines_mean_nothing():
    lines = ["\n", f" {HEADER} , thermistor\n", "\n", ' a , "1" ,"ntc-10k" \n', ",,\n", " , , \n", '"a",2,']
    rows = read(*lines)
    assert [(row.number, row.location_id, row.sensor_id, row.thermistor) for row in rows] == [
        (4, "a", "1", "ntc-10k"),
        (7, "a", "2", None),
    ]
    assert not any(row.problems for row in rows)


ALL = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("header", "line", "problems"),
    [
        (HEADER, ",1", ["location_id: required, but missing"]),
        (HEADER, '"a,b",1', ["location_id: "]),
        (f"{HEADER},thermistor", "a b,é,ntc-10k", ["location_id: ", "sensor_id: "]),
        (HEADER, f"a,{'x' * 65}", ["sensor_id: "]),
        (f"{HEADER},thermistor", "a,1,ntc-5k", ["thermistor: must be one of default, ntc-10k"]),
        (f"{HEADER},a,b,c", "a,1,1.4e-3,,", ["b: required, but missing", "c: required, but missing"]),
        (f"{HEADER},a,b,c", '"a","1","0,0014",2.37e-4,0', ["a: '0,0014' is not a number with a decimal point"]),
        (f"{HEADER},a,b,c", "a,1,0,0014,2.37e-4,0", ["6 fields, but the header has 5; decimals have a point"]),
        (HEADER, "a", ["1 fields, but the header has 2"]),
        (f"{HEADER},a,b,c", "a,1,nan,1_0,0x1", ["a: 'nan'", "b: '1_0'", "c: '0x1'"]),
        (f"{HEADER},a,b,c", "a,1,1e999,2.37e-4,0", ["thermistor: c >= 0 must hold, and all must be finite"]),
        (f"{HEADER},a,b,c", "a,1,1.4e-3,2.37e-4,-1e-8", ["thermistor: c >= 0 must hold"]),
        (f"{HEADER},a,b,c", "a,1,1.4e-3,-2.37e-4,0", ["thermistor: temperature does not fall with resistance"]),
        (f"{HEADER},{POINTS}", "a,1,0,9796,32,0,-300,1", ["ohm_2: must be > ", "celsius_3: must be > -273.15"]),
        (f"{HEADER},{POINTS}", "a,1,0,9796,32,1000000000000,50,1081", ["ohm_2: must be < 1000000000000.0"]),
        (f"{HEADER},{POINTS}", "a,1,0,9796,32,2221,50,3000", ["points: three temperatures are needed"]),
        (f"{HEADER},min_ohm,max_ohm", "a,1,1,2", ["min_ohm: only for", "max_ohm: only for"]),
        (f"{HEADER},thermistor,max_ohm", "a,1,ntc-10k,2", ["max_ohm: only for a, b and c, or for three points"]),
        (f"{HEADER},a,b,c,min_ohm", "a,1,1.4e-3,2.37e-4,0,30000", ["min_ohm: must be below max_ohm"]),
        (ALL, "a,1,default,1,1,1,,,,,,,,", ["thermistor: either a type, or a, b and c, or three points"]),
        (ALL, "a,1,,1,,,0,,,,,,,", ["thermistor: either"]),
        (f"{HEADER},thermistor", 'a,1,"ntc-10k', ["a quote is not closed"]),
    ],
)
def test_every_problem_of_a_row_names_its_column(header, line, problems):
    row = read_one(header, line)
    assert len(row.problems) == len(problems)
    assert all(told.startswith(problem) for told, problem in zip(row.problems, problems, strict=True)), row.problems
    assert all(len(told) < 200 for told in row.problems)


def test_a_row_that_cannot_be_read_spoils_no_other():
    rows = read(HEADER, 'a,"1', "a,2", f"a,{'x' * 200_000}", "a,3", "a,4,5", "a,\0", "a,6")
    assert [row.sensor_id for row in rows if not row.problems] == ["2", "3", "6"]


def test_a_sensor_that_is_given_twice_fails_where_it_is_given_again():
    rows = read(HEADER, "a,1", "b,1", "a,1", "a,1")
    again = ("sensor_id: the same sensor as in row 2",)
    assert [row.problems for row in rows] == [(), (), again, again]


def test_a_row_that_fails_stands_in_the_way_of_no_later_one():
    failed, taken = read(f"{HEADER},thermistor", "a,1,nosuch", "a,1,ntc-10k")
    assert failed.problems
    assert not taken.problems


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "required, but missing"),
        (["\n", " \n"], "required, but missing"),
        (["a,1,ntc-10k"], "location_id is missing, sensor_id is missing, unknown column '1'"),
        (["location_id,sensor"], "sensor_id is missing, unknown column 'sensor'; the first row names the columns: "),
        ([f"{HEADER},"], "unknown column ''"),
        ([f"{HEADER},a,b,b"], "b is given twice"),
        (["location_id;sensor_id;a"], "semicolons separate the columns; save the file with commas"),
        (["location_id\tsensor_id"], "tabs separate the columns"),
        (['location_id,"sensor_id'], "a quote is not closed"),
        (["l\0o\0c\0a\0t\0i\0o\0n\0"], "location_id is missing"),
    ],
)
def test_a_header_that_cannot_be_used_is_one_error_that_says_why(lines, problem):
    with pytest.raises(ValidationError) as raised:
        read(*lines)
    assert str(raised.value).startswith("header: ")
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.lists(st.text(st.characters(exclude_characters="\n\r")), max_size=5))
def test_whatever_else_is_in_a_file_its_good_rows_are_read(garbage):
    good = [f"good,{number}" for number in range(len(garbage))]
    rows = read(HEADER, *(line for pair in zip(garbage, good, strict=True) for line in pair))
    assert {f"good,{row.sensor_id}" for row in rows if not row.problems} >= set(good)


@st.composite
def calibrations(draw):
    """Calibrations that the API takes."""
    lowest = draw(st.floats(1e-3, 1e6))
    calibration = Calibration(
        draw(st.floats(1e-4, 1e-2)),
        draw(st.floats(1e-6, 1e-3)),
        draw(st.floats(0, 1e-6)),
        lowest,
        draw(st.floats(1, 1e11)),
    )
    assume(lowest < calibration.max_ohm)
    given = {name: getattr(calibration, name) for name in calibration.__struct_fields__}
    try:
        assume(THERMISTORS.parse(given) == calibration)
    except ValidationError:
        assume(False)
    return calibration


IDS_OF_ALL_KINDS = IDS | st.sampled_from(ODD_IDS)


@given(
    st.dictionaries(
        st.tuples(IDS_OF_ALL_KINDS, IDS_OF_ALL_KINDS), st.sampled_from([None, "ntc-10k"]) | calibrations(), max_size=10
    )
)
def test_a_file_that_is_provisioned_again_changes_nothing(sensors):
    file = io.StringIO()
    write_rows(((*ids, thermistor) for ids, thermistor in sensors.items()), file)
    file.seek(0)
    rows = list(read_rows(file, THERMISTORS))
    assert not any(row.problems for row in rows)
    assert {(row.location_id, row.sensor_id): THERMISTORS.parse(row.thermistor) for row in rows} == sensors


def test_a_file_has_all_columns_and_every_number_in_full():
    file = io.StringIO()
    write_rows(
        [("a", "1", None), ("a", "2", "ntc-10k"), ("a", "3", Calibration(math.pi / 1e3, 1 / 3e3, 0.0, 1, 2))], file
    )
    assert file.getvalue() == (
        "location_id,sensor_id,thermistor,a,b,c,celsius_1,ohm_1,celsius_2,ohm_2,celsius_3,ohm_3,min_ohm,max_ohm\n"
        "a,1,,,,,,,,,,,,\n"
        "a,2,ntc-10k,,,,,,,,,,,\n"
        f"a,3,,{math.pi / 1e3!r},{1 / 3e3!r},0.0,,,,,,,1,2\n"
    )

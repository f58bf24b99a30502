"""The CSV file of sensors: a row for each, with the type of its thermistor or a calibration of its own, or neither."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from msgspec import Struct, structs

from chalicelib.calibration import Calibration, Celsius, Ohm, SensorThermistor, Thermistors
from chalicelib.errors import ValidationError
from chalicelib.fields import IdText, sensor_key
from chalicelib.validation import convert, shorten

_IDS = ("location_id", "sensor_id")
_COEFFICIENTS = ("a", "b", "c")
_POINTS = (("celsius_1", "ohm_1"), ("celsius_2", "ohm_2"), ("celsius_3", "ohm_3"))
_POINT_COLUMNS = tuple(name for point in _POINTS for name in point)
_RANGE = ("min_ohm", "max_ohm")
COLUMNS = (*_IDS, "thermistor", *_COEFFICIENTS, *_POINT_COLUMNS, *_RANGE)

_NUMBER_TYPES: dict[str, Any] = {
    **dict.fromkeys(_COEFFICIENTS, float),
    **{name: kind for point in _POINTS for name, kind in zip(point, (Celsius, Ohm), strict=True)},
    **dict.fromkeys(_RANGE, Ohm),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class Row(Struct, frozen=True):
    """A row as it was read, the header being row 1: what to provision, or the problems for which it cannot be.

    `thermistor` is as the API takes it. A problem is `<column>: <reason>`, or the reason alone when it
    is about the whole row.
    """

    number: int
    location_id: str
    sensor_id: str
    thermistor: str | dict[str, Any] | None = None
    problems: tuple[str, ...] = ()


def read_rows(lines: Iterable[str], thermistors: Thermistors) -> Iterator[Row]:
    """Read rows as they come, empty ones left out; raises ValidationError when there is no header that can be used.

    A line is a row: no field can hold a line break, so a quote that is left open spoils no other row.
    """
    header: list[str] | None = None
    first_rows: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        cells, problem = _split(line)
        if not any(cells):
            continue
        if header is None:
            _check_header(cells, problem)
            header = cells
            continue
        problem = problem or _problem_of_length(header, cells)
        row = Row(number, "", "", None, (problem,)) if problem else _read_row(number, header, cells, thermistors)
        if not row.problems:
            first = first_rows.setdefault(sensor_key(row.location_id, row.sensor_id), number)
            if first != number:
                row = structs.replace(row, problems=(f"sensor_id: the same sensor as in row {first}",))
        yield row
    if header is None:
        raise ValidationError(f"header: required, but missing; columns are {','.join(COLUMNS)}")


def write_rows(sensors: Iterable[tuple[str, str, SensorThermistor]], file: TextIO) -> None:
    """Write sensors, given by location, id and thermistor, with all columns and each number in full."""
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for location_id, sensor_id, thermistor in sensors:
        own = structs.asdict(thermistor) if isinstance(thermistor, Calibration) else {"thermistor": thermistor or ""}
        writer.writerow({"location_id": location_id, "sensor_id": sensor_id, **own})


def _split(line: str) -> tuple[list[str], str | None]:
    """Return the fields of a line, and what is wrong with it."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True), [])]
    except csv.Error as error:
        return [shorten(line)], str(error)
    return cells, "a quote is not closed" if line.count('"') % 2 else None


def _check_header(cells: Sequence[str], problem: str | None) -> None:
    if problem is not None:
        raise ValidationError(f"header: {problem}")
    for separator, name in _OTHER_SEPARATORS.items():
        if len(cells) == 1 and separator in cells[0]:
            raise ValidationError(
                f"header: {name} separate the columns; save the file with commas, numbers with a point"
            )
    problems = [f"{name} is missing" for name in _IDS if name not in cells]
    problems += [f"unknown column {shorten(cell)!r}" for cell in cells if cell not in COLUMNS]
    problems += [f"{name} is given twice" for name in COLUMNS if cells.count(name) > 1]
    if problems:
        known = ",".join(COLUMNS)
        raise ValidationError(f"header: {', '.join(problems[:5])}; the first row names the columns: {known}")


def _problem_of_length(header: Sequence[str], cells: Sequence[str]) -> str | None:
    if len(cells) == len(header):
        return None
    return f"{len(cells)} fields, but the header has {len(header)}; decimals have a point"


def _read_row(number: int, header: Sequence[str], cells: Sequence[str], thermistors: Thermistors) -> Row:
    filled = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    location_id, sensor_id = (shorten(filled.get(name, "")) for name in _IDS)
    problems = [*_problems_of_ids(filled), *_problems_of_numbers(filled), *_problems_of_choice(filled)]
    thermistor = None
    if not problems:
        thermistor = _thermistor(filled)
        try:
            thermistors.parse(thermistor)
        except ValidationError as error:
            problems.append(name_column(str(error)))
    return Row(number, location_id, sensor_id, thermistor, tuple(problems))


def name_column(problem: str) -> str:
    """Rewrite the API's `[sensors[i].][thermistor.]<field>: <reason>` as one about a column."""
    return re.sub(r"^(sensors\[\d+\]\.?)?(thermistor\.(?=\w))?", "", problem)


def _problems_of_ids(filled: dict[str, str]) -> Iterator[str]:
    for name in _IDS:
        if name not in filled:
            yield f"{name}: required, but missing"
        else:
            yield from _complaint(name, filled[name], IdText)


def _problems_of_numbers(filled: dict[str, str]) -> Iterator[str]:
    for name, kind in _NUMBER_TYPES.items():
        if name not in filled:
            continue
        if _NUMBER.fullmatch(filled[name]) is None:
            yield f"{name}: {shorten(filled[name])!r} is not a number with a decimal point and no other separators"
        else:
            yield from _complaint(name, float(filled[name]), kind)


def _complaint(name: str, value: Any, kind: Any) -> Iterator[str]:
    try:
        convert(value, kind)
    except ValidationError as error:
        reason = str(error).partition(": ")[2]
        yield f"{name}: {re.sub(r'^Expected `float` (?=[<>])', 'must be ', reason)}"


def _problems_of_choice(filled: dict[str, str]) -> Iterator[str]:
    """Say what is too much or too little for one type, one calibration by coefficients, or one by points."""
    kinds = [kind for kind in (("thermistor",), _COEFFICIENTS, _POINT_COLUMNS) if any(name in filled for name in kind)]
    if len(kinds) > 1:
        yield "thermistor: either a type, or a, b and c, or three points, and nothing else"
    elif kinds:
        yield from (f"{name}: required, but missing" for name in kinds[0] if name not in filled)
    if kinds in ([], [("thermistor",)]):
        yield from (f"{name}: only for a, b and c, or for three points" for name in _RANGE if name in filled)


def _thermistor(filled: dict[str, str]) -> str | dict[str, Any] | None:
    """Return what the API takes, from a row that has no problems."""
    accepted = {name: float(filled[name]) for name in _RANGE if name in filled}
    if "a" in filled:
        return {name: float(filled[name]) for name in _COEFFICIENTS} | accepted
    if "ohm_1" in filled:
        return {"points": [[float(filled[name]) for name in point] for point in _POINTS], **accepted}
    return filled.get("thermistor")

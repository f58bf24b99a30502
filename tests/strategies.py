"""Values as Hypothesis makes them up, and what becomes of them."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from chalicelib.errors import ValidationError

IDS = st.from_regex(r"[A-Za-z0-9_.:-]{1,64}", fullmatch=True)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def whole_runs(examples: int) -> int:
    """How many examples that play whole runs to try: these, or THERMONET_EXAMPLES, for who has more time."""
    return int(os.environ.get("THERMONET_EXAMPLES", examples))


def outcome(function: Callable[..., Any], *arguments: object) -> tuple[Any, str | None]:
    """What the function returns and None, or None and what its ValidationError says; any other error goes through."""
    try:
        return function(*arguments), None
    except ValidationError as error:
        return None, str(error)

"""A process that gets the answers another one got does what that one did; so nobody needs to play it again.

Of thousands of histories that differ in one call, most of what processes compute is the same.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from tests.invocations import ProcessDiedError


class Call(NamedTuple):
    """A call of a service, by its client's name and operation."""

    client: str
    operation: str
    arguments: dict[str, Any]

    @property
    def place(self) -> tuple[Any, ...]:
        """All but what is written: bytes that no value of a Parquet file depends on may differ from time to time."""
        return self.client, self.operation, {name: self.arguments[name] for name in self.arguments if name != "Body"}


class Answerer(Protocol):
    """What answers a process's calls, as they are made."""

    def __call__(self, call: Call) -> Any:
        """Return the service's response, or raise its error; raises ProcessDiedError when that ends the process."""


class DifferentCallError(BaseException):
    """The process called something else than one before it that had got the same answers."""


class _Outcome(NamedTuple):
    response: Any = None
    error: Exception | None = None

    def unfold(self) -> Any:
        if self.error:
            raise self.error
        return self.response

    @property
    def mark(self) -> Hashable:
        """What tells it from other outcomes."""
        if self.error:
            return type(self.error), str(self.error)
        if isinstance(self.response, dict) and "Body" in self.response:
            return self.response["Body"].read(), self.response["ContentRange"]
        return repr(self.response)


class _Moment:
    """Where a process is: it makes a call next, or has ended, unless nobody knows yet."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.end: _Outcome | None = None
        self._after: dict[Hashable, _Moment] = {}

    def after(self, outcome: _Outcome) -> "_Moment":
        return self._after.setdefault(outcome.mark, _Moment())


class KnownProcesses:
    """Remembers of each request what a process did next, whatever it was answered."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, _Moment] = {}

    def __deepcopy__(self, _: dict[int, Any]) -> "KnownProcesses":
        return self

    def play(self, request: Hashable, answer: Answerer, process: Callable[[Answerer], Any]) -> Any:
        """Return or raise what the process does, which is begun only if no other has come to where it comes.

        It depends on its request and its answers alone, and makes its calls one after the other.
        """
        beginning = moment = self._begun.setdefault(request, _Moment())
        answered = []
        while moment.call:
            answered.append(_observe(answer, moment.call))
            moment = moment.after(answered[-1])
        return (moment.end or _go_on(beginning, answered, answer, process)).unfold()


def _go_on(moment: _Moment, answered: list[_Outcome], answer: Answerer, process: Callable[[Answerer], Any]) -> _Outcome:
    """Play a process in earnest; it gets the answers that are there, then others."""
    given = iter(answered)
    failure: BaseException | None = None

    def note(call: Call) -> Any:
        nonlocal moment, failure
        if failure:
            raise failure
        try:
            moment.call = moment.call or call
            if moment.call.place != call.place:
                raise DifferentCallError(f"{call.place} instead of {moment.call.place}")
            outcome = next(given, None) or _observe(answer, call)
        except BaseException as error:
            # Whatever the process makes of it, such as an error of DuckDB's.
            failure = error
            raise
        moment = moment.after(outcome)
        return outcome.unfold()

    end = _observe(process, note)
    if failure:
        raise failure
    moment.end = end
    return end


def _observe(function: Callable[[Any], Any], argument: Any) -> _Outcome:
    try:
        return _Outcome(function(argument))
    except ProcessDiedError:
        raise
    except Exception as error:
        return _Outcome(error=error)

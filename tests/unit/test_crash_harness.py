"""The harness of the crash points itself: late processes go on where they slept, known ones are not played again."""

from typing import Any

import pytest

from tests.invocations import GivenUpError, Invocation, ProcessDiedError
from tests.known_processes import Call, DifferentCallError, KnownProcesses


class Sleeper:
    """An invocation that falls asleep between two deeds."""

    def __init__(self) -> None:
        self.deeds: list[str] = []
        self.invocation = Invocation(self._act)

    def _act(self) -> None:
        self.deeds.append("before")
        self.invocation.sleep()
        self.deeds.append("after")


def test_a_process_that_was_given_up_goes_on_where_it_slept():
    sleeper = Sleeper()
    with pytest.raises(GivenUpError):
        sleeper.invocation.play()
    assert sleeper.deeds == ["before"]
    sleeper.invocation.wake()
    assert sleeper.deeds == ["before", "after"]


def test_a_sleeping_process_that_is_buried_does_nothing_more():
    sleeper = Sleeper()
    with pytest.raises(GivenUpError):
        sleeper.invocation.play()
    sleeper.invocation.bury()
    assert sleeper.deeds == ["before"]


@pytest.mark.parametrize("error", [ValueError, ProcessDiedError])
def test_whatever_ends_an_invocation_is_raised_where_it_was_called(error):
    def fail() -> None:
        raise error("no")

    with pytest.raises(error):
        Invocation(fail).play()


class Service:
    """Answers reads from a register, and remembers what it was asked."""

    def __init__(self, **register: int) -> None:
        self.register = register
        self.asked: list[str] = []

    def __call__(self, call: Call) -> int:
        self.asked.append(call.operation)
        if call.operation not in self.register:
            raise ProcessDiedError(call.operation)
        return self.register[call.operation]


@pytest.fixture
def begun() -> list[str]:
    return []


@pytest.fixture
def adds(begun):
    def add(note: Any) -> int:
        begun.append("add")
        return note(Call("s3", "a", {})) + note(Call("s3", "b", {}))

    return add


def test_a_process_with_the_same_answers_is_not_played_again_but_its_calls_are(begun, adds):
    known, again = KnownProcesses(), Service(a=1, b=2)
    assert [known.play("r", Service(a=1, b=2), adds), known.play("r", again, adds)] == [3, 3]
    assert begun == ["add"]
    assert again.asked == ["a", "b"]


def test_a_process_with_another_answer_goes_on_from_there_and_asks_nothing_twice(begun, adds):
    known, other = KnownProcesses(), Service(a=1, b=7)
    known.play("r", Service(a=1, b=2), adds)
    assert known.play("r", other, adds) == 8
    assert begun == ["add", "add"]
    assert other.asked == ["a", "b"]


def test_a_process_that_dies_ends_nowhere_and_is_played_on_by_the_next(begun, adds):
    known = KnownProcesses()
    with pytest.raises(ProcessDiedError):
        known.play("r", Service(a=1), adds)
    assert known.play("r", Service(a=1, b=2), adds) == 3


def test_a_process_that_depends_on_more_than_its_answers_is_noticed(adds):
    known = KnownProcesses()
    known.play("r", Service(a=1, b=2), adds)
    with pytest.raises(DifferentCallError):
        known.play("r", Service(a=2, b=2, c=3), lambda note: note(Call("s3", "c", {})))

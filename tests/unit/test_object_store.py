"""The bucket's contract on the fake that the other unit tests use."""

import pytest

from tests.contracts import ObjectStoreContract
from tests.fakes import FakeObjectStore


@pytest.fixture
def store():
    return FakeObjectStore()


class TestTheFakeObjectStore(ObjectStoreContract):
    """The contract, in memory."""

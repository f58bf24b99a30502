"""The bucket's contract on the fake that the other unit tests use."""

import pytest

from tests.contracts import ObjectStoreContract
from tests.fake_s3 import FakeObjectStore


@pytest.fixture
def store():
    return FakeObjectStore()


class TestTheFakeObjectStore(ObjectStoreContract):
    """The contract, in memory."""

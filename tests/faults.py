"""Between boto3's clients and AWS: calls are noted there, and fail, take their time or are answered otherwise."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from botocore.client import BaseClient


class Fault(NamedTuple):
    """An error of all calls whose names begin with `call`, as `dynamodb:PutItem`, and whose parameters have `where`."""

    call: str
    error: BaseException
    where: str
    had_effect: bool

    def strikes(self, name: str, parameters: dict[str, Any]) -> bool:
        """Tell whether the call fails."""
        return name.startswith(self.call) and self.where in json.dumps(parameters, default=str)


class AwsCalls:
    """What all clients call from now on: `made` has the calls' names, `failed` tells how many a fault has struck."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.failed = 0
        # Called with client, operation, parameters and answer, which it may change, after each call that succeeds.
        self.on_answer: Callable[[Any, str, dict[str, Any], Any], None] = lambda *_: None
        self._faults: list[Fault] = []
        make_api_call = BaseClient._make_api_call

        def intercepted(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            fault = self._note(f"{client.meta.service_model.service_name}:{operation}", parameters)
            answer = None if fault and not fault.had_effect else make_api_call(client, operation, parameters)
            if fault:
                raise fault.error
            self.on_answer(client, operation, parameters, answer)
            return answer

        monkeypatch.setattr(BaseClient, "_make_api_call", intercepted)

    def fail(self, call: str, error: BaseException, where: str = "", *, had_effect: bool = False) -> None:
        """Let every such call fail, without its effect or after it, until `heal`."""
        self._faults.append(Fault(call, error, where, had_effect))

    def heal(self) -> None:
        """Let no call fail any more."""
        self._faults.clear()

    def _note(self, name: str, parameters: dict[str, Any]) -> Fault | None:
        self.made.append(name)
        fault = next((fault for fault in self._faults if fault.strikes(name, parameters)), None)
        self.failed += fault is not None
        return fault

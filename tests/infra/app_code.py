"""Reads app.py and chalicelib as source: which functions there are, and which AWS calls each can make.

Calls are followed from an entry point through attributes whose class the constructor's annotations tell.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.infra.terraform_files import PROJECT

_CLIENTS = {
    "DynamoDBClient": "dynamodb",
    "S3Client": "s3",
    "SNSClient": "sns",
    "SQSClient": "sqs",
    "SFNClient": "states",
    "SSMClient": "ssm",
}
# What is called otherwise than the right to it.
_ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject",
    "sns:PublishBatch": "sns:Publish",
    # The parts of a transaction need the rights that they would need alone.
    "dynamodb:TransactWriteItems": "dynamodb:UpdateItem",
}
# Powertools makes these calls for us.
_LIBRARY_ACTIONS = {
    "DynamoDBPersistenceLayer": {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
    }
}
_CONSUMER_ACTIONS = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
# Every function writes its log and reads the parameter that names the resources.
_COMMON_ACTIONS = {"logs:CreateLogStream", "logs:PutLogEvents", "ssm:GetParameter"}


@dataclass
class _Scope:
    """A class or module: its functions, and the class names of the attributes or parameters they use."""

    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


@cache
def app_functions() -> dict[str, dict[str, Any]]:
    """Return the functions that are deployed, the API's handler as `app`, with their decorators' plain arguments."""
    functions: dict[str, dict[str, Any]] = {"app": {}}
    for function, decorator in _decorated():
        if decorator.func.attr in {"route", "middleware"}:  # type: ignore[attr-defined]
            continue
        constants = {key.arg: key.value.value for key in decorator.keywords if isinstance(key.value, ast.Constant)}
        functions[function.name] = {"decorator": decorator.func.attr, **constants}  # type: ignore[attr-defined]
    return functions


@cache
def actions_of(name: str) -> frozenset[str]:
    """Return every IAM action that a deployed function needs."""
    actions = set(_COMMON_ACTIONS)
    for function, decorator in _decorated():
        kind = decorator.func.attr  # type: ignore[attr-defined]
        if function.name != name and not (name == "app" and kind == "route"):
            continue
        if kind == "on_sqs_message":
            actions |= _CONSUMER_ACTIONS
        actions |= _of_entry_point(function)
    return frozenset(actions)


def _decorated() -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    for node in ast.parse((PROJECT / "app.py").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).startswith("app."):
                    yield node, decorator


def _of_entry_point(function: ast.FunctionDef) -> set[str]:
    """Follow `services.<use case>.<method>` and calls of chalicelib's functions."""
    actions: set[str] = set()
    services = _scopes()["Services"]
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and (use := re.fullmatch(r"services\.(\w+)\.(\w+)", ast.unparse(node))):
            use_case = services.functions.get(use[1])
            if use_case is not None and use_case.returns is not None:
                actions |= _of_function(_class_name(use_case.returns), use[2])
        if isinstance(node, ast.Name) and node.id in _scopes()[""].functions:
            actions |= _of_function("", node.id)
    return actions


@cache
def _of_function(scope_name: str, name: str) -> frozenset[str]:
    scope = _scopes()[scope_name]
    function = scope.functions[name]
    types = {**scope.types, **_parameters(function)}
    actions: set[str] = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value).removeprefix("self.")
        type_ = scope_name if owner == "self" else types.get(owner, "")
        if type_ in _CLIENTS:
            actions |= _of_client_use(_CLIENTS[type_], node, function)
        elif (
            type_ in _scopes() and node.attr in _scopes()[type_].functions and (type_, node.attr) != (scope_name, name)
        ):
            actions |= _of_function(type_, node.attr)
    return frozenset(actions | _of_library(scope))


def _of_client_use(service: str, node: ast.Attribute, function: ast.FunctionDef) -> set[str]:
    if node.attr == "exceptions":
        # Without this right S3 does not tell what is missing from what is forbidden.
        return {"s3:ListBucket"} if "NoSuchKey" in ast.unparse(function) else set()
    names = (
        re.findall(r"get_paginator\('(\w+)'\)", ast.unparse(function)) if node.attr == "get_paginator" else [node.attr]
    )
    named = {f"{service}:{''.join(part.capitalize() for part in name.split('_'))}" for name in names}
    return {_ACTIONS.get(action, action) for action in named}


def _of_library(scope: _Scope) -> set[str]:
    """Add what a library does with a client that the class hands to it."""
    sources = [ast.unparse(scope.functions["__init__"])] if "__init__" in scope.functions else []
    used = [name for name in _LIBRARY_ACTIONS for source in sources if f"{name}(" in source]
    return {action for name in used for action in _LIBRARY_ACTIONS[name]}


@cache
def _scopes() -> dict[str, _Scope]:
    """Index chalicelib: every class by name, and under "" the functions of all modules."""
    scopes = {"": _Scope()}
    for file in sorted((PROJECT / "chalicelib").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                scopes[""].functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                scopes[node.name] = _of_class(node)
    return scopes


def _of_class(node: ast.ClassDef) -> _Scope:
    functions = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    types: dict[str, str] = {}
    if "__init__" in functions:
        parameters = _parameters(functions["__init__"])
        for item in ast.walk(functions["__init__"]):
            if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Attribute):
                made = item.value.func if isinstance(item.value, ast.Call) else item.value
                types[item.targets[0].attr] = parameters.get(ast.unparse(made), ast.unparse(made))
    return _Scope(functions, types)


def _parameters(function: ast.FunctionDef) -> dict[str, str]:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return {argument.arg: _class_name(argument.annotation) for argument in arguments if argument.annotation}


def _class_name(annotation: ast.expr) -> str:
    return ast.unparse(annotation).strip("'\"")

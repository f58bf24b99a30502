"""A call of an online client ends in time, whatever the network does: shown on real sockets."""

import contextlib
import socket
import ssl
import threading
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from chalicelib.aws import Aws, OutOfTimeError, longest_call_seconds, timed
from chalicelib.object_store import ObjectStore
from tests.unreliable_server import LONG_BODY, DrippingServer, http_answer, make_certificate

ANSWER = http_answer(LONG_BODY)
HEAD_BYTES = len(ANSWER) - len(LONG_BODY)
# No single read waits so long, and an answer takes many times longer.
SECONDS = 0.25


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)


def quick(**changes):
    return Config(
        connect_timeout=SECONDS,
        read_timeout=SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path"},
        **changes,
    )


# For calls that are to succeed on a busy machine.
PATIENT = quick().merge(Config(connect_timeout=2, read_timeout=30))


def new_client(service, port, scheme="http", config=None, longest_seconds=None, **options):
    url = f"{scheme}://127.0.0.1:{port}"
    return timed(boto3.client(service, endpoint_url=url, config=config or quick(), **options), longest_seconds)


def get_item(client):
    return client.get_item(TableName="table", Key={"id": {"S": "x"}})


@pytest.fixture(params=["http", "https"])
def serve(request, tmp_path):
    """A function that runs a dripping server and returns it with a function for clients of it."""
    with contextlib.ExitStack() as stack:

        def start(at_once, **options):
            tls, trusted = None, {}
            if request.param == "https":
                certificate = make_certificate(tmp_path)
                tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                tls.load_cert_chain(certificate)
                trusted = {"verify": str(certificate)}
            server = stack.enter_context(DrippingServer(ANSWER, at_once, **options).running(tls))
            return server, lambda service, **more: new_client(service, server.port, request.param, **trusted, **more)

        yield start


@pytest.mark.parametrize("at_once", [0, HEAD_BYTES - 10, HEAD_BYTES], ids=["status", "headers", "body"])
def test_an_answer_that_trickles_ends_the_call(serve, at_once):
    server, new = serve(at_once)
    with pytest.raises(HTTPClientError):
        get_item(new("dynamodb"))
    assert not server.finished


def test_an_object_that_trickles_ends_the_call_that_reads_it(serve):
    server, new = serve(HEAD_BYTES)
    with pytest.raises(HTTPClientError):
        ObjectStore("bucket", new("s3")).get("key")
    assert not server.finished


def test_an_answer_in_time_arrives_and_its_connection_serves_the_next_call(serve):
    server, new = serve(len(ANSWER))
    client = new("dynamodb", config=PATIENT)
    for _ in range(3):
        assert get_item(client)["Item"]["text"]["S"].strip("x") == ""
    assert (server.requests, server.connections) == (3, 1)


def test_a_request_that_is_taken_in_drop_by_drop_ends_the_call(serve, tmp_path):
    body = bytes(16 * 1024 * 1024)
    server, new = serve(len(ANSWER), taken_slowly=len(body))
    (tmp_path / "file").write_bytes(body)
    with pytest.raises(ConnectionClosedError):
        ObjectStore("bucket", new("s3")).upload([("key", tmp_path / "file")])
    assert not server.finished


def test_the_second_try_has_a_time_of_its_own(serve):
    server, new = serve(HEAD_BYTES)
    config = quick().merge(Config(retries={"mode": "standard", "total_max_attempts": 2}))
    with pytest.raises(HTTPClientError):
        get_item(new("dynamodb", config=config))
    assert server.requests == 2


def test_no_second_try_begins_when_the_time_of_the_call_is_over(serve):
    server, new = serve(HEAD_BYTES)
    config = quick().merge(Config(retries={"mode": "standard", "total_max_attempts": 2}))
    with pytest.raises(OutOfTimeError):
        get_item(new("dynamodb", config=config, longest_seconds=SECONDS))
    assert server.requests == 1


@pytest.fixture
def dead_port():
    """A port that leaves whoever connects waiting, as an address behind which nobody is."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(10):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.02)
            try:
                waiting.connect(("127.0.0.1", port))
            except TimeoutError:
                yield port
                return
        pytest.skip("this system lets everybody connect")


@pytest.fixture
def resolve(monkeypatch):
    """A function after which every name has just these ports of this machine for addresses, and a list of look-ups."""

    def answer_with(ports):
        looked_up = []

        def getaddrinfo(host, *_):
            looked_up.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return looked_up

    return answer_with


def test_eight_dead_addresses_take_no_longer_than_one(dead_port, resolve, monkeypatch):
    looked_up = resolve([dead_port] * 8)
    waited = []
    connect = socket.socket.connect

    def noting_connect(opened, address):
        waited.append(opened.gettimeout())
        connect(opened, address)

    monkeypatch.setattr("chalicelib.connections._PlainSocket.connect", noting_connect, raising=False)
    with pytest.raises(ConnectTimeoutError):
        get_item(new_client("dynamodb", dead_port))
    assert len(looked_up) == 1
    assert len(waited) == 8
    assert sum(waited) < SECONDS * 1.5, "together they wait for as long as one may"


def test_an_address_that_answers_is_found_behind_dead_ones(dead_port, resolve):
    with DrippingServer(ANSWER, len(ANSWER)).running() as server:
        resolve([*[dead_port] * 7, server.port])
        config = PATIENT.merge(Config(connect_timeout=1))
        assert "Item" in get_item(new_client("dynamodb", server.port, config=config))


@pytest.mark.parametrize("ports", [[], [1]], ids=["none", "a closed port"])
def test_a_name_without_a_living_address_fails_at_once(ports, resolve):
    resolve(ports)
    with pytest.raises(BotoCoreError):
        get_item(new_client("dynamodb", 1))


def test_a_name_that_nobody_looks_up_in_time_ends_the_call(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: released.wait(10) and [])
    with pytest.raises(ConnectTimeoutError):
        get_item(new_client("dynamodb", 1))
    released.set()


def test_an_unknown_name_is_an_error_of_the_connection(monkeypatch):
    def getaddrinfo(*_):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(EndpointConnectionError):
        get_item(new_client("dynamodb", 1))


CALLS = {
    "ssm": lambda client: client.get_parameter(Name="name"),
    "dynamodb": get_item,
    "sqs": lambda client: client.get_queue_attributes(QueueUrl="http://127.0.0.1/queue"),
    "sns": lambda client: client.publish(TopicArn="topic", Message="text"),
    "s3": lambda client: ObjectStore("bucket", client).get("key"),
    "s3_online": lambda client: ObjectStore("bucket", client).get("key"),
    "stepfunctions": lambda client: client.list_state_machines(),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_client_of_the_application_waits_for_a_trickle(name, monkeypatch):
    for config in ("_ONLINE", "_ALERT", "_BULK"):
        monkeypatch.setattr(f"chalicelib.aws.{config}", quick())
    monkeypatch.setattr("chalicelib.aws._BULK_SECONDS", SECONDS)
    with DrippingServer(ANSWER, HEAD_BYTES).running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        with pytest.raises(HTTPClientError):
            CALLS[name](getattr(Aws("dev"), name))
        assert server.requests == 1
        assert not server.finished


def test_the_longest_wait_between_two_tries_is_the_one_that_is_reckoned_with(monkeypatch):
    waited = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr("botocore.retries.standard.random.random", lambda: 1.0)
    throttled = b"HTTP/1.1 429 Slow Down\r\nx-amz-retry-after: 60000\r\nContent-Length: 0\r\n\r\n"
    with DrippingServer(throttled, len(throttled)).running() as server:
        config = PATIENT.merge(Config(retries={"mode": "standard", "total_max_attempts": 2}))
        client = new_client("dynamodb", server.port, config=config)
        with pytest.raises(ClientError):
            get_item(client)
    assert len(waited) == 1
    assert 2 * (2 + 30) + waited[0] <= longest_call_seconds(config)

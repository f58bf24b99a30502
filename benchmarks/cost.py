"""Computes what a million readings cost on AWS, from counted calls and bytes and list prices.

`python benchmarks/cost.py [--json] [--rounds N]`: benchmarks/ingest.py counts calls and bytes through the real app;
the CPU time it measures stands for Lambda's, after a waiting time for each call. Every sensor of a batch is another
one, which is the dearest case, none alerts, and no free tier is used up.
"""

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.ingest import arguments, measure_sizes


class Price(NamedTuple):
    """A list price: dollars, for what, since when at the latest it is known to hold, and where it stands."""

    usd: float
    unit: str
    as_of: str
    source: str


# us-east-1, on demand, first tier, without free tiers.
PRICES = {
    "api gateway request": Price(3.50e-6, "request, REST API", "2026-01", "aws.amazon.com/api-gateway/pricing"),
    "lambda request": Price(0.20e-6, "request", "2026-01", "aws.amazon.com/lambda/pricing"),
    "lambda time": Price(1.66667e-5, "GB-second, x86", "2026-01", "aws.amazon.com/lambda/pricing"),
    "dynamodb write": Price(0.625e-6, "write of 1 KB", "2024-11", "aws.amazon.com/dynamodb/pricing/on-demand"),
    "dynamodb read": Price(0.125e-6, "consistent read of 4 KB", "2024-11", "aws.amazon.com/dynamodb/pricing/on-demand"),
    "sqs request": Price(0.40e-6, "64 KB, standard queue", "2026-06", "aws.amazon.com/sqs/pricing"),
    "s3 put": Price(5.0e-6, "request", "2026-03", "aws.amazon.com/s3/pricing"),
    "s3 get": Price(0.4e-6, "request", "2026-03", "aws.amazon.com/s3/pricing"),
    "s3 storage": Price(0.023, "GB-month", "2026-03", "aws.amazon.com/s3/pricing"),
    "workflow transition": Price(2.5e-5, "state transition", "2026-03", "aws.amazon.com/step-functions/pricing"),
    "workflow request": Price(1.0e-6, "express execution", "2026-03", "aws.amazon.com/step-functions/pricing"),
    "log": Price(0.50, "GB", "2026-06", "aws.amazon.com/cloudwatch/pricing"),
    "transfer out": Price(0.09, "GB to the internet", "2026-03", "aws.amazon.com/ec2/pricing/on-demand"),
    # Before any processing of the messages, and without connections.
    "iot message": Price(1.00e-6, "message of 5 KB", "2026-01", "aws.amazon.com/iot-core/pricing"),
}
IOT_MESSAGE_KB = 5

GB = 1e9
# .chalice/config.json gives the handler 512 MB, which is this share of a virtual CPU.
HANDLER_GB = 0.5
HANDLER_VCPU = 512 / 1769
CONSUMER_GB = 0.5
AUTHORIZER_GB = 0.25
# Waiting for an AWS call inside a region, and botocore's own work for it, in seconds.
CALL_SECONDS = 0.008
# The gateway remembers an authorizer's answer for a minute; a gateway device that sends once a minute is the dearest.
AUTHORIZATIONS_PER_REQUEST_SINGLE = 0.1
AUTHORIZATIONS_PER_BATCH = 1.0
AUTHORIZER_SECONDS = 0.010
# START, END and REPORT of Lambda itself.
LOG_BYTES_PER_CALL = 350
ANSWER_HEADER_BYTES = 500
# The consumer gathers messages for ten seconds, up to a thousand: at 10 requests a second.
MESSAGES_PER_CONSUMER_CALL = 100
CONSUMER_SECONDS = 0.15
# SQS hands the event source ten messages at a time.
MESSAGES_PER_RECEIVE = 10
LANDED_BYTES_PER_READING = 30
LANDED_MONTHS = 1 / 24 / 30
# benchmarks/archive.py: the dearer one, of readings posted singly, kept for a month.
ARCHIVED_BYTES_PER_READING = 19
# benchmarks/analytics.py: a million readings of an hour take the functions of a run a quarter of a minute of 3 GB.
ANALYTICS_GB_SECONDS_PER_READING = 45e-6
# A run of an hour at 280 readings a second. docs/architecture.md has the calls of its steps.
READINGS_PER_RUN = 1_000_000
LOCATIONS_PER_RUN = 100
TRANSITIONS_PER_RUN = 10
# Of all locations together: claim, spool, tasks, plan, summary, manifest and archive are written, landing, runs,
# archive and outcomes listed at the same price; manifests, claim, plan and spool are read.
PUTS_PER_RUN = 11
GETS_PER_RUN = 10
PUTS_PER_LOCATION = 5
GETS_PER_LOCATION = 3

MILLION = 1_000_000


class Costs(NamedTuple):
    """Dollars per million readings, service by service."""

    api_gateway: float
    lambda_: float
    dynamodb: float
    sqs: float
    s3: float
    workflow: float
    logs: float
    transfer: float

    @property
    def total(self) -> float:
        return sum(self)


def cost_of(counted: dict[str, float], readings_per_request: int) -> Costs:
    """Return the costs per million readings, given counts per reading by benchmarks/ingest.py."""
    per_reading = 1 / readings_per_request
    authorizations = AUTHORIZATIONS_PER_REQUEST_SINGLE if readings_per_request == 1 else AUTHORIZATIONS_PER_BATCH
    consumer_calls = per_reading / MESSAGES_PER_CONSUMER_CALL
    requests_and_authorizations = per_reading * (1 + authorizations)
    log_bytes = per_reading * counted["log_bytes_per_request"] + requests_and_authorizations * LOG_BYTES_PER_CALL
    costs = Costs(
        api_gateway=per_reading * usd("api gateway request"),
        lambda_=_lambda(counted, per_reading, authorizations * per_reading, consumer_calls),
        dynamodb=_dynamodb(counted, per_reading),
        sqs=_sqs(counted, readings_per_request),
        s3=_s3(consumer_calls),
        workflow=TRANSITIONS_PER_RUN / READINGS_PER_RUN * usd("workflow transition")
        + LOCATIONS_PER_RUN / READINGS_PER_RUN * usd("workflow request"),
        logs=log_bytes / GB * usd("log"),
        transfer=(counted["answer_bytes"] + per_reading * ANSWER_HEADER_BYTES) / GB * usd("transfer out"),
    )
    return Costs(*(cost * MILLION for cost in costs))


def usd(name: str) -> float:
    """Return a list price."""
    return PRICES[name].usd


def _lambda(counted: dict[str, float], requests: float, authorizations: float, consumer_calls: float) -> float:
    handler_seconds = counted["own_cpu_us"] * 1e-6 / HANDLER_VCPU + counted["aws_calls"] * CALL_SECONDS
    gb_seconds = handler_seconds * HANDLER_GB
    gb_seconds += authorizations * AUTHORIZER_SECONDS * AUTHORIZER_GB
    gb_seconds += consumer_calls * CONSUMER_SECONDS * CONSUMER_GB
    gb_seconds += ANALYTICS_GB_SECONDS_PER_READING
    calls = requests + authorizations + consumer_calls
    return gb_seconds * usd("lambda time") + calls * usd("lambda request")


def _dynamodb(counted: dict[str, float], requests: float) -> float:
    """Charge a write to begin and one to complete the idempotency record, its expiry being free, and the reads."""
    record_kb = math.ceil((counted["record_bytes_per_request"] + 300) / 1_024)
    return requests * (1 + record_kb) * usd("dynamodb write") + usd("dynamodb read")


def _sqs(counted: dict[str, float], readings_per_request: int) -> float:
    """Charge 64 KB at a time for sending, receiving and deleting."""
    message_bytes = counted["message_bytes"] * readings_per_request
    chunks = math.ceil(message_bytes / 65_536)
    received_chunks = max(math.ceil(message_bytes * MESSAGES_PER_RECEIVE / 65_536) / MESSAGES_PER_RECEIVE, 0.1)
    return (chunks + received_chunks + 1 / MESSAGES_PER_RECEIVE) / readings_per_request * usd("sqs request")


def _s3(consumer_calls: float) -> float:
    """Charge landing objects, written and read once, what a run writes and reads, and the archive's first month."""
    puts = consumer_calls + (PUTS_PER_RUN + LOCATIONS_PER_RUN * PUTS_PER_LOCATION) / READINGS_PER_RUN
    gets = consumer_calls + (GETS_PER_RUN + LOCATIONS_PER_RUN * GETS_PER_LOCATION) / READINGS_PER_RUN
    stored = (LANDED_BYTES_PER_READING * LANDED_MONTHS + ARCHIVED_BYTES_PER_READING) / GB
    return puts * usd("s3 put") + gets * usd("s3 get") + stored * usd("s3 storage")


def iot_core(counted: dict[str, float], readings_per_message: int) -> float:
    """Return AWS IoT Core's price for as many readings in messages, for messages alone."""
    kilobytes = counted["bytes"] * readings_per_message / 1_024
    return math.ceil(kilobytes / IOT_MESSAGE_KB) / readings_per_message * usd("iot message") * MILLION


def main() -> None:
    """Count, multiply, print."""
    options = arguments(__doc__)
    sizes = {"single": 1, "batch25": 25, "batch100": 100}
    counted = measure_sizes({name: None if size == 1 else size for name, size in sizes.items()}, options.rounds)
    costs = {name: cost_of(counted[name], size) for name, size in sizes.items()}
    for name, price in PRICES.items():
        print(f"{name:20} {price.usd:10.3g} USD per {price.unit:24} {price.as_of}  {price.source}")
    print()
    print("USD per million readings".ljust(26) + "".join(f"{name:>10}" for name in sizes))
    for field in Costs._fields:
        row = "".join(f"{getattr(costs[name], field):10.4f}" for name in sizes)
        print(field.rstrip("_").replace("_", " ").ljust(26) + row)
    print("total".ljust(26) + "".join(f"{costs[name].total:10.4f}" for name in sizes))
    iot = "".join(f"{iot_core(counted[name], size):10.4f}" for name, size in sizes.items())
    print("AWS IoT Core, messages".ljust(26) + iot)
    if options.json:
        print(json.dumps({"usd_per_million": {name: cost.total for name, cost in costs.items()}}))


if __name__ == "__main__":
    main()

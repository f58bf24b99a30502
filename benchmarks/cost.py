"""Tells what a million readings cost on AWS, from counted calls and bytes and list prices.

`python benchmarks/cost.py [--json]`: calls and bytes are counted by benchmarks/ingest.py, through the real app;
the CPU time it measures stands for Lambda's, after a waiting time for each call. Every sensor of a batch is another
one, which is the dearest case, and no free tier is used up.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.ingest import measure_sizes

# USD, us-east-1, on-demand list prices without free tiers, as of 2026-01; the source of each beside it.
API_GATEWAY_REQUEST = 3.50e-6  # aws.amazon.com/api-gateway/pricing, REST API, first 333 million a month
LAMBDA_REQUEST = 0.20e-6  # aws.amazon.com/lambda/pricing
LAMBDA_GB_SECOND = 1.66667e-5  # aws.amazon.com/lambda/pricing, x86
DYNAMODB_WRITE_UNIT = 0.625e-6  # aws.amazon.com/dynamodb/pricing/on-demand, a write of up to 1 KB
DYNAMODB_READ_UNIT = 0.125e-6  # aws.amazon.com/dynamodb/pricing/on-demand, a consistent read of up to 4 KB
SQS_REQUEST = 0.40e-6  # aws.amazon.com/sqs/pricing, each 64 KB of a standard queue
S3_PUT = 5.0e-6  # aws.amazon.com/s3/pricing
S3_GET = 0.4e-6  # aws.amazon.com/s3/pricing
S3_GB_MONTH = 0.023  # aws.amazon.com/s3/pricing
LOG_GB = 0.50  # aws.amazon.com/cloudwatch/pricing, ingestion
TRANSFER_OUT_GB = 0.09  # aws.amazon.com/ec2/pricing/on-demand, to the internet
# What the same readings cost as messages of AWS IoT Core, before any processing: aws.amazon.com/iot-core/pricing
IOT_MESSAGE = 1.00e-6
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
LOG_BYTES_PER_REQUEST = 700
ANSWER_HEADER_BYTES = 500
# The consumer gathers messages for ten seconds, up to a thousand: at 10 requests a second.
MESSAGES_PER_CONSUMER_CALL = 100
CONSUMER_SECONDS = 0.15
# SQS hands the event source ten messages at a time.
MESSAGES_PER_RECEIVE = 10
LANDED_BYTES_PER_READING = 30
LANDED_MONTHS = 1 / 24 / 30
# benchmarks/analytics.py: a million readings of an hour take receiver and reporters a quarter of a minute of 3 GB.
ANALYTICS_GB_SECONDS_PER_READING = 45e-6

MILLION = 1_000_000


class Costs(NamedTuple):
    """Dollars per million readings, service by service."""

    api_gateway: float
    lambda_: float
    dynamodb: float
    sqs: float
    s3: float
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
    costs = Costs(
        api_gateway=per_reading * API_GATEWAY_REQUEST,
        lambda_=_lambda(counted, per_reading, authorizations * per_reading, consumer_calls),
        dynamodb=_dynamodb(counted, per_reading),
        sqs=_sqs(counted, readings_per_request),
        s3=consumer_calls * (S3_PUT + S3_GET) + LANDED_BYTES_PER_READING / GB * S3_GB_MONTH * LANDED_MONTHS,
        logs=per_reading * (1 + authorizations) * LOG_BYTES_PER_REQUEST / GB * LOG_GB,
        transfer=(counted["answer_bytes"] + per_reading * ANSWER_HEADER_BYTES) / GB * TRANSFER_OUT_GB,
    )
    return Costs(*(cost * MILLION for cost in costs))


def _lambda(counted: dict[str, float], requests: float, authorizations: float, consumer_calls: float) -> float:
    handler_seconds = counted["own_cpu_us"] * 1e-6 / HANDLER_VCPU + counted["aws_calls"] * CALL_SECONDS
    gb_seconds = handler_seconds * HANDLER_GB
    gb_seconds += authorizations * AUTHORIZER_SECONDS * AUTHORIZER_GB
    gb_seconds += consumer_calls * CONSUMER_SECONDS * CONSUMER_GB
    gb_seconds += ANALYTICS_GB_SECONDS_PER_READING
    return gb_seconds * LAMBDA_GB_SECOND + (requests + authorizations + consumer_calls) * LAMBDA_REQUEST


def _dynamodb(counted: dict[str, float], requests: float) -> float:
    """Charge a write to begin and one to complete the idempotency record, its expiry being free, and the reads."""
    record_kb = math.ceil((counted["record_bytes_per_request"] + 300) / 1_024)
    return requests * (1 + record_kb) * DYNAMODB_WRITE_UNIT + DYNAMODB_READ_UNIT


def _sqs(counted: dict[str, float], readings_per_request: int) -> float:
    """Charge 64 KB at a time for sending, receiving and deleting."""
    message_bytes = counted["message_bytes"] * readings_per_request
    chunks = math.ceil(message_bytes / 65_536)
    received_chunks = max(math.ceil(message_bytes * MESSAGES_PER_RECEIVE / 65_536) / MESSAGES_PER_RECEIVE, 0.1)
    return (chunks + received_chunks + 1 / MESSAGES_PER_RECEIVE) / readings_per_request * SQS_REQUEST


def iot_core(counted: dict[str, float], readings_per_message: int) -> float:
    """Return AWS IoT Core's price for as many readings in messages, for messages alone."""
    kilobytes = counted["bytes"] * readings_per_message / 1_024
    return math.ceil(kilobytes / IOT_MESSAGE_KB) / readings_per_message * IOT_MESSAGE * MILLION


def main() -> None:
    """Count, multiply, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    sizes = {"single": 1, "batch25": 25, "batch100": 100}
    counted = measure_sizes({name: None if size == 1 else size for name, size in sizes.items()})
    costs = {name: cost_of(counted[name], size) for name, size in sizes.items()}
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

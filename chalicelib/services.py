"""Wires the use cases to AWS, the clock and chance; each is made when first used."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

from chalicelib.analytics.summarizer import Summarizer
from chalicelib.api.report_reader import ReportReader
from chalicelib.api.tokens import SigningKeys, Tokens, signing_keys_parameter
from chalicelib.aws import Aws
from chalicelib.broken_count import BrokenCount
from chalicelib.calibration import Thermistors
from chalicelib.ingest.alerts import Alerts
from chalicelib.ingest.buffering import Buffer
from chalicelib.ingest.idempotency import Idempotency
from chalicelib.ingest.measurement_queue import MeasurementQueue
from chalicelib.ingest.posting import Ingest
from chalicelib.ingest.provisioning import Provisioning
from chalicelib.ingest.queue_messages import DeadLetters
from chalicelib.ingest.registration import Registration
from chalicelib.ingest.registry import SensorRegistry
from chalicelib.ingest.transactions import Transactions
from chalicelib.ledger import Ledger
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineCount
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from chalicelib.analytics.claimer import Claimer
    from chalicelib.analytics.receiver import Receiver
    from chalicelib.analytics.reporter import Reporter


class Services:
    """The use cases of one process; `on_refused` is told how many sensors a limit or the want of a curve keeps out."""

    def __init__(
        self,
        settings: Settings,
        aws: Aws,
        correlation_id: Callable[[], str | None] = lambda: None,
        on_refused: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._correlation_id = correlation_id
        self._on_refused = on_refused
        self.aws = aws

    @cached_property
    def ingest(self) -> Ingest:
        resources, settings, dynamodb = self.aws.resources, self._settings, self.aws.dynamodb
        return Ingest(
            thermistors=self._thermistors,
            status_limits=settings.status_below_celsius,
            oldest_age=timedelta(hours=settings.ingest.accepted_age_hours),
            idempotency=Idempotency(settings.idempotency, resources.idempotency_table, dynamodb),
            registry=self._registry,
            queue=MeasurementQueue(
                resources.queue_url, self.aws.sqs, time.time, secrets.randbits, self._correlation_id
            ),
            alerts=Alerts(
                settings.alerts, resources.topic_arn, resources.idempotency_table, self.aws.sns, dynamodb, time.time
            ),
            clock=_utc_now,
            on_refused=self._on_refused,
        )

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(SigningKeys(signing_keys_parameter(self.aws.stage), self.aws.ssm, time.monotonic))

    @cached_property
    def buffer(self) -> Buffer:
        return Buffer(
            # The consumer has seconds, and the queue tries again.
            self._store_online,
            self._quarantine_count,
            DeadLetters(self.aws.resources.dead_letter_queue_url, self.aws.sqs),
            clock=_utc_now,
        )

    @cached_property
    def claimer(self) -> "Claimer":
        # DuckDB is for the processes that compute; no other pays for its import.
        from chalicelib.analytics.claimer import Claimer  # noqa: PLC0415

        return Claimer(self._settings, self._store, self._ledger(self._store), self._quarantine_count, uuid4)

    @cached_property
    def receiver(self) -> "Receiver":
        from chalicelib.analytics.receiver import Receiver  # noqa: PLC0415

        return Receiver(self._settings, self._store, self._ledger(self._store), uuid4)

    @cached_property
    def reporter(self) -> "Reporter":
        from chalicelib.analytics.reporter import Reporter  # noqa: PLC0415

        return Reporter(self._settings.analytics.duckdb_memory_limit_mb, self._store, uuid4)

    @cached_property
    def summarizer(self) -> Summarizer:
        return Summarizer(
            self._settings,
            self._store,
            self._ledger(self._store),
            uuid4,
        )

    @cached_property
    def provisioning(self) -> Provisioning:
        return Provisioning(self._thermistors, self._registry)

    @cached_property
    def report_reader(self) -> ReportReader:
        return ReportReader(self._ledger(self._store_online), self._store_online)

    @cached_property
    def _registry(self) -> SensorRegistry:
        resources, transactions = self.aws.resources, Transactions(self.aws.dynamodb)
        registration = Registration(
            resources.registry_table, resources.ledger_table, self._settings.limits, transactions, self._on_refused
        )
        return SensorRegistry(
            resources.registry_table, registration, self._broken_count, transactions, self.aws.dynamodb
        )

    @cached_property
    def _thermistors(self) -> Thermistors:
        return Thermistors(self._settings.thermistors)

    @cached_property
    def _broken_count(self) -> BrokenCount:
        return BrokenCount(self.aws.resources.ledger_table)

    @cached_property
    def _quarantine_count(self) -> QuarantineCount:
        return QuarantineCount(self.aws.resources.ledger_table, self.aws.dynamodb)

    @cached_property
    def _store(self) -> ObjectStore:
        return ObjectStore(self.aws.resources.bucket, self.aws.s3)

    @cached_property
    def _store_online(self) -> ObjectStore:
        return ObjectStore(self.aws.resources.bucket, self.aws.s3_online)

    def _ledger(self, store: ObjectStore) -> Ledger:
        return Ledger(self.aws.resources.ledger_table, self.aws.dynamodb, store)


def _utc_now() -> datetime:
    return datetime.now(UTC)

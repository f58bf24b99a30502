"""The application's metrics, for the dashboard and the alarms in infra/."""

from aws_lambda_powertools import metrics


class Metrics:
    """Emits numbers as metrics of the stage, in lines of the log that CloudWatch takes them from."""

    def __init__(self, service: str, stage: str) -> None:
        self._metrics = metrics.Metrics(namespace="Thermonet", service=service)
        self._metrics.set_default_dimensions(stage=stage)

    def count(self, **numbers: int) -> None:
        """Add the numbers, named as the metrics are, to what was counted before."""
        for name, number in numbers.items():
            self._metrics.add_metric(name, metrics.MetricUnit.Count, number)
        self._metrics.flush_metrics()

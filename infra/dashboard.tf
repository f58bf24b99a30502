locals {
  # Each line of a chart: namespace, metric, and the dimensions by turns of name and value.
  own_metric = {
    for name in [
      "AcceptedReadings", "BrokenReadings", "RejectedReadings", "RefusedSensors", "LandedMeasurements", "QuarantinedMessages",
      "RunMeasurements", "RunDuplicates", "RunConflicts", "RunLate", "RunQuarantined", "RunInvalid", "ArchiveBehindMinutes",
    ] : name => [local.metrics_namespace, name, "service", "thermonet", "stage", local.stage]
  }

  queue_names     = [aws_sqs_queue.measurements.name, aws_sqs_queue.dead_letters.name]
  workflow_metric = ["StateMachineArn", aws_sfn_state_machine.analytics.arn]

  charts = [
    {
      title   = "Readings"
      metrics = [for name in ["AcceptedReadings", "BrokenReadings", "RejectedReadings"] : local.own_metric[name]]
    },
    {
      title = "Measurements of runs"
      metrics = [
        for name in ["RunMeasurements", "RunDuplicates", "RunConflicts", "RunLate", "RunQuarantined", "RunInvalid"] :
        local.own_metric[name]
      ]
    },
    {
      title   = "Landed and quarantined"
      metrics = [for name in ["LandedMeasurements", "QuarantinedMessages"] : local.own_metric[name]]
    },
    {
      title   = "Archive behind (min)"
      stat    = "Maximum"
      metrics = [local.own_metric["ArchiveBehindMinutes"]]
    },
    {
      title   = "Messages waiting"
      stat    = "Maximum"
      metrics = [for name in local.queue_names : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", name]]
    },
    {
      title   = "Age of the oldest message (s)"
      stat    = "Maximum"
      metrics = [["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", aws_sqs_queue.measurements.name]]
    },
    {
      title = "Runs"
      metrics = [
        for name in ["ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"] :
        concat(["AWS/States", name], local.workflow_metric)
      ]
    },
    {
      title   = "Time of a run (ms)"
      stat    = "p95"
      metrics = [concat(["AWS/States", "ExecutionTime"], local.workflow_metric)]
    },
    {
      title   = "API"
      metrics = [for name in ["Count", "4XXError", "5XXError"] : ["AWS/ApiGateway", name, "ApiName", "thermonet", "Stage", local.stage]]
    },
    {
      title   = "Time of a request (ms)"
      stat    = "p95"
      metrics = [["AWS/ApiGateway", "Latency", "ApiName", "thermonet", "Stage", local.stage]]
    },
    {
      title = "Errors of functions"
      metrics = [
        for name in values(local.alarmed_functions) : ["AWS/Lambda", "Errors", "FunctionName", name]
      ]
    },
    {
      title = "Throttles of functions"
      metrics = [
        for name in values(local.alarmed_functions) : ["AWS/Lambda", "Throttles", "FunctionName", name]
      ]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "stage" {
  dashboard_name = local.prefix

  dashboard_body = jsonencode({
    widgets = [
      for index, chart in local.charts : {
        type   = "metric"
        x      = 8 * (index % 3)
        y      = 6 * floor(index / 3)
        width  = 8
        height = 6
        properties = {
          title   = chart.title
          region  = var.aws_region
          view    = "timeSeries"
          stat    = try(chart.stat, "Sum")
          period  = 300
          metrics = chart.metrics
        }
      }
    ]
  })
}

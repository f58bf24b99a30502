locals {
  metrics_namespace  = "Thermonet"
  metrics_dimensions = { service = "thermonet", stage = local.stage }

  # Twice the longest interval is a day, which is as far back as an alarm sees.
  run_interval_seconds = local.settings.message_retention_seconds

  # The next run hands over what a run has decided; then it may be tried for three intervals of the archive.
  archive_behind_minutes = 3 * local.settings.archive.interval_minutes + 2 * ceil(local.run_interval_seconds / 60)

  alarmed_functions = merge(local.functions, { dead_letter_triage = module.dead_letter_triage.name })

  function_alarms = {
    for pair in setproduct(keys(local.alarmed_functions), ["Errors", "Throttles"]) :
    "${pair[0]}-${lower(pair[1])}" => { function = pair[0], metric = pair[1] }
  }
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${local.prefix}-dead-letters"
  alarm_description   = "Messages were given up. Ask the dead_letter_triage function what they are."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "oldest_message" {
  alarm_name          = "${local.prefix}-oldest-message"
  alarm_description   = "The queue is not being emptied: a message has been through more than one try."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.measurements.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  # After one visibility timeout a message that failed is tried again; after the second it has failed twice.
  threshold          = 2 * local.settings.message_retention_seconds
  treat_missing_data = "notBreaching"
  alarm_actions      = [aws_sns_topic.alerts.arn]
  ok_actions         = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "workflow_failed" {
  for_each = {
    failed    = "ExecutionsFailed"
    timed-out = "ExecutionsTimedOut"
    aborted   = "ExecutionsAborted"
  }

  alarm_name          = "${local.prefix}-workflow-${each.key}"
  alarm_description   = "An analytics run ended without success. Nothing was published or consumed by it."
  namespace           = "AWS/States"
  metric_name         = each.value
  dimensions          = { StateMachineArn = aws_sfn_state_machine.analytics.arn }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "workflow_silent" {
  alarm_name          = "${local.prefix}-workflow-silent"
  alarm_description   = "No analytics run has succeeded for two intervals."
  namespace           = "AWS/States"
  metric_name         = "ExecutionsSucceeded"
  dimensions          = { StateMachineArn = aws_sfn_state_machine.analytics.arn }
  statistic           = "Sum"
  period              = local.run_interval_seconds
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each = local.function_alarms

  alarm_name          = "${local.prefix}-${each.key}"
  alarm_description   = "${each.value.metric} of the function ${each.value.function}."
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = local.alarmed_functions[each.value.function] }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "api_failed" {
  alarm_name          = "${local.prefix}-api-5xx"
  alarm_description   = "The API answered readings with 5xx: a service behind it failed, or the function did."
  namespace           = "AWS/ApiGateway"
  metric_name         = "5XXError"
  dimensions          = { ApiName = "thermonet", Stage = local.stage }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "quarantined" {
  alarm_name          = "${local.prefix}-quarantined"
  alarm_description   = "Messages that nobody can read are in the bucket under quarantine/, with the reason."
  namespace           = local.metrics_namespace
  metric_name         = "QuarantinedMessages"
  dimensions          = local.metrics_dimensions
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "refused_sensors" {
  alarm_name          = "${local.prefix}-refused-sensors"
  alarm_description   = "Sensors are refused: a limit of the settings (limits) is reached, or one has a type that they (thermistors) lack."
  namespace           = local.metrics_namespace
  metric_name         = "RefusedSensors"
  dimensions          = local.metrics_dimensions
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "archive_behind" {
  alarm_name          = "${local.prefix}-archive-behind"
  alarm_description   = "Measurements that are counted do not get into the archive. None is lost: runs keep them until they are there."
  namespace           = local.metrics_namespace
  metric_name         = "ArchiveBehindMinutes"
  dimensions          = local.metrics_dimensions
  statistic           = "Maximum"
  period              = local.run_interval_seconds
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = local.archive_behind_minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "quarantined_measurements" {
  alarm_name          = "${local.prefix}-quarantined-measurements"
  alarm_description   = "A run set damaged landing objects aside: accepted measurements in them are in no report."
  namespace           = local.metrics_namespace
  metric_name         = "RunQuarantined"
  dimensions          = local.metrics_dimensions
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

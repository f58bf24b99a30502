locals {
  workflow_name = "${local.prefix}-analytics"
  workflow_arn  = "arn:${local.partition}:states:${var.aws_region}:${local.account_id}:stateMachine:${local.workflow_name}"

  workflow_definition = templatefile("${path.module}/../stepfunctions/analytics.asl.json", {
    claimer_arn     = local.function_arns.claimer
    receiver_arn    = local.function_arns.receiver
    reporter_arn    = local.function_arns.reporter
    summarizer_arn  = local.function_arns.summarizer
    topic_arn       = aws_sns_topic.alerts.arn
    ledger_table    = aws_dynamodb_table.analytics_runs.name
    bucket          = aws_s3_bucket.data.id
    max_concurrency = local.settings.analytics.max_concurrency
  })
}

resource "aws_sfn_state_machine" "analytics" {
  name     = local.workflow_name
  role_arn = aws_iam_role.workflow.arn

  # A placeholder is text in the file, so that it is JSON; the number loses its quotes here.
  definition = replace(local.workflow_definition, "/(\"MaxConcurrency\": )\"([0-9]+)\"/", "$1$2")

  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.workflow.arn}:*"
    level                  = "ERROR"
    include_execution_data = true
  }

  # Step Functions tries the role's right to log when it takes the definition.
  depends_on = [aws_iam_role_policy.workflow]
}

resource "aws_iam_role" "workflow" {
  name               = local.workflow_name
  assume_role_policy = data.aws_iam_policy_document.workflow_trust.json
}

data "aws_iam_policy_document" "workflow_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_iam_role_policy" "workflow" {
  name   = "analytics"
  role   = aws_iam_role.workflow.name
  policy = data.aws_iam_policy_document.workflow.json
}

data "aws_iam_policy_document" "workflow" {
  statement {
    sid       = "CallTheFunctions"
    actions   = ["lambda:InvokeFunction"]
    resources = [for function in ["claimer", "receiver", "reporter", "summarizer"] : local.function_arns[function]]
  }

  statement {
    sid       = "ReadTheLocationsOfARun"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.data.arn}/scratch/*/locations.json"]
  }

  # The distributed map runs as child executions of the same workflow.
  statement {
    sid       = "StartTheMap"
    actions   = ["states:StartExecution"]
    resources = [local.workflow_arn]
  }

  statement {
    sid       = "FollowTheMap"
    actions   = ["states:DescribeExecution", "states:StopExecution"]
    resources = [for separator in [":", "/"] : "${replace(local.workflow_arn, ":stateMachine:", ":execution:")}${separator}*"]
  }

  statement {
    sid       = "CommitAndSeeWhoDid"
    actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.analytics_runs.arn]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:LeadingKeys"
      values   = ["head"]
    }
  }

  statement {
    sid       = "TellOfFailures"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]
  }

  # AWS has no resource to name for the delivery of a workflow's log.
  statement {
    sid = "Log"
    actions = [
      "logs:CreateLogDelivery",
      "logs:GetLogDelivery",
      "logs:UpdateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:DescribeResourcePolicies",
      "logs:DescribeLogGroups",
    ]
    resources = ["*"]
  }
}

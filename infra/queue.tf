locals {
  # The longest that SQS keeps a message, so that nothing expires unread.
  queue_retention_seconds = 14 * 24 * 3600
}

resource "aws_sqs_queue" "measurements" {
  name                       = "${local.prefix}-measurements"
  visibility_timeout_seconds = local.settings.message_retention_seconds
  message_retention_seconds  = local.queue_retention_seconds
  sqs_managed_sse_enabled    = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${local.prefix}-measurements-dlq"
  message_retention_seconds = local.queue_retention_seconds
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.measurements.arn]
  })
}

data "aws_iam_policy_document" "queue_access" {
  for_each = {
    measurements = aws_sqs_queue.measurements.arn
    dead_letters = aws_sqs_queue.dead_letters.arn
  }

  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [each.value]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "measurements" {
  queue_url = aws_sqs_queue.measurements.url
  policy    = data.aws_iam_policy_document.queue_access["measurements"].json
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy    = data.aws_iam_policy_document.queue_access["dead_letters"].json
}

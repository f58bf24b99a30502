module "dead_letter_triage" {
  source = "./modules/lambda"

  name               = "${local.prefix}-dead_letter_triage"
  description        = "Moves dead letters back to the queue or to quarantine on demand, and reports on them."
  zip_path           = "${path.module}/dead_letter_triage.zip"
  handler            = "dead_letter_triage.handle"
  timeout_seconds    = 300
  log_retention_days = local.log_retention_days
  # Two at once would only take each other's messages.
  reserved_concurrency = 1

  environment = {
    DEAD_LETTER_QUEUE_URL = aws_sqs_queue.dead_letters.url
    QUEUE_URL             = aws_sqs_queue.measurements.url
    BUCKET                = aws_s3_bucket.data.id
    LEDGER_TABLE          = aws_dynamodb_table.analytics_runs.name
  }

  policy_statements = [
    {
      sid = "TakeDeadLetters"
      actions = [
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes",
      ]
      resources = [aws_sqs_queue.dead_letters.arn]
    },
    {
      sid       = "SendBack"
      actions   = ["sqs:SendMessage"]
      resources = [aws_sqs_queue.measurements.arn]
    },
    {
      sid       = "SetAside"
      actions   = ["s3:PutObject"]
      resources = ["${aws_s3_bucket.data.arn}/quarantine/*"]
    },
    {
      sid          = "Count"
      actions      = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
      resources    = [aws_dynamodb_table.analytics_runs.arn]
      leading_keys = ["quarantine/*", "quarantined"]
    },
  ]
}

locals {
  # What the application expects to be told.
  resources = {
    registry_table        = aws_dynamodb_table.sensor_registry.name
    idempotency_table     = aws_dynamodb_table.idempotency.name
    ledger_table          = aws_dynamodb_table.analytics_runs.name
    bucket                = aws_s3_bucket.data.id
    queue_url             = aws_sqs_queue.measurements.url
    dead_letter_queue_url = aws_sqs_queue.dead_letters.url
    topic_arn             = aws_sns_topic.alerts.arn
    state_machine_arn     = aws_sfn_state_machine.analytics.arn
  }
}

# The application reads this once per process.
resource "aws_ssm_parameter" "resources" {
  name        = "/thermonet/${local.stage}/resources"
  description = "What the application has been given in this stage."
  type        = "String"
  value       = jsonencode(local.resources)
}

# Keys that sign and check bearer tokens, by key id. The value is made here, written, and kept in no state:
# uuid() is 122 random bits, and the version alone decides when a new one is written.
resource "aws_ssm_parameter" "signing_keys" {
  name        = "/thermonet/${local.stage}/signing-keys"
  description = "JSON object: key id to secret of the bearer tokens."
  type        = "SecureString"

  value_wo_version = local.settings.signing_key_version
  value_wo = jsonencode({
    "${local.settings.signing_key_version}" = base64sha512("${uuid()}${uuid()}")
  })
}

resource "aws_dynamodb_table" "sensor_registry" {
  name                        = "${local.prefix}-sensor-registry"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "sensor_id"
  deletion_protection_enabled = local.protected

  attribute {
    name = "sensor_id"
    type = "S"
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }

  # Destroyed first: where a table is protected, the queue and the bucket stay too.
  depends_on = [aws_sqs_queue.measurements, aws_sqs_queue.dead_letters, aws_s3_bucket.data]
}

resource "aws_dynamodb_table" "idempotency" {
  name                        = "${local.prefix}-idempotency"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = local.protected

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    enabled        = true
    attribute_name = "expiration"
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }

  depends_on = [aws_sqs_queue.measurements, aws_sqs_queue.dead_letters, aws_s3_bucket.data]
}

resource "aws_dynamodb_table" "analytics_runs" {
  name                        = "${local.prefix}-analytics-runs"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = local.protected

  attribute {
    name = "id"
    type = "S"
  }

  # Markers of what was counted in quarantine have it; the head and the counters have not, and stay.
  ttl {
    enabled        = true
    attribute_name = "expires_at"
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }

  depends_on = [aws_sqs_queue.measurements, aws_sqs_queue.dead_letters, aws_s3_bucket.data]
}

resource "aws_s3_bucket" "data" {
  bucket        = "${local.prefix}-data-${local.account_id}"
  force_destroy = !local.protected
}

resource "aws_s3_bucket_ownership_controls" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "data" {
  bucket                  = aws_s3_bucket.data.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "data" {
  bucket = aws_s3_bucket.data.id

  versioning_configuration {
    status = "Enabled"
  }
}

data "aws_iam_policy_document" "data_access" {
  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.data.arn, "${aws_s3_bucket.data.arn}/*"]

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

resource "aws_s3_bucket_policy" "data" {
  bucket = aws_s3_bucket.data.id
  policy = data.aws_iam_policy_document.data_access.json

  # S3 refuses two changes of a bucket's access at once.
  depends_on = [aws_s3_bucket_public_access_block.data]
}

# runs/, reports/ and state/ never expire by age: the manifest, the reports and the sums behind the last committed
# run are as old as the last measurement. The receiver deletes what a newer run has superseded.
resource "aws_s3_bucket_lifecycle_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    id     = "scratch-of-runs"
    status = "Enabled"

    filter {
      prefix = "scratch/"
    }

    # A run lasts an hour at most; the rest of the week is for looking into one that failed.
    expiration {
      days = 7
    }
  }

  rule {
    id     = "landing-leftovers"
    status = "Enabled"

    filter {
      prefix = "landing/"
    }

    # Longer than SQS itself would have kept the messages. Runs delete what they have counted, so what gets
    # this old has had the alarm of failing runs ringing for a month.
    expiration {
      days = 30
    }
  }

  rule {
    id     = "quarantine"
    status = "Enabled"

    filter {
      prefix = "quarantine/"
    }

    expiration {
      days = 90
    }
  }

  rule {
    id     = "deleted-and-replaced"
    status = "Enabled"

    filter {}

    # As long as a mistake may take to be found. The ledger can be restored to any second of this time.
    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.data]
}

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

# landing/, runs/ and archive/ never expire by age: what was accepted waits in landing/ however long no run succeeds,
# the committed run may be as old as the last measurement, and the archive is what later runs recognise duplicates by.
# The next run's claim removes what is no longer needed.
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
    id     = "static-runs"
    status = "Enabled"

    filter {
      prefix = "static/"
    }

    # Reports over a file of somebody's own, which can be run over again.
    expiration {
      days = 7
    }
  }

  rule {
    id     = "quarantine"
    status = "Enabled"

    filter {
      prefix = "quarantine/"
    }

    # Time for people to bring back what is good; how many were set aside is counted in the ledger's table.
    expiration {
      days = 90
    }
  }

  rule {
    id     = "deleted-and-replaced"
    status = "Enabled"

    filter {}

    # As long as a mistake may take to be found. The ledger can be restored to any second of this time. Of the
    # archive, whose files are written once, only a mistake makes one.
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

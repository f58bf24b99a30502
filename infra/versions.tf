terraform {
  # 1.10 brought the state lock in S3 itself, 1.11 arguments that are written and never stored.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # Bucket, key and region come with `terraform init -backend-config=...` or from terragrunt.hcl.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.aws_region

  default_tags {
    tags = {
      project    = "thermonet"
      stage      = local.stage
      managed_by = "terraform"
    }
  }
}

# The same configuration by Terragrunt, one state per stage in one bucket:
#   CONFIG_PATH=../chalicelib/config/dev.yaml AWS_REGION=eu-central-1 terragrunt apply
# CONFIG_PATH counts from this folder. STATE_BUCKET names the bucket, if it is not the default below.
# Once Chalice has deployed the API, TF_VAR_api_id must tell its id, or the API's limits are taken away.

locals {
  config_path = get_env("CONFIG_PATH")
  aws_region  = get_env("AWS_REGION")
  stage       = trimsuffix(basename(local.config_path), ".yaml")
}

remote_state {
  backend = "s3"

  config = {
    bucket       = get_env("STATE_BUCKET", "thermonet-terraform-state-${get_aws_account_id()}")
    key          = "thermonet/${local.stage}/terraform.tfstate"
    region       = local.aws_region
    encrypt      = true
    use_lockfile = true
  }
}

terraform {
  # One folder serves every stage, so what it remembers of the last one must not count.
  extra_arguments "state_of_this_stage" {
    commands  = ["init"]
    arguments = ["-reconfigure"]
  }
}

inputs = {
  config_path = local.config_path
  aws_region  = local.aws_region
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  settings = yamldecode(file(var.config_path))
  stage    = trimsuffix(basename(var.config_path), ".yaml")
  prefix   = "thermonet-${local.stage}"

  # Only dev may be thrown away.
  protected = local.stage != "dev"

  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id

  # What Chalice deploys later has the names that it will have, so that nobody copies an ARN by hand.
  functions = {
    api                 = local.prefix
    authorize           = "${local.prefix}-authorize"
    buffer_measurements = "${local.prefix}-buffer_measurements"
    start_analytics     = "${local.prefix}-start_analytics"
    claimer             = "${local.prefix}-claimer"
    receiver            = "${local.prefix}-receiver"
    reporter            = "${local.prefix}-reporter"
    summarizer          = "${local.prefix}-summarizer"
  }
  function_arns = {
    for function, name in local.functions :
    function => "arn:${local.partition}:lambda:${var.aws_region}:${local.account_id}:function:${name}"
  }

  log_retention_days = 30
}

# This prefix spares a resource policy that is limited in length for each workflow.
resource "aws_cloudwatch_log_group" "workflow" {
  name              = "/aws/vendedlogs/states/${local.workflow_name}"
  retention_in_days = local.log_retention_days
}

# Chalice sets the retention of every function's log but the API handler's, whose log group it gets a wrong name for.
resource "aws_cloudwatch_log_group" "api" {
  name              = "/aws/lambda/${local.functions.api}"
  retention_in_days = local.log_retention_days
}

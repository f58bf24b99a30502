# Chalice deploys the API and cannot limit it. Beyond the limits API Gateway answers 429, which costs nothing.
resource "aws_api_gateway_method_settings" "throttling" {
  count = var.api_id == null ? 0 : 1

  rest_api_id = var.api_id
  stage_name  = local.stage
  method_path = "*/*"

  settings {
    throttling_rate_limit  = local.settings.api.requests_per_second
    throttling_burst_limit = local.settings.api.burst_requests
  }
}

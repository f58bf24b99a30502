output "stage" {
  description = "The stage, for `chalice deploy --stage`."
  value       = local.stage
}

output "resources" {
  description = "What the application is told in the SSM parameter."
  value       = local.resources
}

variable "config_path" {
  description = "Settings of the stage, the YAML file that the application reads. Its name without .yaml is the stage."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,15}\\.yaml$", basename(var.config_path)))
    error_message = "config_path must name a file <stage>.yaml, the stage in lower case, such as ../chalicelib/config/dev.yaml."
  }
}

variable "aws_region" {
  description = "Region of everything."
  type        = string
}

variable "api_id" {
  description = "Id of the API that Chalice has deployed, as in .chalice/deployed/<stage>.json; null before the first time."
  type        = string
  default     = null
}

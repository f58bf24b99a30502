variable "name" {
  description = "Name of the function, of its role, and the end of its log group's name."
  type        = string
}

variable "description" {
  description = "What the function is for, in one sentence."
  type        = string
}

variable "zip_path" {
  description = "The ZIP file with the code. The function is updated when its content changes."
  type        = string
}

variable "handler" {
  description = "The function to call, as module.function."
  type        = string
}

variable "runtime" {
  description = "Python runtime of Lambda."
  type        = string
  default     = "python3.13"

  validation {
    condition     = can(regex("^python3\\.[0-9]+$", var.runtime))
    error_message = "runtime must be one of Python, such as python3.13."
  }
}

variable "memory_mb" {
  description = "Memory; the share of a processor grows with it, to a whole one at 1769."
  type        = number
  default     = 256
}

variable "timeout_seconds" {
  description = "How long a call may take."
  type        = number
  default     = 30

  validation {
    condition     = var.timeout_seconds >= 1 && var.timeout_seconds <= 900
    error_message = "timeout_seconds must be 1 to 900."
  }
}

variable "environment" {
  description = "Environment variables. Secrets do not belong here."
  type        = map(string)
  default     = {}
}

variable "reserved_concurrency" {
  description = "How many calls may run at once, taken from the account's quota; -1 for no limit and no share."
  type        = number
  default     = -1
}

variable "log_retention_days" {
  description = "How long the function's log is kept."
  type        = number
  default     = 30
}

variable "policy_statements" {
  description = "What the function may do besides writing its own log."
  type = list(object({
    sid          = string
    actions      = list(string)
    resources    = list(string)
    leading_keys = optional(list(string), [])
  }))
  default = []
}

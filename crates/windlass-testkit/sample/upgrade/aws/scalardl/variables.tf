variable "region" {
  type = string
}

variable "node_count" {
  description = "Ledger servers in the region."
  type        = number
  default     = 3
}

variable "release" {
  type    = string
  default = "3.11.0"
}

variable "settle_seconds" {
  description = "How long a rolling restart takes."
  type        = number
  default     = 8
}

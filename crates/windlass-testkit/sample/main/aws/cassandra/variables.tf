variable "region" {
  type = string
}

variable "node_count" {
  description = "Nodes in the region's ring."
  type        = number
  default     = 3
}

variable "release" {
  type    = string
  default = "4.1.7"
}

variable "settle_seconds" {
  type    = number
  default = 0
}

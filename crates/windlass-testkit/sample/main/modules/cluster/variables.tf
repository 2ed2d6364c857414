variable "name" {
  type = string
}

variable "node_count" {
  type = number
}

variable "release" {
  description = "Software release the nodes run."
  type        = string
}

variable "seeds" {
  description = "Addresses a node asks for its peers; empty for the first cluster."
  type        = list(string)
  default     = []
}

variable "subnets" {
  description = "Subnet ids by zone."
  type        = map(string)
}

variable "settle_seconds" {
  description = "How long a roll-out of a release takes."
  type        = number
  default     = 0
}

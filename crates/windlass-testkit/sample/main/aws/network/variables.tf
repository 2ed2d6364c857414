variable "region" {
  type = string
}

variable "cidr" {
  description = "Address range of the region."
  type        = string
}

variable "zones" {
  description = "Availability zones that get a subnet."
  type        = list(string)
  default     = ["a", "b", "c"]
}

variable "public" {
  description = "Whether the network is reached from the internet."
  type        = bool
  default     = false
}

terraform {
  required_version = ">= 1.4"

  backend "local" {}
}

variable "domain" {
  description = "Zone that all regions share."
  type        = string
  default     = "sample.example.com"
}

resource "terraform_data" "zone" {
  input = {
    name   = var.domain
    public = false
    ttl    = 300
  }
}

output "zone" {
  description = "Name of the zone."
  value       = terraform_data.zone.output.name
}

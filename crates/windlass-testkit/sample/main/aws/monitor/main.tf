terraform {
  required_version = ">= 1.4"

  backend "local" {}
}

locals {
  cassandra = flatten(data.terraform_remote_state.cassandra[*].outputs.seeds)
  scalardl  = flatten(data.terraform_remote_state.scalardl[*].outputs.endpoints)
}

resource "terraform_data" "scrape" {
  for_each = toset(var.targets)

  input = {
    job     = each.key
    hosts   = each.key == "cassandra" ? local.cassandra : local.scalardl
    labels  = templatefile("${path.module}/labels.tftpl", { region = var.region, job = each.key })
    gateway = data.terraform_remote_state.network.outputs.name
    public  = false
  }
}

output "jobs" {
  value = keys(terraform_data.scrape)
}

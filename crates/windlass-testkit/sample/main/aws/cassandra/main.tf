terraform {
  required_version = ">= 1.4"

  backend "local" {}
}

locals {
  network = data.terraform_remote_state.network.outputs
}

module "cluster" {
  source = "../../modules/cluster"

  name           = "cassandra.${local.network.name}"
  node_count     = var.node_count
  release        = var.release
  subnets        = local.network.subnets
  settle_seconds = var.settle_seconds
}

terraform {
  required_version = ">= 1.4"

  backend "local" {}
}

module "subnets" {
  source = "../../modules/subnets"

  cidr  = var.cidr
  zones = var.zones
}

resource "terraform_data" "network" {
  input = {
    name   = "${var.region}.${data.terraform_remote_state.dns.outputs.zone}"
    cidr   = var.cidr
    public = var.public
  }
}

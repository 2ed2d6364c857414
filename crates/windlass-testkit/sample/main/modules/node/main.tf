variable "cluster" {
  type = string
}

variable "index" {
  type = number
}

variable "release" {
  type = string
}

variable "seeds" {
  type = list(string)
}

variable "subnet" {
  type = string
}

locals {
  address = format("%s-%02d.internal", var.cluster, var.index + 1)
}

resource "terraform_data" "node" {
  input = {
    cluster = var.cluster
    address = local.address
    subnet  = var.subnet
    public  = false
    config = templatefile("${path.module}/templates/node.conf.tftpl", {
      address = local.address
      release = var.release
      seeds   = var.seeds
    })
  }
}

output "address" {
  value = terraform_data.node.output.address
}

# A cluster of equal nodes: each node by its own module, and one marker that rolls the release out over them.
module "node" {
  source = "../node"
  count  = var.node_count

  cluster = var.name
  index   = count.index
  release = var.release
  seeds   = var.seeds
  subnet  = values(var.subnets)[count.index % length(var.subnets)]
}

resource "terraform_data" "release" {
  input            = templatefile("${path.module}/templates/release.tftpl", { name = var.name, release = var.release })
  triggers_replace = [var.release]

  # Stands for the time a rolling restart takes.
  provisioner "local-exec" {
    command = "sleep ${var.settle_seconds}"
  }

  depends_on = [module.node]
}

data "terraform_remote_state" "network" {
  backend   = "local"
  workspace = terraform.workspace

  config = {
    path          = "../network/terraform.tfstate"
    workspace_dir = "../network/terraform.tfstate.d"
  }
}

# What is not watched is not read: these edges exist only where the region asks for them.
data "terraform_remote_state" "cassandra" {
  count     = contains(var.targets, "cassandra") ? 1 : 0
  backend   = "local"
  workspace = terraform.workspace

  config = {
    path          = "../cassandra/terraform.tfstate"
    workspace_dir = "../cassandra/terraform.tfstate.d"
  }
}

data "terraform_remote_state" "scalardl" {
  count     = contains(var.targets, "scalardl") ? 1 : 0
  backend   = "local"
  workspace = terraform.workspace

  config = {
    path          = "../scalardl/terraform.tfstate"
    workspace_dir = "../scalardl/terraform.tfstate.d"
  }
}

data "terraform_remote_state" "network" {
  backend   = "local"
  workspace = terraform.workspace

  config = {
    path          = "../network/terraform.tfstate"
    workspace_dir = "../network/terraform.tfstate.d"
  }
}

data "terraform_remote_state" "cassandra" {
  backend   = "local"
  workspace = terraform.workspace

  config = {
    path          = "../cassandra/terraform.tfstate"
    workspace_dir = "../cassandra/terraform.tfstate.d"
  }
}

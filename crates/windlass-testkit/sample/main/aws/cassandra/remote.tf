data "terraform_remote_state" "network" {
  backend   = "local"
  workspace = terraform.workspace

  config = {
    path          = "../network/terraform.tfstate"
    workspace_dir = "../network/terraform.tfstate.d"
  }
}

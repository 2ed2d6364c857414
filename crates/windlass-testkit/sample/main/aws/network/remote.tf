# One zone for all regions: always the default workspace.
data "terraform_remote_state" "dns" {
  backend = "local"

  config = {
    path = "../../global/dns/terraform.tfstate"
  }
}

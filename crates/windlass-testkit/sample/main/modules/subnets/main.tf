variable "cidr" {
  type = string
}

variable "zones" {
  type = list(string)
}

resource "terraform_data" "subnet" {
  for_each = toset(var.zones)

  input = {
    zone   = each.key
    cidr   = cidrsubnet(var.cidr, 8, index(var.zones, each.key))
    public = false
  }
}

output "ids" {
  value = { for zone, subnet in terraform_data.subnet : zone => subnet.id }
}

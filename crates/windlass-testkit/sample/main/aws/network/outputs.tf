output "name" {
  value = terraform_data.network.output.name
}

output "subnets" {
  value = module.subnets.ids
}

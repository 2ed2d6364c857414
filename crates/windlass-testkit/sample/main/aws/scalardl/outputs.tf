output "endpoints" {
  value = module.cluster.addresses
}

output "seeds" {
  description = "Addresses that clients start from."
  value       = module.cluster.addresses
}

output "port" {
  value = 9042
}

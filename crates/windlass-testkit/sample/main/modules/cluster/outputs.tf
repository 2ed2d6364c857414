output "addresses" {
  value = module.node[*].address
}

output "size" {
  value = length(module.node)
}

variable "region" {
  type = string
}

variable "targets" {
  description = "What to watch: `cassandra`, `scalardl`."
  type        = list(string)
}

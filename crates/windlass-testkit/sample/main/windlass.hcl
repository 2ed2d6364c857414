# Stacks, their order and what they read are discovered. This file only says what discovery cannot know.

locals {
  regions = ["tokyo", "osaka"]
}

project "sample" {
  environment "production" {
    match = ["global/**", "aws/**[tokyo]"]
    approvals {
      count              = 1
      from               = [team.sre]
      author_may_approve = false
      unverified         = true
    }
  }

  environment "standby" {
    match = ["aws/**[osaka]"]
    approvals {
      count              = 1
      author_may_approve = true
      unverified         = true
    }
  }
}

team "sre" {
  members = ["email:sre@example.com"]
}

team "dev" {
  members = ["email:dev@example.com"]
}

stack "aws/network" {
  owner   = team.sre
  regions = local.regions
}

stack "aws/cassandra" {
  owner   = team.sre
  regions = local.regions
}

stack "aws/scalardl" {
  owner   = team.dev
  regions = local.regions
}

stack "aws/monitor" {
  owner   = team.sre
  regions = local.regions
}

policy "clusters" {
  paths = ["policy/clusters.rego"]
  match = ["aws/**"]
}

policy "exposure" {
  paths = ["policy/exposure.rego"]
}

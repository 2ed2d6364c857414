operation "switch-shop" {
  description = "Sends the visitors of the shop to its *blue* or its *green* servers, and back again when they do not get the right answer."
  owner       = team.shop
  allow       = [team.shop, team.sre]
  labels      = { area = "shop" }
  timeout     = "15m"

  param "to" {
    type        = choice
    choices     = ["blue", "green"]
    description = "Where visitors go from now on"
  }

  concurrency {
    key = "shop-traffic"
  }

  step "before" {
    description = "Where they go now"
    directory   = "switch"
    run         = ["./active", local.haproxy.socket, local.haproxy.map]
    outputs     = "key_value"
  }

  step "ready" {
    description = "Wait until haproxy finds the servers healthy"
    wait {
      gate {
        command = ["switch/ready", local.haproxy.socket, param.to]
        within  = "10s"
      }
    }
  }

  step "switch" {
    directory = "switch"
    run       = ["./switch", local.haproxy.socket, local.haproxy.map, param.to]
    undo {
      directory = "switch"
      run       = ["./switch", local.haproxy.socket, local.haproxy.map, step.before.outputs.active]
    }
  }

  step "answer" {
    description = "A visitor gets the right answer"
    http {
      url      = local.haproxy.url
      status   = "200"
      contains = param.to
      timeout  = "5s"
    }
    retry {
      attempts = 3
      backoff  = "1s"
    }
  }
}

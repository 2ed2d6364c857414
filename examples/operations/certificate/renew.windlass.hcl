operation "renew-certificate" {
  description = <<-MD
    Renews a certificate that ends soon: new key, new certificate from our authority, service reloaded, and a handshake that shows the
    new one. When that fails the old one is served again.
  MD
  owner = team.sre
  allow = [team.sre]
  grant {
    to   = [team.shop]
    when = param.name == "shop.example.com"
  }
  labels  = { area = "certificates" }
  timeout = "15m"

  param "name" {
    type        = choice
    choices     = local.certificates.names
    description = "Of which host"
  }
  param "days" {
    type        = number
    default     = 30
    min         = 1
    max         = 365
    description = "Renew it when it ends within so many days"
  }

  concurrency {
    key = "certificate-${param.name}"
  }

  schedule "weekly" {
    cron      = "0 9 * * 1"
    timezone  = "Asia/Tokyo"
    arguments = { name = "shop.example.com" }
  }

  step "expiry" {
    directory = "certificate"
    run       = ["./expiry", "${local.certificates.directory}/${param.name}", "${param.days}"]
    outputs   = "key_value"
  }

  step "issue" {
    description = "New key and certificate, beside the old"
    when        = step.expiry.outputs.due == "yes"
    directory   = "certificate"
    run         = ["./issue", local.certificates.authority, "${local.certificates.directory}/${param.name}", run.id]
    outputs     = "key_value"
    undo {
      run = ["rm", "-rf", "${local.certificates.directory}/${param.name}/versions/${run.id}"]
    }
  }

  step "install" {
    description = "Serve it"
    when        = step.expiry.outputs.due == "yes"
    directory   = "certificate"
    run         = ["./install", "${local.certificates.directory}/${param.name}", run.id, "${local.services}/${local.certificates.service}"]
    undo {
      directory = "certificate"
      run       = ["./install", "${local.certificates.directory}/${param.name}", step.expiry.outputs.version, "${local.services}/${local.certificates.service}"]
    }
  }

  step "verify" {
    description = "A handshake shows the new certificate"
    when        = step.expiry.outputs.due == "yes"
    directory   = "certificate"
    run         = ["./verify", local.certificates.address, param.name, "${local.certificates.authority}/ca.pem", "${local.certificates.directory}/${param.name}/live/cert.pem"]
    retry {
      attempts = 5
      backoff  = "1s"
    }
  }
}

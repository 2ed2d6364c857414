# Where things are. Those who run an operation choose among what is here; they cannot name another file or host.

locals {
  backups  = "/var/backups/windlass"
  services = "/etc/service"

  database = {
    host  = "127.0.0.1"
    port  = "5432"
    user  = "postgres"
    names = ["shop"]
  }

  etcd = {
    endpoints = "http://127.0.0.1:2379,http://127.0.0.1:2381,http://127.0.0.1:2383"
    releases  = "/opt/etcd"
  }

  haproxy = {
    socket = "/run/haproxy/admin.sock"
    map    = "/etc/haproxy/active.map"
    url    = "http://127.0.0.1:8080"
  }

  certificates = {
    directory = "/etc/windlass/certificates"
    authority = "/etc/windlass/ca"
    service   = "haproxy"
    names     = ["shop.example.com"]
    address   = "127.0.0.1:8443"
  }

  cleanup = {
    areas = {
      exports = "/srv/exports"
    }
  }
}

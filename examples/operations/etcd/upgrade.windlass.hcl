operation "upgrade-etcd" {
  description = <<-MD
    Brings every member of the etcd cluster to a release: **one member at a time, the leader last**, each only while all others are
    healthy. When one does not come back, those that were upgraded return to the release they had.
  MD
  owner   = team.sre
  allow   = [team.sre]
  labels  = { area = "store" }
  timeout = "1h"

  param "release" {
    type        = string
    pattern     = "[0-9]+\\.[0-9]+\\.[0-9]+"
    description = "A directory of the place where releases are"
  }

  concurrency {
    key         = "etcd"
    on_conflict = "reject"
  }

  step "members" {
    description = "Members, the leader last, and what each runs now"
    directory   = "etcd"
    run         = ["./members", local.services, param.release]
    env = {
      ETCDCTL_API       = "3"
      ETCDCTL_ENDPOINTS = local.etcd.endpoints
      RELEASES          = local.etcd.releases
    }
    outputs = "json"
  }

  step "snapshot" {
    description = "A copy of everything, taken from one member"
    directory   = "etcd"
    run         = ["./snapshot", "${local.backups}/etcd-${run.id}.db"]
    env = {
      ETCDCTL_API       = "3"
      ETCDCTL_ENDPOINTS = local.etcd.endpoints
    }
    outputs = "key_value"
    undo {
      directory = "etcd"
      run       = ["rm", "-f", "${local.backups}/etcd-${run.id}.db", "${local.backups}/etcd-${run.id}.db.part"]
    }
  }

  each "member" {
    in    = step.members.outputs.members
    batch = 1
    gate {
      command = ["etcd/healthy", local.etcd.endpoints]
      within  = "1m"
    }

    step "upgrade" {
      description = "Stop it, change its release, start it, wait until it answers"
      directory   = "etcd"
      run         = ["./upgrade", "${local.services}/${each.value}", param.release]
      env = {
        ETCDCTL_API       = "3"
        ETCDCTL_ENDPOINTS = local.etcd.endpoints
        RELEASES          = local.etcd.releases
      }
      timeout = "5m"
      # A second restart of a member that is there already would be one too many.
      repeat = "checkable"
      probe  = ["./runs", "${local.services}/${each.value}", "${local.etcd.releases}/${param.release}"]
      undo {
        directory = "etcd"
        run       = ["./upgrade", "${local.services}/${each.value}", step.members.outputs.releases[each.value]]
        env = {
          ETCDCTL_API       = "3"
          ETCDCTL_ENDPOINTS = local.etcd.endpoints
          RELEASES          = local.etcd.releases
        }
      }
    }
  }

  step "verify" {
    description = "Every member runs the release, and the cluster takes a write"
    directory   = "etcd"
    run         = ["./verify", local.services, param.release]
    env = {
      ETCDCTL_API       = "3"
      ETCDCTL_ENDPOINTS = local.etcd.endpoints
      RELEASES          = local.etcd.releases
    }
  }

  checklist {
    announcement = "The store is upgraded to ${param.release}. Writes may take a second longer while a leader is chosen."
    rollback     = "Nothing has to be done: a failed upgrade takes itself back. A later one: run `upgrade-etcd` with the old release."
    before "healthy" {
      text = "All members are healthy"
      run  = ["etcd/healthy", local.etcd.endpoints]
    }
    before "told" {
      text = "Those who use the store were told"
    }
    after "dashboard" {
      text = "No alerts for ten minutes"
    }
  }
}

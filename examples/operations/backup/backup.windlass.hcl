operation "backup-database" {
  description = <<-MD
    Dumps a PostgreSQL database and **restores the dump into a scratch database**: number of rows and checksum of every table have to
    be those of the moment of the dump. Only a dump that passed counts as a backup, and only then older ones go.
  MD
  owner   = team.sre
  allow   = [team.sre, team.shop]
  labels  = { area = "database" }
  timeout = "2h"

  param "database" {
    type        = choice
    choices     = local.database.names
    description = "Which one"
  }
  param "keep" {
    type        = number
    default     = 7
    min         = 2
    max         = 365
    description = "How many backups stay, with the new one"
  }

  secret "password" {
    env = "BACKUP_PASSWORD"
  }

  # Two backups of one database would check each other's rotation.
  concurrency {
    key = "backup-${param.database}"
  }

  schedule "nightly" {
    cron      = "0 3 * * *"
    timezone  = "Asia/Tokyo"
    missed    = "latest"
    within    = "6h"
    jitter    = "5m"
    arguments = { database = "shop" }
  }

  step "dump" {
    description = "Dump, with what every table held at that moment"
    directory   = "backup"
    run         = ["./dump", "${local.backups}/${param.database}/${run.id}"]
    env = {
      PGHOST     = local.database.host
      PGPORT     = local.database.port
      PGUSER     = local.database.user
      PGPASSWORD = secret.password
      PGDATABASE = param.database
    }
    outputs = "key_value"
    timeout = "1h"
    retry {
      attempts = 2
      backoff  = "2s"
    }
    undo {
      directory = "backup"
      run       = ["./discard", "${local.backups}/${param.database}/${run.id}"]
    }
  }

  step "restore" {
    description = "Restore it beside the others"
    directory   = "backup"
    run         = ["./restore", "${local.backups}/${param.database}/${run.id}", "restore_check_${run.id}"]
    env = {
      PGHOST     = local.database.host
      PGPORT     = local.database.port
      PGUSER     = local.database.user
      PGPASSWORD = secret.password
    }
    undo {
      directory = "backup"
      run       = ["dropdb", "--if-exists", "--force", "restore_check_${run.id}"]
      env = {
        PGHOST     = local.database.host
        PGPORT     = local.database.port
        PGUSER     = local.database.user
        PGPASSWORD = secret.password
      }
    }
  }

  step "compare" {
    description = "Rows and checksums of every table"
    directory   = "backup"
    run         = ["./compare", "${local.backups}/${param.database}/${run.id}"]
    env = {
      PGHOST     = local.database.host
      PGPORT     = local.database.port
      PGUSER     = local.database.user
      PGPASSWORD = secret.password
      PGDATABASE = "restore_check_${run.id}"
    }
    outputs = "key_value"
  }

  step "drop-scratch" {
    directory = "backup"
    run       = ["dropdb", "--if-exists", "--force", "restore_check_${run.id}"]
    env = {
      PGHOST     = local.database.host
      PGPORT     = local.database.port
      PGUSER     = local.database.user
      PGPASSWORD = secret.password
    }
  }

  step "keep" {
    description = "From here on it is a backup"
    directory   = "backup"
    run         = ["./keep", "${local.backups}/${param.database}/${run.id}"]
    outputs     = "key_value"
  }

  # The new backup is good, whatever becomes of the old ones: a failure here takes nothing back.
  step "rotate" {
    description = "Remove what is older than the newest ones"
    directory   = "backup"
    run         = ["./rotate", "${local.backups}/${param.database}", "${param.keep}"]
    outputs     = "key_value"
    may_fail    = true
  }
}

operation "clean-up" {
  description = <<-MD
    Moves old files of an area into its trash, with a manifest that says where they were, and empties what has been in the trash for
    long. `put-back` takes a move back for as long as it is there.
  MD
  owner   = team.sre
  allow   = [team.sre, team.shop]
  labels  = { area = "files" }
  timeout = "1h"

  param "area" {
    type        = choice
    choices     = keys(local.cleanup.areas)
    description = "Where"
  }
  param "days" {
    type        = number
    default     = 30
    min         = 1
    description = "Files that nobody changed for so many days"
  }
  param "keep" {
    type        = number
    default     = 14
    min         = 1
    description = "Days in the trash"
  }

  concurrency {
    key = "files-${param.area}"
  }

  step "find" {
    description = "What would go"
    directory   = "cleanup"
    run         = ["./find", local.cleanup.areas[param.area], "${param.days}"]
    outputs     = "key_value"
  }

  step "trash" {
    description = "Into the trash"
    when        = step.find.outputs.files != "0"
    directory   = "cleanup"
    run         = ["./trash", local.cleanup.areas[param.area], "${param.days}", run.id]
    outputs     = "key_value"
    undo {
      directory = "cleanup"
      run       = ["./put-back", local.cleanup.areas[param.area], run.id]
    }
  }

  step "purge" {
    description = "Empty what was there for long"
    directory   = "cleanup"
    run         = ["./purge", local.cleanup.areas[param.area], "${param.keep}"]
    outputs     = "key_value"
  }
}

operation "put-back" {
  description = "Takes a `clean-up` back: its files return to where they were. A file that is there again meanwhile is left as it is."
  owner       = team.sre
  allow       = [team.sre, team.shop]
  labels      = { area = "files" }

  param "area" {
    type    = choice
    choices = keys(local.cleanup.areas)
  }
  param "move" {
    type        = choice
    description = "Which run of `clean-up`"
    choices_from {
      command = ["cleanup/moves", local.cleanup.areas[param.area]]
      cache   = "5s"
    }
  }

  concurrency {
    key = "files-${param.area}"
  }

  step "put-back" {
    directory = "cleanup"
    run       = ["./put-back", local.cleanup.areas[param.area], param.move]
  }
}

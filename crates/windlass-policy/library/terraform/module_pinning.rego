# METADATA
# title: Modules are of a version that stays
# description: >-
#   Modules from git without a reference or with a branch (`data.library.settings.moving_refs`), modules from a registry without a
#   version, at any depth. An archive from the web is a warning: nothing says that it stays what it is.
# related_resources:
# - ref: https://developer.hashicorp.com/terraform/language/modules/sources
# custom:
#   severity: medium
package library.terraform.module_pinning

import data.library.plan
import rego.v1

# References that move.
default moving_refs := ["main", "master", "trunk", "develop", "dev", "HEAD"]

moving_refs := data.library.settings.moving_refs

deny contains {"msg": msg, "address": address(found)} if {
	some found in plan.module_calls
	git(found.call.source)
	count(references(found.call.source)) == 0
	msg := sprintf("%s is whatever its repository holds: add ?ref= with a tag or a commit to its source", [address(found)])
}

deny contains {"msg": msg, "address": address(found)} if {
	some found in plan.module_calls
	git(found.call.source)
	some reference in references(found.call.source)
	moves(reference)
	msg := sprintf("%s is of %s, which moves: name a tag or a commit", [address(found), reference])
}

deny contains {"msg": msg, "address": address(found)} if {
	some found in plan.module_calls
	registry(found.call.source)
	plan.field(found.call, "version_constraint") in {"", null}
	msg := sprintf("%s is the newest there is: set its version", [address(found)])
}

warn contains {"msg": msg, "address": address(found)} if {
	some found in plan.module_calls
	registry(found.call.source)
	open(plan.text(plan.field(found.call, "version_constraint")))
	msg := sprintf(
		"%s may be any later version (%s): set an upper bound, e.g. ~>",
		[address(found), found.call.version_constraint],
	)
}

warn contains {"msg": msg, "address": address(found)} if {
	some found in plan.module_calls
	regex.match(`^https?://`, found.call.source)
	not git(found.call.source)
	msg := sprintf("nothing says that %s stays what it is: take it from git or a registry", [address(found)])
}

# e.g. module.network.module.subnets
address(found) := concat(".", [sprintf("module.%s", [found.path[index]]) |
	some index, part in array.slice(array.concat([""], found.path), 0, count(found.path))
	part == "module_calls"
])

git(source) if startswith(source, "git::")

git(source) if startswith(source, "git@")

git(source) if regex.match(`^(https?://|ssh://)?(git@)?(github\.com|bitbucket\.org)[/:]`, source)

git(source) if regex.match(`^https?://[^?]*\.git(//|\?|$)`, source)

references(source) := {reference |
	some parameter in split(query(source), "&")
	startswith(parameter, "ref=")
	reference := substring(parameter, 4, -1)
	reference != ""
}

query(source) := substring(source, indexof(source, "?") + 1, -1) if {
	contains(source, "?")
} else := ""

moves(reference) if reference in moving_refs

moves(reference) if regex.match(`^(refs/heads|origin)/`, reference)

# namespace/name/provider, with or without a host.
registry(source) if {
	regex.match(`^([a-zA-Z0-9.-]+\.[a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/[a-zA-Z0-9]+(//.*)?$`, source)
	not git(source)
}

open(constraint) if {
	regex.match(`>`, constraint)
	not regex.match(`[<~]|(^|,)\s*=?\s*v?[0-9]`, constraint)
}

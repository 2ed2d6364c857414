# METADATA
# title: Providers have a version
# description: >-
#   Every provider of the plan has a version constraint in `required_providers`. A constraint without an upper bound is a warning.
# related_resources:
# - ref: https://developer.hashicorp.com/terraform/language/providers/requirements
# custom:
#   severity: medium
package library.terraform.provider_pinning

import rego.v1

deny contains {"msg": msg} if {
	some provider in used
	count(constraints(provider)) == 0
	msg := sprintf("%s may be any version: set its version in required_providers", [short(provider)])
}

warn contains {"msg": msg} if {
	some provider in used
	found := constraints(provider)
	count(found) > 0
	every constraint in found {
		open(constraint)
	}
	msg := sprintf(
		"%s may be any later version (%s): set an upper bound, e.g. ~>",
		[short(provider), concat("; ", sort(found))],
	)
}

used contains provider if {
	some change in input.resource_changes
	provider := change.provider_name
	not built_in(provider)
}

used contains provider if {
	some config in input.configuration.provider_config
	provider := config.full_name
	not built_in(provider)
}

built_in(provider) if startswith(provider, "terraform.io/builtin/")

constraints(provider) := {config.version_constraint |
	some config in input.configuration.provider_config
	config.full_name == provider
	config.version_constraint != ""
}

open(constraint) if {
	regex.match(`>`, constraint)
	not regex.match(`[<~]|(^|,)\s*=?\s*v?[0-9]`, constraint)
}

short(provider) := trim_prefix(trim_prefix(provider, "registry.terraform.io/"), "registry.opentofu.org/")

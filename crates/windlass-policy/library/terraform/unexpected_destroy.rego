# METADATA
# title: An apply that destroys much is looked at twice
# description: >-
#   Plans that destroy more than `data.library.settings.max_destroys` resources, replacements included, are a warning.
# related_resources:
# - ref: https://developer.hashicorp.com/terraform/cli/commands/plan
# custom:
#   severity: medium
package library.terraform.unexpected_destroy

import data.library.plan
import rego.v1

# How many resources a plan may destroy without a warning.
default max_destroys := 5

max_destroys := data.library.settings.max_destroys

warn contains {"msg": msg} if {
	number := count(plan.destroyed)
	number > max_destroys
	msg := sprintf(
		"the plan destroys %d resources, more than %d: look for a renamed module or for_each key, and write moved blocks",
		[number, max_destroys],
	)
}

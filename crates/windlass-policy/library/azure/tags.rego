# METADATA
# title: Everything on Azure says whose it is
# description: >-
#   Resources that can be tagged carry the tags of `data.library.settings.required_tags`. Letter case does not matter. Tags of a
#   resource group are not inherited.
# related_resources:
# - ref: https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/tag-resources
# custom:
#   severity: low
package library.azure.tags

import data.library.plan
import rego.v1

# Tags that every resource carries; letter case does not matter.
default required_tags := ["owner", "environment"]

required_tags := data.library.settings.required_tags

deny contains plan.result(change, msg) if {
	some change in plan.written
	startswith(change.type, "azurerm_")
	"tags" in object.keys(change.change.after)
	not plan.unknown(change, "tags")
	missing := [name | some name in required_tags; not lower(name) in names(change)]
	count(missing) > 0
	msg := sprintf("%s lacks tags: set %s in its tags", [change.address, concat(", ", missing)])
}

names(change) := known | coming if {
	known := {lower(plan.text(name)) | some name, _ in plan.after(change, "tags")}
	coming := {lower(plan.text(name)) |
		some name, hidden in change.change.after_unknown.tags
		hidden == true
	}
}

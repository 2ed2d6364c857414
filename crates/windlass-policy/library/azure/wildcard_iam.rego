# METADATA
# title: Nobody on Azure may do everything
# description: >-
#   Owners, contributors and administrators of access of a whole subscription, management group or tenant, and roles of one's own that
#   allow every action.
# related_resources:
# - ref: https://learn.microsoft.com/en-us/azure/role-based-access-control/best-practices
# custom:
#   severity: critical
package library.azure.wildcard_iam

import data.library.plan
import rego.v1

# Roles that nobody has on a whole subscription.
default azure_broad_roles := ["Owner", "Contributor", "User Access Administrator", "Role Based Access Control Administrator"]

azure_broad_roles := data.library.settings.azure_broad_roles

# The same by their ids, which are the same everywhere.
ids := {
	"18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
	"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
	"b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
	"f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}

# Actions that bring all others.
everything := {"*", "*/write", "Microsoft.Authorization/*", "Microsoft.Authorization/*/write"}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"azurerm_role_assignment", "azurerm_pim_active_role_assignment", "azurerm_pim_eligible_role_assignment"}
	some role in roles(change)
	role in azure_broad_roles
	where := whole(plan.after(change, "scope"))
	msg := sprintf(
		"%s makes somebody %s of %s: assign a narrower role, or a resource group as its scope",
		[change.address, role, where],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "azurerm_role_definition"
	some found in plan.blocks(change, "permissions")
	some name in {"actions", "data_actions"}
	some action in plan.list(plan.field(found.block, name))
	action in everything
	msg := sprintf("%s allows %s: name the %s that are needed", [change.address, action, name])
}

roles(change) := {role | role := plan.after(change, "role_definition_name")} | {role |
	parts := split(plan.text(plan.after(change, "role_definition_id")), "/")
	role := ids[lower(parts[count(parts) - 1])]
}

# What a scope holds, when that is a subscription or more.
whole(scope) := "a whole subscription" if regex.match(`(?i)^/subscriptions/[^/]+/?$`, scope)

whole(scope) := "a whole management group" if {
	regex.match(`(?i)^/providers/microsoft\.management/managementgroups/[^/]+/?$`, scope)
}

whole(scope) := "the whole tenant" if scope == "/"

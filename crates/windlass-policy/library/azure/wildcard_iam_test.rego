package library.azure.wildcard_iam_test

import data.library.azure.wildcard_iam
import rego.v1

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := wildcard_iam.deny with input as planned(type, after) with data.library.settings as {}
}

subscription := "/subscriptions/00000000-0000-0000-0000-000000000001"

test_azure_broad_roles_of_what_holds_everything if {
	wanted := {"azurerm_role_assignment.x makes somebody Owner of a whole subscription: assign a narrower role, or a resource group as its scope"}
	messages("azurerm_role_assignment", {"scope": subscription, "role_definition_name": "Owner"}) == wanted
	by_id := sprintf("%s/providers/Microsoft.Authorization/roleDefinitions/8e3af657-a8ff-443c-a75c-2fe8c4bcb635", [subscription])
	messages("azurerm_role_assignment", {"scope": subscription, "role_definition_id": by_id}) == wanted
	some tenant in messages("azurerm_role_assignment", {"scope": "/", "role_definition_name": "Contributor"})
	contains(tenant, "the whole tenant")
	group := "/providers/Microsoft.Management/managementGroups/all"
	some management in messages("azurerm_role_assignment", {"scope": group, "role_definition_name": "Contributor"})
	contains(management, "a whole management group")
}

test_narrow_roles_and_scopes if {
	group := sprintf("%s/resourceGroups/app", [subscription])
	messages("azurerm_role_assignment", {"scope": group, "role_definition_name": "Owner"}) == set()
	messages("azurerm_role_assignment", {"scope": subscription, "role_definition_name": "Reader"}) == set()
	messages("azurerm_role_assignment", {"scope": null, "role_definition_name": "Owner"}) == set()
	messages("azurerm_role_assignment", {"role_definition_name": null, "scope": subscription}) == set()
}

test_which_roles_is_a_setting if {
	plan := planned("azurerm_role_assignment", {"scope": subscription, "role_definition_name": "Contributor"})
	count(wildcard_iam.deny) == 0 with input as plan with data.library.settings as {"azure_broad_roles": ["Owner"]}
}

test_roles_of_ones_own if {
	every action in wildcard_iam.everything {
		count(messages("azurerm_role_definition", {"permissions": [{"actions": ["a/read", action]}]})) == 1
		count(messages("azurerm_role_definition", {"permissions": [{"actions": null, "data_actions": [action]}]})) == 1
	}
	messages("azurerm_role_definition", {"permissions": [{"actions": ["Microsoft.Compute/*/read"], "not_actions": ["*"]}]}) == set()
	messages("azurerm_role_definition", {"permissions": null}) == set()
}

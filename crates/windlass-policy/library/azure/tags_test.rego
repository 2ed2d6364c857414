package library.azure.tags_test

import data.library.azure.tags
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

messages(type, after, unknown) := {finding.msg | some finding in found} if {
	found := tags.deny with input as planned(type, after, unknown) with data.library.settings as {}
}

test_missing_tags_are_named if {
	wanted := {"azurerm_virtual_network.x lacks tags: set environment in its tags"}
	messages("azurerm_virtual_network", {"tags": {"Owner": "sre"}}, {}) == wanted
	count(messages("azurerm_virtual_network", {"tags": null}, {})) == 1
	messages("azurerm_virtual_network", {"tags": {"Owner": "sre", "Environment": "prod"}}, {}) == set()
}

test_values_that_are_not_known_count if {
	messages("azurerm_virtual_network", {"tags": {"owner": "sre"}}, {"tags": {"environment": true}}) == set()
	messages("azurerm_virtual_network", {}, {"tags": true}) == set()
	messages("azurerm_virtual_network", {"tags": {}}, {"tags": true}) == set()
}

test_what_has_no_tags_needs_none if {
	messages("azurerm_subnet", {"name": "x"}, {}) == set()
	messages("aws_vpc", {"tags": null}, {}) == set()
}

test_which_tags_is_a_setting if {
	plan := planned("azurerm_virtual_network", {"tags": null}, {})
	count(tags.deny) == 0 with input as plan with data.library.settings as {"required_tags": []}
}

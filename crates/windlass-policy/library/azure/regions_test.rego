package library.azure.regions_test

import data.library.azure.regions
import rego.v1

allowed := {"azure_regions": ["japaneast", "Japan West"]}

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := regions.deny with input as planned(type, after) with data.library.settings as allowed
}

test_locations if {
	messages("azurerm_resource_group", {"location": "West Europe"}) == {"azurerm_resource_group.x is in West Europe: use one of japaneast, Japan West"}
	messages("azurerm_resource_group", {"location": "Japan East"}) == set()
	messages("azurerm_resource_group", {"location": "japanwest"}) == set()
	messages("azurerm_dns_zone", {"location": "global"}) == set()
	messages("azurerm_resource_group", {"location": null}) == set()
	messages("google_storage_bucket", {"location": "EU"}) == set()
}

test_copies if {
	after := {"location": "japaneast", "geo_location": [{"location": "japaneast"}, {"location": "eastus"}]}
	count(messages("azurerm_cosmosdb_account", after)) == 1
	count(messages("azurerm_container_registry", {"georeplications": [{"location": "eastus"}]})) == 1
}

test_an_empty_list_is_said if {
	plan := planned("azurerm_resource_group", {"location": "eastus"})
	count(regions.deny) == 0 with input as plan with data.library.settings as {}
	count(regions.warn) == 1 with input as plan with data.library.settings as {}
	count(regions.warn) == 0 with input as plan with data.library.settings as allowed
}

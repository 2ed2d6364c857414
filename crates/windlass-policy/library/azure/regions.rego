# METADATA
# title: Azure is used in the regions that are allowed
# description: >-
#   Locations of resources, and of their copies, are in `data.library.settings.azure_regions`; "Japan East" and "japaneast" are the
#   same. While that list is empty nothing is denied, and a warning says so.
# related_resources:
# - ref: https://learn.microsoft.com/en-us/azure/governance/policy/samples/built-in-policies
# custom:
#   severity: medium
package library.azure.regions

import data.library.plan
import rego.v1

# Regions of Azure that may be used; empty means all, with a warning.
default azure_regions := []

azure_regions := data.library.settings.azure_regions

# Blocks that name further locations.
copies := {"geo_location", "georeplications", "additional_location"}

deny contains plan.result(change, msg) if {
	count(azure_regions) > 0
	some change in plan.written
	startswith(change.type, "azurerm_")
	some location in locations(change)
	not normal(location) in {normal(region) | some region in azure_regions}
	normal(location) != "global"
	msg := sprintf("%s is in %s: use one of %s", [change.address, location, concat(", ", azure_regions)])
}

warn contains {"msg": msg} if {
	count(azure_regions) == 0
	plan.has("azurerm_")
	msg := "every region of Azure is allowed: list yours in azure_regions of the library's settings"
}

locations(change) := own | further if {
	own := {location | location := plan.after(change, "location"); is_string(location)}
	further := {location |
		some name in copies
		some found in plan.blocks(change, name)
		location := found.block.location
		is_string(location)
	}
}

normal(location) := replace(lower(location), " ", "")

# METADATA
# title: Google Cloud is used in the regions that are allowed
# description: >-
#   Regions, zones and locations of resources and providers are in `data.library.settings.google_regions`; multi-regions such as EU are
#   names like any other. While that list is empty nothing is denied, and a warning says so.
# related_resources:
# - ref: https://cloud.google.com/resource-manager/docs/organization-policy/defining-locations
# custom:
#   severity: medium
package library.google.regions

import data.library.plan
import rego.v1

# Regions of Google Cloud that may be used; empty means all, with a warning.
default google_regions := []

google_regions := data.library.settings.google_regions

allowed := {lower(region) | some region in google_regions}

deny contains {"msg": msg} if {
	count(google_regions) > 0
	some provider in {"hashicorp/google", "hashicorp/google-beta"}
	some region in plan.provider_regions(provider)
	not lower(region) in allowed
	msg := sprintf("a provider of Google Cloud is in %s: use one of %s", [region, concat(", ", google_regions)])
}

deny contains plan.result(change, msg) if {
	count(google_regions) > 0
	some change in plan.written
	startswith(change.type, "google_")
	some place in places(change)
	not place in allowed
	place != "global"
	msg := sprintf("%s is in %s: use one of %s", [change.address, place, concat(", ", google_regions)])
}

warn contains {"msg": msg} if {
	count(google_regions) == 0
	plan.has("google_")
	msg := "every region of Google Cloud is allowed: list yours in google_regions of the library's settings"
}

# Where a resource says that it is: the region of a zone, the name in a link.
places(change) := {region |
	some name in {"region", "zone", "location"}
	value := plan.after(change, name)
	is_string(value)
	parts := split(value, "/")
	place := lower(parts[count(parts) - 1])
	place != ""
	region := regex.replace(place, `^([a-z]+-[a-z]+[0-9]+)-[a-z]$`, "$1")
}

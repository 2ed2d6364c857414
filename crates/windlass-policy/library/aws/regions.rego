# METADATA
# title: AWS is used in the regions that are allowed
# description: >-
#   Providers, availability zones and resources with a region of their own are in `data.library.settings.aws_regions`. While that
#   list is empty nothing is denied, and a warning says so.
# related_resources:
# - ref: https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps_examples_general.html
# custom:
#   severity: medium
package library.aws.regions

import data.library.plan
import rego.v1

# Regions of AWS that may be used; empty means all, with a warning.
default aws_regions := []

aws_regions := data.library.settings.aws_regions

deny contains {"msg": msg} if {
	count(aws_regions) > 0
	some region in plan.provider_regions("hashicorp/aws")
	not region in aws_regions
	msg := sprintf("a provider of AWS is in %s: use one of %s", [region, concat(", ", aws_regions)])
}

deny contains plan.result(change, msg) if {
	count(aws_regions) > 0
	some change in plan.written
	startswith(change.type, "aws_")
	some region in places(change)
	not region in aws_regions
	msg := sprintf("%s is in %s: use one of %s", [change.address, region, concat(", ", aws_regions)])
}

warn contains {"msg": msg} if {
	count(aws_regions) == 0
	plan.has("aws_")
	msg := "every region of AWS is allowed: list yours in aws_regions of the library's settings"
}

# Where a resource itself says that it is. Local zones and wavelength zones begin with their region.
places(change) := {region |
	some name in {"region", "availability_zone"}
	zone := plan.after(change, name)
	is_string(zone)
	region := regex.find_n(`^[a-z]{2,4}(-[a-z]+)+-[0-9]+`, zone, 1)[0]
}

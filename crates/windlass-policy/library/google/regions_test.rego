package library.google.regions_test

import data.library.google.regions
import rego.v1

allowed := {"google_regions": ["asia-northeast1", "ASIA"]}

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := regions.deny with input as planned(type, after) with data.library.settings as allowed
}

test_places if {
	messages("google_compute_subnetwork", {"region": "us-east1"}) == {"google_compute_subnetwork.x is in us-east1: use one of asia-northeast1, ASIA"}
	count(messages("google_compute_instance", {"zone": "europe-west4-b"})) == 1
	messages("google_compute_instance", {"zone": "asia-northeast1-b"}) == set()
	link := "https://www.googleapis.com/compute/v1/projects/p/zones/asia-northeast1-a"
	messages("google_compute_disk", {"zone": link}) == set()
	messages("google_storage_bucket", {"location": "asia"}) == set()
	count(messages("google_storage_bucket", {"location": "EU"})) == 1
	messages("google_kms_key_ring", {"location": "global"}) == set()
	messages("google_compute_instance", {"zone": null}) == set()
	messages("aws_vpc", {"region": "us-east-1"}) == set()
}

config(region) := {"configuration": {"provider_config": {"google": {
	"name": "google", "full_name": "registry.terraform.io/hashicorp/google",
	"expressions": {"region": {"constant_value": region}},
}}}}

test_providers if {
	count(regions.deny) == 1 with input as config("us-east1") with data.library.settings as allowed
	count(regions.deny) == 0 with input as config("asia-northeast1") with data.library.settings as allowed
}

test_an_empty_list_is_said if {
	plan := planned("google_storage_bucket", {"location": "EU"})
	count(regions.deny) == 0 with input as plan with data.library.settings as {}
	count(regions.warn) == 1 with input as plan with data.library.settings as {}
	count(regions.warn) == 0 with input as plan with data.library.settings as allowed
}

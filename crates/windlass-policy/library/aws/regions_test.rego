package library.aws.regions_test

import data.library.aws.regions
import rego.v1

allowed := {"aws_regions": ["ap-northeast-1", "ap-northeast-3"]}

resource(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

provider(region) := {
	"configuration": {"provider_config": {"aws": {
		"name": "aws", "full_name": "registry.terraform.io/hashicorp/aws",
		"expressions": {"region": region},
	}}},
	"variables": {"region": {"value": "us-east-1"}},
}

denied(plan) := {finding.msg | some finding in found} if {
	found := regions.deny with input as plan with data.library.settings as allowed
}

test_providers if {
	denied(provider({"constant_value": "eu-west-1"})) == {"a provider of AWS is in eu-west-1: use one of ap-northeast-1, ap-northeast-3"}
	denied(provider({"constant_value": "ap-northeast-3"})) == set()
	count(denied(provider({"references": ["var.region"]}))) == 1
	denied(provider({"references": ["local.region"]})) == set()
	denied({"configuration": {"provider_config": {"aws": {"name": "aws"}}}}) == set()
}

test_resources if {
	denied(resource("aws_subnet", {"availability_zone": "us-east-1a"})) == {"aws_subnet.x is in us-east-1: use one of ap-northeast-1, ap-northeast-3"}
	denied(resource("aws_subnet", {"availability_zone": "ap-northeast-1c"})) == set()
	count(denied(resource("aws_subnet", {"availability_zone": "us-west-2-lax-1a"}))) == 1
	denied(resource("aws_subnet", {"availability_zone": null})) == set()
	count(denied(resource("aws_vpc", {"region": "us-gov-west-1"}))) == 1
	denied(resource("google_compute_subnetwork", {"region": "us-east1"})) == set()
}

test_an_empty_list_is_said if {
	plan := resource("aws_vpc", {"region": "eu-west-1"})
	count(regions.deny) == 0 with input as plan with data.library.settings as {}
	count(regions.warn) == 1 with input as plan with data.library.settings as {}
	count(regions.warn) == 0 with input as plan with data.library.settings as allowed
	count(regions.warn) == 0 with input as resource("terraform_data", {}) with data.library.settings as {}
}

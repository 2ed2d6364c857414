package library.terraform.provider_pinning_test

import data.library.terraform.provider_pinning
import rego.v1

aws := "registry.terraform.io/hashicorp/aws"

configured(config) := {
	"resource_changes": [{"address": "aws_vpc.x", "provider_name": aws}],
	"configuration": {"provider_config": {"aws": config}},
}

denied(plan) := {finding.msg | some finding in found} if {
	found := provider_pinning.deny with input as plan
}

test_versions_are_wanted if {
	wanted := {"hashicorp/aws may be any version: set its version in required_providers"}
	denied(configured({"name": "aws", "full_name": aws})) == wanted
	denied(configured({"name": "aws", "full_name": aws, "version_constraint": ""})) == wanted
	denied(configured({"name": "aws", "full_name": aws, "version_constraint": "~> 5.0"})) == set()
	denied({"resource_changes": [{"provider_name": aws}]}) == wanted
}

test_one_constraint_of_several_is_enough if {
	plan := {"configuration": {"provider_config": {
		"aws": {"full_name": aws},
		"module.a:aws": {"full_name": aws, "module_address": "module.a", "version_constraint": ">= 4.0, < 6.0"},
	}}}
	denied(plan) == set()
}

test_what_is_built_in_has_no_version if {
	builtin := "terraform.io/builtin/terraform"
	denied({"resource_changes": [{"provider_name": builtin}], "configuration": {"provider_config": {"terraform": {"full_name": builtin}}}}) == set()
}

test_no_upper_bound_is_a_warning if {
	plan := configured({"full_name": aws, "version_constraint": ">= 4.0"})
	found := provider_pinning.warn with input as plan
	{finding.msg | some finding in found} == {"hashicorp/aws may be any later version (>= 4.0): set an upper bound, e.g. ~>"}
	count(provider_pinning.warn) == 0 with input as configured({"full_name": aws, "version_constraint": "~> 5.0"})
	count(provider_pinning.deny) == 0 with input as plan
}

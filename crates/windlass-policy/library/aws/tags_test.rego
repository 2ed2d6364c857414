package library.aws.tags_test

import data.library.aws.tags
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["update"], "before": {}, "after": after, "after_unknown": unknown},
}]}

messages(type, after, unknown) := {finding.msg | some finding in found} if {
	found := tags.deny with input as planned(type, after, unknown) with data.library.settings as {}
}

test_missing_tags_are_named if {
	wanted := {"aws_vpc.x lacks tags: set owner, environment in its tags, or in the provider's default_tags"}
	messages("aws_vpc", {"tags": null}, {}) == wanted
	messages("aws_vpc", {"tags": null}, {"tags_all": true}) == wanted
	messages("aws_vpc", {"tags": {"Name": "x"}, "tags_all": {"Name": "x"}}, {}) == wanted
}

test_tags_and_default_tags_count if {
	messages("aws_vpc", {"tags": {"Owner": "sre"}, "tags_all": {"Owner": "sre", "Environment": "prod"}}, {}) == set()
}

test_values_that_are_not_known_count if {
	messages("aws_vpc", {"tags": {"Owner": "sre"}}, {"tags": {"Environment": true}}) == set()
	messages("aws_vpc", {}, {"tags": true}) == set()
	messages("aws_vpc", {"tags": {}}, {"tags": {"Name": true}, "tags_all": true}) == set()
}

test_what_has_no_tags_needs_none if {
	messages("aws_iam_role_policy", {"policy": "{}"}, {}) == set()
	messages("terraform_data", {"tags": null}, {}) == set()
}

test_autoscaling_groups_list_their_tags if {
	tag := [{"key": "owner", "value": "sre"}, {"key": "environment", "value": "prod"}]
	messages("aws_autoscaling_group", {"tag": tag}, {}) == set()
	count(messages("aws_autoscaling_group", {"tag": [{"key": "owner"}]}, {})) == 1
	count(messages("aws_autoscaling_group", {"tag": null}, {})) == 1
}

test_which_tags_is_a_setting if {
	plan := planned("aws_vpc", {"tags": {"cost-centre": "7"}}, {})
	count(tags.deny) == 0 with input as plan with data.library.settings as {"required_tags": ["cost-centre"]}
	count(tags.deny) == 0 with input as plan with data.library.settings as {"required_tags": []}
}

package library.google.labels_test

import data.library.google.labels
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

messages(type, after, unknown) := {finding.msg | some finding in found} if {
	found := labels.deny with input as planned(type, after, unknown) with data.library.settings as {}
}

test_missing_labels_are_named if {
	wanted := {"google_storage_bucket.x lacks labels: set environment in its labels, or in the provider's default_labels"}
	messages("google_storage_bucket", {"labels": {"owner": "sre"}}, {}) == wanted
	count(messages("google_storage_bucket", {"labels": null}, {})) == 1
}

test_default_labels_count if {
	after := {"labels": null, "terraform_labels": {"owner": "sre", "environment": "prod"}}
	messages("google_storage_bucket", after, {}) == set()
}

test_values_that_are_not_known_count if {
	messages("google_storage_bucket", {"labels": {"owner": "sre"}}, {"labels": {"environment": true}}) == set()
	messages("google_storage_bucket", {"labels": {}}, {"terraform_labels": true}) == set()
	messages("google_storage_bucket", {"labels": {}}, {"labels": true}) == set()
}

test_what_has_no_labels_needs_none if {
	messages("google_project_iam_member", {"role": "x"}, {}) == set()
	messages("kubernetes_pod", {"labels": null}, {}) == set()
}

test_which_labels_is_a_setting if {
	plan := planned("google_storage_bucket", {"labels": null}, {})
	count(labels.deny) == 0 with input as plan with data.library.settings as {"required_labels": []}
}

package library.terraform.data_deletion_test

import data.library.terraform.data_deletion
import rego.v1

planned(type, actions, paths) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": actions, "before": {}, "after": null, "after_unknown": {}, "replace_paths": paths},
}]}

messages(type, actions, paths) := {finding.msg | some finding in found} if {
	found := data_deletion.deny with input as planned(type, actions, paths) with data.library.settings as {}
}

test_every_type_that_holds_data if {
	every type in data_deletion.holds_data {
		wanted := {sprintf("%s.x would be destroyed, with the data in it: keep it, or list its address in may_delete", [type])}
		messages(type, ["delete"], []) == wanted
		messages(type, ["create"], []) == set()
		messages(type, ["update"], []) == set()
		messages(type, ["no-op"], []) == set()
		messages(type, ["forget"], []) == set()
	}
}

test_replacements_say_why if {
	wanted := {"aws_db_instance.x would be destroyed and made anew because of engine, name, with the data in it: keep it, or list its address in may_delete"}
	messages("aws_db_instance", ["delete", "create"], [["name"], ["engine"]]) == wanted
	some unexplained in messages("aws_db_instance", ["create", "delete"], null)
	contains(unexplained, "destroyed and made anew, with")
}

test_what_holds_no_data_may_go if messages("aws_route", ["delete"], []) == set()

test_what_may_go_is_a_setting if {
	plan := planned("aws_s3_bucket", ["delete"], [])
	every pattern in ["aws_s3_bucket.x", "aws_s3_*", "*"] {
		count(data_deletion.deny) == 0 with input as plan with data.library.settings as {"may_delete": [pattern]}
	}
	every pattern in ["aws_s3_bucket.y", "aws_s3", "module.a*"] {
		count(data_deletion.deny) == 1 with input as plan with data.library.settings as {"may_delete": [pattern]}
	}
}

test_types_can_be_added if {
	plan := planned("terraform_data", ["delete"], [])
	count(data_deletion.deny) == 0 with input as plan with data.library.settings as {}
	count(data_deletion.deny) == 1 with input as plan with data.library.settings as {"data_types": ["terraform_data"]}
}

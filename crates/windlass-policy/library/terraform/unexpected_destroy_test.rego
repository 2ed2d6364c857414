package library.terraform.unexpected_destroy_test

import data.library.terraform.unexpected_destroy
import rego.v1

planned(number, actions) := {"resource_changes": [{
	"address": sprintf("terraform_data.x[%d]", [index]), "mode": "managed", "type": "terraform_data",
	"change": {"actions": actions, "before": {}, "after": null, "after_unknown": {}},
} |
	some index in numbers.range(1, number)
]}

messages(number, actions, settings) := {finding.msg | some finding in found} if {
	found := unexpected_destroy.warn with input as planned(number, actions) with data.library.settings as settings
}

test_many_are_said if {
	some message in messages(6, ["delete"], {})
	startswith(message, "the plan destroys 6 resources, more than 5: ")
	count(messages(6, ["delete", "create"], {})) == 1
}

test_few_are_not if {
	messages(5, ["delete"], {}) == set()
	messages(20, ["create"], {}) == set()
	messages(20, ["forget"], {}) == set()
}

test_how_many_is_a_setting if {
	count(messages(1, ["delete"], {"max_destroys": 0})) == 1
	messages(50, ["delete"], {"max_destroys": 50}) == set()
}

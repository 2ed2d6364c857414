package library.aws.wildcard_iam_test

import data.library.aws.wildcard_iam
import rego.v1

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := wildcard_iam.deny with input as planned(type, after) with data.library.settings as {}
}

policy(statement) := json.marshal({"Version": "2012-10-17", "Statement": statement})

allow(action, resource) := {"Effect": "Allow", "Action": action, "Resource": resource}

test_everything_is_denied_wherever_it_is_written if {
	every type, names in wildcard_iam.identity {
		every name in names {
			wanted := {sprintf("%s.x allows every action: name the actions and resources that are needed", [type])}
			messages(type, {name: policy([allow("*", "*")])}) == wanted
			messages(type, {name: policy(allow(["s3:Get*", "*:*"], "arn:aws:s3:::x"))}) == wanted
			messages(type, {name: policy(allow("s3:*", "*"))}) == set()
			messages(type, {name: policy([object.union(allow("*", "*"), {"Effect": "Deny"})])}) == set()
			messages(type, {name: null}) == set()
			messages(type, {name: "no json"}) == set()
			messages(type, {}) == set()
		}
	}
}

test_inline_policies_of_roles if {
	count(messages("aws_iam_role", {"inline_policy": [{"name": "x", "policy": policy(allow("*", "*"))}]})) == 1
	messages("aws_iam_role", {"inline_policy": [{"name": null, "policy": null}]}) == set()
}

test_services_that_lead_to_everything if {
	some message in messages("aws_iam_policy", {"policy": policy(allow(["IAM:*", "sts:*"], ["*"]))})
	contains(message, "allows IAM:*, sts:* on everything")
	messages("aws_iam_policy", {"policy": policy(allow("iam:*", "arn:aws:iam::1:role/x"))}) == set()
	count(messages("aws_iam_policy", {"policy": policy({"Effect": "Allow", "Action": "kms:*", "NotResource": "x"})})) == 1
	input_plan := planned("aws_iam_policy", {"policy": policy(allow("kms:*", "*"))})
	count(wildcard_iam.deny) == 0 with input as input_plan with data.library.settings as {"wildcard_services": []}
}

test_everything_but_something if {
	statement := {"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}
	some message in messages("aws_iam_policy", {"policy": policy(statement)})
	contains(message, "every action but iam:*, on everything")
}

test_anybody_is_denied_wherever_it_is_written if {
	every type, names in wildcard_iam.shared {
		every name in names {
			every principal in ["*", {"AWS": "*"}, {"AWS": ["*"]}] {
				statement := {"Effect": "Allow", "Action": "x:Y", "Principal": principal, "Resource": "*"}
				count(messages(type, {name: policy(statement)})) == 1
				limited := object.union(statement, {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}})
				messages(type, {name: policy(limited)}) == set()
				messages(type, {name: policy(object.union(statement, {"Effect": "Deny"}))}) == set()
				service := {"Effect": "Allow", "Action": "x:Y", "Principal": {"Service": "ec2.amazonaws.com"}, "Resource": "*"}
				messages(type, {name: policy(service)}) == set()
			}
		}
	}
}

test_administrators_are_denied if {
	arn := "arn:aws:iam::aws:policy/AdministratorAccess"
	every type, name in wildcard_iam.attached {
		count(messages(type, {name: arn})) == 1
		messages(type, {name: "arn:aws:iam::aws:policy/ReadOnlyAccess"}) == set()
		messages(type, {name: "arn:aws:iam::123456789012:policy/AdministratorAccess"}) == set()
		messages(type, {name: null}) == set()
	}
	count(messages("aws_iam_role", {"managed_policy_arns": [arn]})) == 1
}

test_functions_that_anybody_may_call if {
	count(messages("aws_lambda_permission", {"principal": "*"})) == 1
	messages("aws_lambda_permission", {"principal": "*", "source_account": "123456789012"}) == set()
	messages("aws_lambda_permission", {"principal": "s3.amazonaws.com"}) == set()
}

# METADATA
# title: Nobody on AWS may do everything
# description: >-
#   Policies that allow every action, or every action of a service that leads to every other one, on everything; administrator
#   policies of AWS; roles that anybody may assume; buckets, queues, topics, keys and secrets that anybody may use.
# related_resources:
# - ref: https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html
# custom:
#   severity: critical
package library.aws.wildcard_iam

import data.library.plan
import rego.v1

# Services where one right brings all others.
default wildcard_services := ["iam", "kms", "organizations", "secretsmanager", "sts"]

wildcard_services := data.library.settings.wildcard_services

# AWS's own policies that are as good as everything.
default admin_policies := ["AdministratorAccess", "IAMFullAccess"]

admin_policies := data.library.settings.admin_policies

# Attributes that hold what an identity may do.
identity := {
	"aws_iam_group_policy": {"policy"},
	"aws_iam_policy": {"policy"},
	"aws_iam_role_policy": {"policy"},
	"aws_iam_user_policy": {"policy"},
	"aws_ssoadmin_permission_set_inline_policy": {"inline_policy"},
}

# Attributes that hold who may use a resource.
shared := {
	"aws_backup_vault_policy": {"policy"},
	"aws_ecr_repository_policy": {"policy"},
	"aws_efs_file_system_policy": {"policy"},
	"aws_iam_role": {"assume_role_policy"},
	"aws_kms_key": {"policy"},
	"aws_kms_key_policy": {"policy"},
	"aws_opensearch_domain_policy": {"access_policies"},
	"aws_s3_bucket_policy": {"policy"},
	"aws_secretsmanager_secret_policy": {"policy"},
	"aws_sns_topic": {"policy"},
	"aws_sns_topic_policy": {"policy"},
	"aws_sqs_queue": {"policy"},
	"aws_sqs_queue_policy": {"policy"},
}

# Attributes that name a managed policy.
attached := {
	"aws_iam_group_policy_attachment": "policy_arn",
	"aws_iam_policy_attachment": "policy_arn",
	"aws_iam_role": "managed_policy_arns",
	"aws_iam_role_policy_attachment": "policy_arn",
	"aws_iam_user_policy_attachment": "policy_arn",
	"aws_ssoadmin_managed_policy_attachment": "managed_policy_arn",
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some statement in identity_statements(change)
	statement.Effect == "Allow"
	what := too_much(statement)
	msg := sprintf("%s allows %s: name the actions and resources that are needed", [change.address, what])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some name in shared[change.type]
	some statement in statements(plan.after(change, name))
	statement.Effect == "Allow"
	anybody(statement)
	not limited(statement)
	msg := sprintf("%s lets anybody in: name the principals of its %s, or add a Condition", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some arn in plan.list(plan.after(change, attached[change.type]))
	parts := split(plan.text(arn), "/")
	contains(plan.text(arn), ":iam::aws:policy/")
	policy := parts[count(parts) - 1]
	policy in admin_policies
	msg := sprintf("%s attaches %s, which allows everything: attach a policy with what is needed", [change.address, policy])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_lambda_permission"
	plan.after(change, "principal") == "*"
	every name in {"source_account", "source_arn", "principal_org_id"} {
		plan.blank(change, name)
	}
	msg := sprintf("%s lets anybody call the function: name the principal, source_account or source_arn", [change.address])
}

identity_statements(change) := array.concat(own, inline) if {
	own := [statement |
		some name in identity[change.type]
		some statement in statements(plan.after(change, name))
	]
	inline := [statement |
		change.type == "aws_iam_role"
		some found in plan.blocks(change, "inline_policy")
		some statement in statements(plan.field(found.block, "policy"))
	]
}

statements(text) := [statement |
	some statement in plan.list(plan.field(plan.document(text), "Statement"))
	is_object(statement)
]

# What a statement allows that it should not, in words.
too_much(statement) := "every action" if {
	some action in plan.list(plan.field(statement, "Action"))
	action in {"*", "*:*"}
} else := sprintf("every action but %s, on everything", [concat(", ", excepted)]) if {
	excepted := plan.list(plan.field(statement, "NotAction"))
	count(excepted) > 0
	everything(statement)
} else := sprintf("%s on everything", [concat(", ", sort(whole))]) if {
	whole := {action |
		some action in plan.list(plan.field(statement, "Action"))
		some service in wildcard_services
		lower(plan.text(action)) == sprintf("%s:*", [service])
	}
	count(whole) > 0
	everything(statement)
}

everything(statement) if "*" in plan.list(plan.field(statement, "Resource"))

everything(statement) if count(plan.list(plan.field(statement, "NotResource"))) > 0

anybody(statement) if statement.Principal == "*"

anybody(statement) if {
	is_object(statement.Principal)
	"*" in plan.list(plan.field(statement.Principal, "AWS"))
}

anybody(statement) if "NotPrincipal" in object.keys(statement)

limited(statement) if count(plan.list(plan.field(statement, "Condition"))) > 0

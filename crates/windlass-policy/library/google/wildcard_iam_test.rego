package library.google.wildcard_iam_test

import data.library.google.wildcard_iam
import rego.v1

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := wildcard_iam.deny with input as planned(type, after) with data.library.settings as {}
}

test_broad_roles if {
	wanted := {"google_project_iam_member.x grants roles/owner on a whole project: grant a narrower role"}
	messages("google_project_iam_member", {"role": "roles/owner", "member": "user:a@example.com"}) == wanted
	roles := wildcard_iam.google_broad_roles with data.library.settings as {}
	every role in roles {
		count(messages("google_folder_iam_binding", {"role": role})) == 1
		policy := json.marshal({"bindings": [{"role": role, "members": []}, {"role": "roles/viewer"}]})
		count(messages("google_organization_iam_policy", {"policy_data": policy})) == 1
	}
}

test_narrow_roles_and_resources if {
	messages("google_project_iam_member", {"role": "roles/storage.objectViewer"}) == set()
	messages("google_project_iam_member", {"role": null}) == set()
	messages("google_project_iam_policy", {"policy_data": null}) == set()
	messages("google_storage_bucket_iam_member", {"role": "roles/owner"}) == set()
}

test_which_roles_is_a_setting if {
	plan := planned("google_project_iam_member", {"role": "roles/editor"})
	count(wildcard_iam.deny) == 0 with input as plan with data.library.settings as {"google_broad_roles": ["roles/owner"]}
}

test_roles_of_ones_own if {
	count(messages("google_project_iam_custom_role", {"permissions": ["storage.*"]})) == 1
	count(messages("google_project_iam_custom_role", {"permissions": ["resourcemanager.projects.setIamPolicy"]})) == 1
	messages("google_project_iam_custom_role", {"permissions": ["storage.objects.get"]}) == set()
	messages("google_organization_iam_custom_role", {"permissions": null}) == set()
}

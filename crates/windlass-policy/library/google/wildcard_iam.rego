# METADATA
# title: Nobody on Google Cloud may do everything
# description: >-
#   Owners, editors and administrators of access of a project, folder or organisation, and roles of one's own that hold every permission
#   or that of granting any other.
# related_resources:
# - ref: https://cloud.google.com/iam/docs/using-iam-securely
# custom:
#   severity: critical
package library.google.wildcard_iam

import data.library.plan
import rego.v1

# Roles that nobody has on a whole project, folder or organisation.
default google_broad_roles := [
	"roles/owner",
	"roles/editor",
	"roles/iam.securityAdmin",
	"roles/iam.serviceAccountTokenCreator",
	"roles/resourcemanager.organizationAdmin",
	"roles/resourcemanager.projectIamAdmin",
]

google_broad_roles := data.library.settings.google_broad_roles

deny contains plan.result(change, msg) if {
	some change in plan.written
	regex.match(`^google_(project|folder|organization)_iam_(member|binding|policy)$`, change.type)
	some role in roles(change)
	role in google_broad_roles
	where := regex.find_n(`project|folder|organization`, change.type, 1)[0]
	msg := sprintf("%s grants %s on a whole %s: grant a narrower role", [change.address, role, where])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"google_project_iam_custom_role", "google_organization_iam_custom_role"}
	some permission in plan.list(plan.after(change, "permissions"))
	everything(permission)
	msg := sprintf("%s holds %s, which leads to everything: name the permissions that are needed", [change.address, permission])
}

roles(change) := {role | role := plan.after(change, "role")} | {binding.role |
	some binding in plan.list(plan.field(plan.document(plan.after(change, "policy_data")), "bindings"))
}

everything(permission) if contains(plan.text(permission), "*")

everything(permission) if {
	permission in {
		"iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.setIamPolicy", "resourcemanager.folders.setIamPolicy",
		"resourcemanager.organizations.setIamPolicy", "resourcemanager.projects.setIamPolicy",
	}
}

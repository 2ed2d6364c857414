# METADATA
# title: Nobody in Kubernetes may do everything
# description: >-
#   Roles with wildcards or with rights that lead to every other one, bindings of cluster-admin, bindings for everybody. Names of
#   `data.library.settings.admin_bindings` may bind cluster-admin.
# related_resources:
# - ref: https://kubernetes.io/docs/concepts/security/rbac-good-practices/
# custom:
#   severity: critical
package library.kubernetes.rbac

import data.library.kubernetes.objects
import data.library.plan
import rego.v1

# Bindings that may bind cluster-admin.
default admin_bindings := []

admin_bindings := data.library.settings.admin_bindings

deny contains plan.result(found, msg) if {
	some found in objects.all
	found.kind in {"Role", "ClusterRole"}
	some rule in plan.list(plan.field(found.manifest, "rules"))
	some name in {"resources", "verbs"}
	"*" in plan.list(plan.field(rule, name))
	msg := sprintf("%s allows all %s: name those that are needed", [found.address, name])
}

deny contains plan.result(found, msg) if {
	some found in objects.all
	found.kind in {"Role", "ClusterRole"}
	some rule in plan.list(plan.field(found.manifest, "rules"))
	some verb in plan.list(plan.field(rule, "verbs"))
	verb in {"bind", "escalate", "impersonate"}
	msg := sprintf("%s allows %s, which leads to every other right: remove it", [found.address, verb])
}

deny contains plan.result(found, msg) if {
	some found in objects.all
	found.kind in {"RoleBinding", "ClusterRoleBinding"}
	found.manifest.roleRef.name == "cluster-admin"
	not plan.field(objects.metadata(found), "name") in admin_bindings
	msg := sprintf("%s binds cluster-admin: bind a role with what is needed", [found.address])
}

deny contains plan.result(found, msg) if {
	some found in objects.all
	found.kind in {"RoleBinding", "ClusterRoleBinding"}
	some subject in plan.list(plan.field(found.manifest, "subjects"))
	subject.name in {"system:anonymous", "system:authenticated", "system:unauthenticated", "system:masters"}
	msg := sprintf("%s gives rights to %s: name the users, groups or service accounts", [found.address, subject.name])
}

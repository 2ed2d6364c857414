package library.kubernetes.rbac_test

import data.library.kubernetes.rbac
import rego.v1

messages(document) := {finding.msg | some finding in found} if {
	found := rbac.deny with input as document with data.library.settings as {}
}

role(rule) := {
	"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
	"metadata": {"name": "app"}, "rules": [rule],
}

binding(name, subject) := {
	"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "app"},
	"roleRef": {"kind": "ClusterRole", "name": name}, "subjects": [{"kind": "Group", "name": subject}],
}

test_roles if {
	messages(role({"apiGroups": [""], "resources": ["*"], "verbs": ["get"]})) == {"ClusterRole/app allows all resources: name those that are needed"}
	count(messages(role({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}))) == 1
	count(messages(role({"resources": ["clusterroles"], "verbs": ["bind", "escalate"]}))) == 2
	messages(role({"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get", "list"]})) == set()
	messages(object.remove(role({}), ["rules"])) == set()
}

test_bindings if {
	messages(binding("cluster-admin", "sre")) == {"ClusterRoleBinding/app binds cluster-admin: bind a role with what is needed"}
	count(messages(binding("view", "system:authenticated"))) == 1
	messages(binding("view", "sre")) == set()
}

test_bindings_that_may_are_a_setting if {
	plan := binding("cluster-admin", "sre")
	count(rbac.deny) == 0 with input as plan with data.library.settings as {"admin_bindings": ["app"]}
}

planned(type, after) := {"resource_changes": [{
	"address": "x", "mode": "managed", "type": type,
	"change": {
		"actions": ["create"], "after_unknown": {},
		"after": object.union({"metadata": [{"name": "app"}]}, after),
	},
}]}

test_typed_resources_of_a_plan if {
	rule := {"api_groups": [""], "resources": ["*"], "verbs": ["*"]}
	count(messages(planned("kubernetes_cluster_role_v1", {"rule": [rule]}))) == 2
	reference := {"role_ref": [{"kind": "ClusterRole", "name": "cluster-admin"}], "subject": [{"kind": "User", "name": "a"}]}
	count(messages(planned("kubernetes_cluster_role_binding", reference))) == 1
}

package library.kubernetes.labels_test

import data.library.kubernetes.labels
import rego.v1

messages(document, settings) := {finding.msg | some finding in found} if {
	found := labels.deny with input as document with data.library.settings as settings
}

service(metadata) := {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}

test_missing_labels_are_named if {
	messages(service({"name": "web"}), {}) == {"Service/web lacks labels: set app.kubernetes.io/name in its metadata"}
	count(messages(service({"name": "web", "labels": null}), {})) == 1
	count(messages(service(null), {})) == 1
	messages(service({"name": "web", "labels": {"app.kubernetes.io/name": "web"}}), {}) == set()
}

test_what_is_left_out if {
	messages(service({"name": "dns", "namespace": "kube-system"}), {}) == set()
	messages({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, {}) == set()
}

test_which_labels_is_a_setting if {
	messages(service({"name": "web"}), {"kubernetes_labels": []}) == set()
	count(messages(service({"name": "web"}), {"kubernetes_labels": ["team"]})) == 1
}

test_typed_resources_of_a_plan if {
	plan := {"resource_changes": [{
		"address": "kubernetes_service.web", "mode": "managed", "type": "kubernetes_service",
		"change": {"actions": ["create"], "after": {"metadata": [{"name": "web", "labels": null}], "spec": [{}]}, "after_unknown": {}},
	}]}
	messages(plan, {}) == {"kubernetes_service.web lacks labels: set app.kubernetes.io/name in its metadata"}
}

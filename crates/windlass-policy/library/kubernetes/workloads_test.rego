package library.kubernetes.workloads_test

import data.library.kubernetes.workloads
import rego.v1

safe := {
	"name": "app", "image": "registry.example.com:5000/app:1.2.3",
	"resources": {"limits": {"memory": "128Mi"}},
	"securityContext": {"runAsNonRoot": true},
}

deployment(spec) := {
	"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
	"spec": {"template": {"spec": spec}},
}

messages(spec) := {finding.msg | some finding in found} if {
	found := workloads.deny with input as deployment(spec) with data.library.settings as {}
}

with_context(context) := {"containers": [object.union(safe, {"securityContext": context})]}

with_image(image) := {"containers": [object.union(safe, {"image": image})]}

test_what_is_safe_passes if messages({"containers": [safe], "initContainers": [safe]}) == set()

test_rights_of_the_host if {
	every name in {"hostNetwork", "hostPID", "hostIPC"} {
		messages({name: true, "containers": [safe]}) == {sprintf("Deployment/web shares a namespace of its host: remove %s", [name])}
		messages({name: false, "containers": [safe]}) == set()
	}
	volume := {"name": "v", "hostPath": {"path": "/var/run"}}
	count(messages({"containers": [safe], "volumes": [volume]})) == 1
	messages({"containers": [safe], "volumes": [{"name": "v", "emptyDir": {}}]}) == set()
	messages({"containers": [safe], "volumes": null}) == set()
}

test_privileges if {
	messages(with_context({"privileged": true})) == {"container app of Deployment/web may do everything on its host: remove privileged"}
	count(messages(with_context({"allowPrivilegeEscalation": true}))) == 1
	count(messages(with_context({"capabilities": {"add": ["NET_BIND_SERVICE", "SYS_ADMIN"]}}))) == 1
	messages(with_context({"capabilities": {"drop": ["ALL"], "add": ["CAP_NET_BIND_SERVICE"]}})) == set()
	messages(with_context({"capabilities": null})) == set()
	count(messages({"containers": [safe], "initContainers": [object.union(safe, {"securityContext": {"privileged": true}})]})) == 1
}

test_root if {
	message := "container app of Deployment/web may run as root: set runAsNonRoot to true in its securityContext"
	plain := object.remove(safe, ["securityContext"])
	messages({"containers": [plain]}) == {message}
	messages({"containers": [plain], "securityContext": {"runAsNonRoot": true}}) == set()
	messages({"containers": [plain], "securityContext": {"runAsUser": 1000}}) == set()
	messages({"containers": [plain], "securityContext": {"runAsUser": 0}}) == {message}
	messages(with_context({"runAsUser": 0})) == {message}
	messages(with_context({"runAsNonRoot": false})) == {message}
	messages({"containers": [object.union(safe, {"securityContext": {"runAsNonRoot": false}})], "securityContext": {"runAsNonRoot": true}}) == {message}
}

test_images if {
	count(messages(with_image("app"))) == 1
	count(messages(with_image("registry.example.com:5000/app"))) == 1
	count(messages(with_image("app:latest"))) == 1
	messages(with_image("app@sha256:0123")) == set()
	messages({"containers": [object.remove(safe, ["image"])]}) == set()
}

test_limits if {
	message := "container app of Deployment/web can take all of its node: set limits for memory in its resources"
	messages({"containers": [object.remove(safe, ["resources"])]}) == {message}
	messages({"containers": [object.union(object.remove(safe, ["resources"]), {"resources": {"limits": null}})]}) == {message}
	none := deployment({"containers": [object.remove(safe, ["resources"])]})
	count(workloads.deny) == 0 with input as none with data.library.settings as {"required_limits": []}
}

test_namespaces_of_the_cluster_are_left_out if {
	own := object.union(deployment(with_context({"privileged": true})), {"metadata": {"namespace": "kube-system"}})
	count(workloads.deny) == 0 with input as own with data.library.settings as {}
	count(workloads.deny) == 1 with input as own with data.library.settings as {"system_namespaces": []}
}

test_other_settings if {
	allowed := {"allowed_capabilities": ["SYS_TIME"], "allowed_host_paths": ["/data"]}
	capable := deployment(with_context({"capabilities": {"add": ["SYS_TIME"]}}))
	count(workloads.deny) == 0 with input as capable with data.library.settings as allowed
	mounted := deployment({"containers": [safe], "volumes": [{"name": "v", "hostPath": {"path": "/data"}}]})
	count(workloads.deny) == 0 with input as mounted with data.library.settings as allowed
}

test_typed_resources_of_a_plan if {
	plan := {"resource_changes": [{
		"address": "kubernetes_pod_v1.web", "mode": "managed", "type": "kubernetes_pod_v1",
		"change": {"actions": ["create"], "before": null, "after_unknown": {}, "after": {
			"metadata": [{"name": "web"}],
			"spec": [{"host_network": true, "container": [{
				"name": "app", "image": "app:latest", "resources": [],
				"security_context": [{"privileged": true, "run_as_user": "0", "capabilities": [{"add": ["SYS_ADMIN"]}]}],
			}]}],
		}},
	}]}
	found := workloads.deny with input as plan with data.library.settings as {}
	count(found) == 6
	{finding.address | some finding in found} == {"kubernetes_pod_v1.web"}
}

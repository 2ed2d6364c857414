package library.kubernetes.objects_test

import data.library.kubernetes.objects
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

pod := {"containers": [{"name": "app", "image": "app:1"}]}

addresses(document) := {found.address | some found in all} if {
	all := objects.all with input as document
}

test_manifests_lists_and_combined_files if {
	service := {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
	addresses(service) == {"Service/web"}
	addresses({"apiVersion": "v1", "kind": "List", "items": [service]}) == {"Service/web"}
	addresses([{"path": "a.yaml", "contents": service}, {"path": "b.yaml", "contents": [service]}]) == {"Service/web"}
	addresses({"kind": "Kustomization"}) == set()
	addresses({"resource_changes": []}) == set()
}

test_every_kind_of_workload_has_pods if {
	every kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"} {
		document := {"apiVersion": "apps/v1", "kind": kind, "spec": {"template": {"spec": pod}}}
		found := objects.workloads with input as document
		{workload.pod | some workload in found} == {pod}
	}
	cron := {"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}
	found := objects.workloads with input as cron
	{workload.pod | some workload in found} == {pod}
	single := {"apiVersion": "v1", "kind": "Pod", "spec": pod}
	pods := objects.workloads with input as single
	{workload.pod | some workload in pods} == {pod}
}

test_manifests_of_a_plan if {
	manifest := {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}
	addresses(planned("kubernetes_manifest", {"manifest": manifest}, {})) == {"kubernetes_manifest.x"}
	addresses(planned("kubectl_manifest", {"yaml_body": json.marshal(manifest)}, {})) == {"kubectl_manifest.x"}
	addresses(planned("kubectl_manifest", {"yaml_body": null}, {})) == set()
	addresses(planned("kubernetes_manifest", {}, {"manifest": true})) == set()
}

container := {
	"name": "app", "image": "app:1", "resources": [{"limits": {"memory": "1Gi"}, "requests": {}}],
	"security_context": [{"privileged": true, "run_as_user": "0", "run_as_non_root": null, "capabilities": [{"add": ["SYS_ADMIN"]}]}],
}

spec := {"host_network": true, "container": [container], "init_container": [], "volume": [{"name": "v", "host_path": [{"path": "/"}]}]}

wanted := {
	"hostNetwork": true,
	"containers": [{
		"name": "app", "image": "app:1", "resources": {"limits": {"memory": "1Gi"}},
		"securityContext": {"privileged": true, "runAsUser": "0", "capabilities": [{"add": ["SYS_ADMIN"]}]},
	}],
	"initContainers": [],
	"securityContext": {},
	"volumes": [{"name": "v", "hostPath": {"path": "/"}}],
}

test_typed_resources_have_the_shape_of_manifests if {
	metadata := [{"name": "a", "namespace": "b", "labels": null}]
	plain := planned("kubernetes_pod_v1", {"metadata": metadata, "spec": [spec]}, {})
	pods := objects.workloads with input as plain
	{workload.pod | some workload in pods} == {wanted}
	nested := planned("kubernetes_deployment", {"metadata": metadata, "spec": [{"template": [{"spec": [spec]}]}]}, {})
	deployments := objects.workloads with input as nested
	{workload.pod | some workload in deployments} == {wanted}
	template := [{"spec": [{"template": [{"spec": [spec]}]}]}]
	cron := planned("kubernetes_cron_job_v1", {"metadata": metadata, "spec": [{"job_template": template}]}, {})
	jobs := objects.workloads with input as cron
	{workload.pod | some workload in jobs} == {wanted}
}

test_what_is_not_known_is_there if {
	hidden := {"container": [{"resources": [{"limits": {"cpu": true}}], "security_context": [{"run_as_non_root": true}]}]}
	after := {"metadata": [{"name": "a"}], "spec": [{"container": [{"name": "app", "image": "app:1"}]}]}
	found := objects.workloads with input as planned("kubernetes_pod", after, {"spec": [hidden]})
	some workload in found
	workload.pod.containers[0].resources.limits == {"cpu": "known after the apply"}
	workload.pod.containers[0].securityContext == {"runAsNonRoot": true}
}

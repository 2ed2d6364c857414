# METADATA
# title: Objects of Kubernetes, wherever they are written
# description: >-
#   Manifests as input (one, a List, or many with --combine), and `kubernetes_manifest`, `kubectl_manifest` and the typed resources of a
#   plan, all in the shape of manifests. It decides nothing.
package library.kubernetes.objects

import data.library.plan
import rego.v1

# Every object: `{"address": what to call it, "kind", "manifest"}`.
all contains named(manifest) if some manifest in manifests(input)

all contains named(manifest) if {
	is_array(input)
	some file in input
	some document in plan.list(plan.field(file, "contents"))
	some manifest in manifests(document)
}

all contains {"address": change.address, "kind": manifest.kind, "manifest": manifest} if {
	some change in plan.written
	some manifest in planned(change)
	is_string(manifest.kind)
}

# Every object that runs containers, with the specification of its pods as `pod`.
workloads contains object.union(found, {"pod": pod}) if {
	some found in all
	pod := pod_of(found.manifest)
}

# Whether an object is in a namespace that belongs to the cluster itself.
namespaced(found, namespaces) if plan.field(metadata(found), "namespace") in namespaces

# What an object says about itself; empty when nothing.
metadata(found) := found.manifest.metadata if {
	is_object(found.manifest.metadata)
} else := {}

# All containers of a workload, those that run before included.
containers(found) := array.concat(plan.list(plan.field(found.pod, "containers")), before) if {
	before := plan.list(plan.field(found.pod, "initContainers"))
}

manifests(document) := [document] if {
	is_object(document)
	document.apiVersion
	document.kind != "List"
} else := plan.list(document.items) if {
	document.kind == "List"
} else := []

named(manifest) := {"address": address, "kind": manifest.kind, "manifest": manifest} if {
	address := sprintf("%s/%s", [manifest.kind, label(plan.field(manifest, "metadata"))])
}

# The name that something has.
label(holder) := holder.name if {
	is_string(plan.field(holder, "name"))
} else := "?"

pod_of(manifest) := manifest.spec if {
	manifest.kind == "Pod"
} else := manifest.spec.jobTemplate.spec.template.spec if {
	manifest.kind == "CronJob"
} else := manifest.spec.template.spec if {
	manifest.kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"}
}

# The manifests that a resource of a plan makes.
planned(change) := [plan.after(change, "manifest")] if {
	change.type == "kubernetes_manifest"
} else := [yaml.unmarshal(plan.after(change, "yaml_body"))] if {
	change.type == "kubectl_manifest"
	yaml.is_valid(plan.after(change, "yaml_body"))
} else := [object.union(typed(change, kind), {"apiVersion": "v1", "kind": kind, "metadata": described(change)})] if {
	kind := kinds[trim_suffix(trim_suffix(change.type, "_v1"), "_v2")]
}

kinds := {
	"kubernetes_cluster_role": "ClusterRole",
	"kubernetes_cluster_role_binding": "ClusterRoleBinding",
	"kubernetes_cron_job": "CronJob",
	"kubernetes_daemon_set": "DaemonSet",
	"kubernetes_daemonset": "DaemonSet",
	"kubernetes_deployment": "Deployment",
	"kubernetes_ingress": "Ingress",
	"kubernetes_job": "Job",
	"kubernetes_namespace": "Namespace",
	"kubernetes_pod": "Pod",
	"kubernetes_replication_controller": "ReplicationController",
	"kubernetes_role": "Role",
	"kubernetes_role_binding": "RoleBinding",
	"kubernetes_service": "Service",
	"kubernetes_stateful_set": "StatefulSet",
}

described(change) := [renamed(found.block, {"name": "name", "namespace": "namespace", "labels": "labels", "annotations": "annotations"}) |
	some found in plan.blocks(change, "metadata")
][0]

typed(change, "Pod") := {"spec": pod} if pod := pod_spec(change, ["spec", 0])

typed(change, "CronJob") := {"spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}} if {
	pod := pod_spec(change, ["spec", 0, "job_template", 0, "spec", 0, "template", 0, "spec", 0])
}

typed(change, kind) := {"spec": {"template": {"spec": pod}}} if {
	kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicationController", "Job"}
	pod := pod_spec(change, ["spec", 0, "template", 0, "spec", 0])
}

typed(_, "Namespace") := {}

typed(change, "Service") := {"spec": renamed(change.change.after.spec[0], {
	"type": "type",
	"load_balancer_source_ranges": "loadBalancerSourceRanges",
	"external_ips": "externalIPs",
})}

typed(change, "Ingress") := {"spec": {"tls": [{"hosts": plan.field(tls, "hosts")} |
	some tls in plan.list(plan.field(change.change.after.spec[0], "tls"))
]}}

typed(change, kind) := {"rules": [renamed(found.block, {
	"api_groups": "apiGroups",
	"resources": "resources",
	"verbs": "verbs",
}) |
	some found in plan.blocks(change, "rule")
]} if {
	kind in {"Role", "ClusterRole"}
}

typed(change, kind) := {"roleRef": role, "subjects": [found.block | some found in plan.blocks(change, "subject")]} if {
	kind in {"RoleBinding", "ClusterRoleBinding"}
	role := [found.block | some found in plan.blocks(change, "role_ref")][0]
}

pod_spec(change, path) := object.union(plain, {
	"containers": [container(item, at(change, array.concat(path, ["container", index]))) |
		some index, item in plan.list(plan.field(spec, "container"))
	],
	"initContainers": [container(item, at(change, array.concat(path, ["init_container", index]))) |
		some index, item in plan.list(plan.field(spec, "init_container"))
	],
	"securityContext": contexts(spec, plan.field(at(change, path), "security_context")),
	"volumes": [{"name": label(volume), "hostPath": host} |
		some volume in plan.list(plan.field(spec, "volume"))
		some host in plan.list(plan.field(volume, "host_path"))
	],
}) if {
	spec := followed(change.change.after, path)
	plain := renamed(spec, {"host_network": "hostNetwork", "host_pid": "hostPID", "host_ipc": "hostIPC"})
}

# What stands at a path through lists and objects.
followed(document, path) := value if walk(document, [path, value])

# What is not known at a path; empty when nothing.
at(change, path) := unknown if {
	unknown := followed(change.change.after_unknown, path)
	is_object(unknown)
} else := {}

container(item, unknown) := object.union(renamed(item, {"name": "name", "image": "image"}), {
	"securityContext": contexts(item, plan.field(unknown, "security_context")),
	"resources": {"limits": object.union(coming, limits)},
}) if {
	limits := {name: value |
		some resources in plan.list(plan.field(item, "resources"))
		some name, value in plan.field(resources, "limits")
	}
	coming := {name: "known after the apply" |
		some resources in plan.list(plan.field(unknown, "resources"))
		some name, hidden in plan.field(resources, "limits")
		hidden == true
	}
}

contexts(holder, unknown) := object.union(coming, known) if {
	blocks := plan.list(plan.field(holder, "security_context"))
	known := {name: value |
		some block in blocks
		some name, value in renamed(block, {
			"privileged": "privileged", "run_as_user": "runAsUser", "run_as_non_root": "runAsNonRoot",
			"allow_privilege_escalation": "allowPrivilegeEscalation", "capabilities": "capabilities",
		})
	}
	coming := {"runAsNonRoot": true |
		some block in plan.list(unknown)
		block.run_as_non_root == true
	}
}

# The attributes of `names` that are there, under the names of manifests.
renamed(block, names) := {new: value |
	some name, new in names
	value := block[name]
	value != null
}

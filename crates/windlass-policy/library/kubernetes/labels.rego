# METADATA
# title: Everything in Kubernetes says what it belongs to
# description: >-
#   Workloads, services and entrances carry the labels of `data.library.settings.kubernetes_labels`.
# related_resources:
# - ref: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
# custom:
#   severity: low
package library.kubernetes.labels

import data.library.kubernetes.objects
import data.library.plan
import rego.v1

# Labels that every workload, service and entrance carries.
default kubernetes_labels := ["app.kubernetes.io/name"]

kubernetes_labels := data.library.settings.kubernetes_labels

# Namespaces of the cluster itself, which are left out.
default system_namespaces := ["kube-system"]

system_namespaces := data.library.settings.system_namespaces

labelled := {
	"CronJob", "DaemonSet", "Deployment", "Ingress", "Job", "Pod", "ReplicaSet", "ReplicationController", "Service",
	"StatefulSet",
}

deny contains plan.result(found, msg) if {
	some found in objects.all
	found.kind in labelled
	not objects.namespaced(found, system_namespaces)
	names := {name | some name, _ in plan.field(objects.metadata(found), "labels")}
	missing := [name | some name in kubernetes_labels; not name in names]
	count(missing) > 0
	msg := sprintf("%s lacks labels: set %s in its metadata", [found.address, concat(", ", missing)])
}

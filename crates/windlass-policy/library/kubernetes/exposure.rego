# METADATA
# title: Nothing in Kubernetes is open to the internet by accident
# description: >-
#   Services that a load balancer or every node opens to everybody, addresses from outside, entrances without TLS. Internal load
#   balancers are left alone.
# related_resources:
# - ref: https://kubernetes.io/docs/concepts/services-networking/service/
# custom:
#   severity: high
package library.kubernetes.exposure

import data.library.kubernetes.objects
import data.library.plan
import rego.v1

# Namespaces of the cluster itself, which are left out.
default system_namespaces := ["kube-system"]

system_namespaces := data.library.settings.system_namespaces

# Annotations that keep a load balancer inside.
inside := {
	"cloud.google.com/load-balancer-type": {"Internal", "internal"},
	"networking.gke.io/load-balancer-type": {"Internal", "internal"},
	"service.beta.kubernetes.io/aws-load-balancer-internal": {"true", "0.0.0.0/0"},
	"service.beta.kubernetes.io/aws-load-balancer-scheme": {"internal"},
	"service.beta.kubernetes.io/azure-load-balancer-internal": {"true"},
}

deny contains plan.result(found, msg) if {
	some found in judged
	found.kind == "Service"
	found.manifest.spec.type == "LoadBalancer"
	not inner(found)
	not limited(found)
	msg := sprintf(
		"%s is open to the internet: set loadBalancerSourceRanges, or the annotation of an internal load balancer",
		[found.address],
	)
}

deny contains plan.result(found, msg) if {
	some found in judged
	found.kind == "Service"
	found.manifest.spec.type == "NodePort"
	msg := sprintf("%s is open on every node: use ClusterIP and an Ingress", [found.address])
}

deny contains plan.result(found, msg) if {
	some found in judged
	found.kind == "Service"
	count(plan.list(plan.field(found.manifest.spec, "externalIPs"))) > 0
	msg := sprintf("%s takes traffic of addresses that nobody checks: remove externalIPs", [found.address])
}

deny contains plan.result(found, msg) if {
	some found in judged
	found.kind == "Ingress"
	count(plan.list(plan.field(plan.field(found.manifest, "spec"), "tls"))) == 0
	msg := sprintf("%s speaks plain HTTP: add tls with the secret of a certificate", [found.address])
}

judged contains found if {
	some found in objects.all
	not objects.namespaced(found, system_namespaces)
}

inner(found) if {
	some key, value in plan.field(objects.metadata(found), "annotations")
	value in inside[key]
}

limited(found) if {
	ranges := plan.list(plan.field(found.manifest.spec, "loadBalancerSourceRanges"))
	count(ranges) > 0
	every range in ranges {
		not plan.internet(range)
	}
}

package library.kubernetes.exposure_test

import data.library.kubernetes.exposure
import rego.v1

messages(document) := {finding.msg | some finding in found} if {
	found := exposure.deny with input as document with data.library.settings as {}
}

service(annotations, spec) := {
	"apiVersion": "v1", "kind": "Service",
	"metadata": {"name": "web", "annotations": annotations}, "spec": spec,
}

test_load_balancers if {
	messages(service(null, {"type": "LoadBalancer"})) == {"Service/web is open to the internet: set loadBalancerSourceRanges, or the annotation of an internal load balancer"}
	count(messages(service({}, {"type": "LoadBalancer", "loadBalancerSourceRanges": ["0.0.0.0/0"]}))) == 1
	messages(service({}, {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]})) == set()
	messages(service({}, {"type": "ClusterIP"})) == set()
	messages(service({}, {})) == set()
	every key, values in exposure.inside {
		every value in values {
			messages(service({key: value}, {"type": "LoadBalancer"})) == set()
		}
	}
}

test_nodes_and_addresses if {
	count(messages(service({}, {"type": "NodePort"}))) == 1
	count(messages(service({}, {"type": "ClusterIP", "externalIPs": ["203.0.113.7"]}))) == 1
	messages(service({}, {"type": "ClusterIP", "externalIPs": []})) == set()
}

test_entrances if {
	ingress := {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}, "spec": {"rules": []}}
	messages(ingress) == {"Ingress/web speaks plain HTTP: add tls with the secret of a certificate"}
	messages(object.union(ingress, {"spec": {"tls": [{"secretName": "web"}]}})) == set()
}

test_namespaces_of_the_cluster_are_left_out if {
	own := object.union(service({}, {"type": "NodePort"}), {"metadata": {"namespace": "kube-system"}})
	messages(own) == set()
}

planned(type, spec) := {"resource_changes": [{
	"address": "x", "mode": "managed", "type": type,
	"change": {"actions": ["create"], "after": {"metadata": [{"name": "web"}], "spec": [spec]}, "after_unknown": {}},
}]}

test_typed_resources_of_a_plan if {
	count(messages(planned("kubernetes_service_v1", {"type": "LoadBalancer", "load_balancer_source_ranges": null}))) == 1
	messages(planned("kubernetes_service", {"type": "LoadBalancer", "load_balancer_source_ranges": ["203.0.113.0/24"]})) == set()
	count(messages(planned("kubernetes_ingress_v1", {"tls": []}))) == 1
	messages(planned("kubernetes_ingress_v1", {"tls": [{"secret_name": "web"}]})) == set()
}

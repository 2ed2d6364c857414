package library.google.public_exposure_test

import data.library.google.public_exposure
import rego.v1

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := public_exposure.deny with input as planned(type, after) with data.library.settings as {}
}

firewall(protocol, ports) := {
	"direction": "INGRESS", "source_ranges": ["0.0.0.0/0"], "disabled": null,
	"allow": [{"protocol": protocol, "ports": ports}],
}

test_firewalls if {
	wanted := {"google_compute_firewall.x lets the whole internet in on port 22: name the ranges that need it in source_ranges"}
	messages("google_compute_firewall", firewall("tcp", ["22", "443"])) == wanted
	some every_port in messages("google_compute_firewall", firewall("tcp", null))
	contains(every_port, "all of tcp")
	some all in messages("google_compute_firewall", firewall("all", []))
	contains(all, "all protocols")
	messages("google_compute_firewall", firewall("icmp", [])) == set()
	messages("google_compute_firewall", firewall("tcp", ["80", "443"])) == set()
	every change in [{"direction": "EGRESS"}, {"disabled": true}, {"source_ranges": ["10.0.0.0/8"]}, {"source_ranges": null}] {
		messages("google_compute_firewall", object.union(firewall("tcp", ["22"]), change)) == set()
	}
}

test_which_ports_may_be_open_is_a_setting if {
	plan := planned("google_compute_firewall", firewall("tcp", ["22"]))
	count(public_exposure.deny) == 0 with input as plan with data.library.settings as {"public_ports": [22]}
}

test_grants_to_everybody if {
	member := {"role": "roles/storage.objectViewer", "member": "allUsers"}
	wanted := {"google_storage_bucket_iam_member.x grants roles/storage.objectViewer to allUsers: name the members that need it"}
	messages("google_storage_bucket_iam_member", member) == wanted
	messages("google_storage_bucket_iam_member", object.union(member, {"member": "user:a@example.com"})) == set()
	binding := {"role": "roles/run.invoker", "members": ["user:a@example.com", "allAuthenticatedUsers"]}
	count(messages("google_cloud_run_service_iam_binding", binding)) == 1
	policy := {"policy_data": json.marshal({"bindings": [binding]})}
	count(messages("google_pubsub_topic_iam_policy", policy)) == 1
	messages("google_pubsub_topic_iam_policy", {"policy_data": null}) == set()
}

test_roles_that_everybody_may_have_are_a_setting if {
	plan := planned("google_cloud_run_service_iam_member", {"role": "roles/run.invoker", "member": "allUsers"})
	count(public_exposure.deny) == 1 with input as plan with data.library.settings as {}
	count(public_exposure.deny) == 0 with input as plan with data.library.settings as {"public_roles": ["roles/run.invoker"]}
}

test_lists_of_buckets if {
	count(messages("google_storage_bucket_access_control", {"entity": "allUsers"})) == 1
	messages("google_storage_bucket_access_control", {"entity": "user-a@example.com"}) == set()
	count(messages("google_storage_bucket_acl", {"predefined_acl": "publicRead"})) == 1
	messages("google_storage_bucket_acl", {"predefined_acl": "private"}) == set()
	count(messages("google_bigquery_dataset", {"access": [{"special_group": "allAuthenticatedUsers"}]})) == 1
	messages("google_bigquery_dataset", {"access": [{"special_group": "projectOwners"}]}) == set()
}

network(range) := {"settings": [{"ip_configuration": [{"authorized_networks": [{"value": range}]}]}]}

test_databases if {
	count(messages("google_sql_database_instance", network("0.0.0.0/0"))) == 1
	messages("google_sql_database_instance", network("203.0.113.0/24")) == set()
	messages("google_sql_database_instance", {"settings": [{"ip_configuration": null}]}) == set()
}

test_clusters if {
	type := "google_container_cluster"
	count(messages(type, {"master_authorized_networks_config": []})) == 1
	open := {"master_authorized_networks_config": [{"cidr_blocks": [{"cidr_block": "0.0.0.0/0"}]}]}
	count(messages(type, open)) == 1
	messages(type, {"master_authorized_networks_config": [{"cidr_blocks": [{"cidr_block": "203.0.113.0/24"}]}]}) == set()
	messages(type, {"master_authorized_networks_config": [{"cidr_blocks": []}]}) == set()
	messages(type, {"private_cluster_config": [{"enable_private_endpoint": true}]}) == set()
}

test_external_addresses_are_a_warning if {
	plan := planned("google_compute_instance", {"network_interface": [{"access_config": [{}]}]})
	count(public_exposure.warn) == 1 with input as plan
	without := planned("google_compute_instance", {"network_interface": [{"access_config": []}]})
	count(public_exposure.warn) == 0 with input as without
}

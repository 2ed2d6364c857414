package library.azure.public_exposure_test

import data.library.azure.public_exposure
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := public_exposure.deny with input as planned(type, after, {}) with data.library.settings as {}
}

inbound := {
	"direction": "Inbound", "access": "Allow", "protocol": "Tcp", "source_address_prefix": "*",
	"source_address_prefixes": null, "destination_port_range": "22", "destination_port_ranges": null,
}

test_rules_that_let_everybody_in if {
	message := "azurerm_network_security_rule.x lets the whole internet in on port 22: name the ranges that need it in source_address_prefixes"
	messages("azurerm_network_security_rule", inbound) == {message}
	several := object.union(inbound, {
		"source_address_prefix": null, "source_address_prefixes": ["10.0.0.0/8", "0.0.0.0/0"],
		"destination_port_range": null, "destination_port_ranges": ["443", "3389", "8000-9000"],
	})
	some ports in messages("azurerm_network_security_rule", several)
	contains(ports, "on port 3389, port 8000-9000:")
	some all in messages("azurerm_network_security_rule", object.union(inbound, {"destination_port_range": "*"}))
	contains(all, "all ports")
	count(messages("azurerm_network_security_group", {"security_rule": [inbound]})) == 1
}

test_rules_that_may_be if {
	every change in [
		{"direction": "Outbound"}, {"access": "Deny"}, {"source_address_prefix": "10.0.0.0/8"},
		{"destination_port_range": "443"}, {"source_address_prefix": "VirtualNetwork"}, {"source_address_prefix": null},
	] {
		messages("azurerm_network_security_rule", object.union(inbound, change)) == set()
	}
	count(messages("azurerm_network_security_rule", object.union(inbound, {"destination_port_range": "443", "protocol": "*"}))) == 1
	messages("azurerm_network_security_group", {"security_rule": null}) == set()
}

test_which_ports_may_be_open_is_a_setting if {
	plan := planned("azurerm_network_security_rule", inbound, {})
	count(public_exposure.deny) == 0 with input as plan with data.library.settings as {"public_ports": [22]}
}

test_storage if {
	count(messages("azurerm_storage_account", {"allow_nested_items_to_be_public": true})) == 1
	messages("azurerm_storage_account", {"allow_nested_items_to_be_public": false}) == set()
	count(messages("azurerm_storage_container", {"container_access_type": "blob"})) == 1
	messages("azurerm_storage_container", {"container_access_type": "private"}) == set()
}

test_services_that_can_be_reached if {
	every type in public_exposure.reachable {
		count(messages(type, {})) == 1
		count(messages(type, {"public_network_access_enabled": true})) == 1
		messages(type, {"public_network_access_enabled": false}) == set()
		unknown := planned(type, {}, {"public_network_access_enabled": true})
		count(public_exposure.deny) == 0 with input as unknown
	}
}

test_services_that_are_guarded_otherwise if {
	messages("azurerm_key_vault", {"network_acls": [{"default_action": "Deny"}]}) == set()
	count(messages("azurerm_key_vault", {"network_acls": [{"default_action": "Allow"}]})) == 1
	messages("azurerm_container_registry", {"network_rule_set": [{"default_action": "Deny"}]}) == set()
	messages("azurerm_cosmosdb_account", {"ip_range_filter": ["203.0.113.0/24"]}) == set()
	count(messages("azurerm_cosmosdb_account", {"ip_range_filter": []})) == 1
	messages("azurerm_cosmosdb_account", {"ip_range_filter": "203.0.113.0/24,198.51.100.7"}) == set()
	count(messages("azurerm_cosmosdb_account", {"ip_range_filter": "203.0.113.0/24, 0.0.0.0/0"})) == 1
	count(messages("azurerm_cosmosdb_account", {"ip_range_filter": ""})) == 1
	messages("azurerm_cosmosdb_account", {"is_virtual_network_filter_enabled": true}) == set()
	messages("azurerm_postgresql_flexible_server", {"delegated_subnet_id": "/subscriptions/x"}) == set()
	count(messages("azurerm_postgresql_flexible_server", {"delegated_subnet_id": null})) == 1
	coming := planned("azurerm_postgresql_flexible_server", {}, {"delegated_subnet_id": true})
	count(public_exposure.deny) == 0 with input as coming
}

test_firewalls_of_databases if {
	every type, names in public_exposure.firewalls {
		count(messages(type, {names[0]: "0.0.0.0", names[1]: "255.255.255.255"})) == 1
		messages(type, {names[0]: "203.0.113.7", names[1]: "203.0.113.7"}) == set()
		azure := planned(type, {names[0]: "0.0.0.0", names[1]: "0.0.0.0"}, {})
		count(public_exposure.deny) == 0 with input as azure
		count(public_exposure.warn) == 1 with input as azure
	}
}

test_clusters if {
	type := "azurerm_kubernetes_cluster"
	count(messages(type, {"private_cluster_enabled": false, "api_server_access_profile": []})) == 1
	count(messages(type, {"api_server_access_profile": [{"authorized_ip_ranges": ["0.0.0.0/0"]}]})) == 1
	messages(type, {"api_server_access_profile": [{"authorized_ip_ranges": ["203.0.113.0/24"]}]}) == set()
	messages(type, {"api_server_authorized_ip_ranges": ["203.0.113.0/24"]}) == set()
	messages(type, {"private_cluster_enabled": true}) == set()
	coming := planned(type, {"api_server_access_profile": [{}]}, {"api_server_access_profile": [{"authorized_ip_ranges": true}]})
	count(public_exposure.deny) == 0 with input as coming
}

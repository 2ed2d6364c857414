# METADATA
# title: Nothing of Azure is open to the internet by accident
# description: >-
#   Security rules that let the whole internet in, storage that anybody can read, databases, vaults, registries and clusters that can
#   be reached from everywhere. Web ports may be open; `data.library.settings.public_ports` names which.
# related_resources:
# - ref: https://learn.microsoft.com/en-us/security/benchmark/azure/mcsb-network-security
# custom:
#   severity: high
package library.azure.public_exposure

import data.library.plan
import rego.v1

# Ports that may be open to the internet, over TCP.
default public_ports := [80, 443]

public_ports := data.library.settings.public_ports

# Types that can be reached from everywhere unless public_network_access_enabled = false.
reachable := {
	"azurerm_container_registry",
	"azurerm_cosmosdb_account",
	"azurerm_key_vault",
	"azurerm_mariadb_server",
	"azurerm_mssql_server",
	"azurerm_mysql_server",
	"azurerm_postgresql_flexible_server",
	"azurerm_postgresql_server",
	"azurerm_redis_cache",
}

# Types of firewall rules with the attributes of their range.
firewalls := {
	"azurerm_mariadb_firewall_rule": ["start_ip_address", "end_ip_address"],
	"azurerm_mssql_firewall_rule": ["start_ip_address", "end_ip_address"],
	"azurerm_mysql_firewall_rule": ["start_ip_address", "end_ip_address"],
	"azurerm_mysql_flexible_server_firewall_rule": ["start_ip_address", "end_ip_address"],
	"azurerm_postgresql_firewall_rule": ["start_ip_address", "end_ip_address"],
	"azurerm_postgresql_flexible_server_firewall_rule": ["start_ip_address", "end_ip_address"],
	"azurerm_redis_firewall_rule": ["start_ip", "end_ip"],
	"azurerm_sql_firewall_rule": ["start_ip_address", "end_ip_address"],
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some rule in rules(change)
	open(rule)
	msg := sprintf(
		"%s lets the whole internet in on %s: name the ranges that need it in source_address_prefixes",
		[change.address, concat(", ", closed(rule))],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "azurerm_storage_account"
	some name in {"allow_nested_items_to_be_public", "allow_blob_public_access"}
	plan.after(change, name) == true
	msg := sprintf("%s can have containers that anybody reads: set %s = false", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "azurerm_storage_container"
	access := plan.after(change, "container_access_type")
	access in {"blob", "container"}
	msg := sprintf("%s can be read by anybody: set container_access_type = \"private\"", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in reachable
	not plan.unknown(change, "public_network_access_enabled")
	not plan.value(change, "public_network_access_enabled") == false
	not guarded(change)
	msg := sprintf(
		"%s can be reached from the internet: set public_network_access_enabled = false, or limit who may reach it",
		[change.address],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	names := firewalls[change.type]
	plan.after(change, names[0]) in {"0.0.0.0", "1.0.0.0", "0.0.0.1"}
	plan.after(change, names[1]) in {"255.255.255.255", "255.255.255.254"}
	msg := sprintf("%s lets the whole internet in: name the range that needs it", [change.address])
}

warn contains plan.result(change, msg) if {
	some change in plan.written
	names := firewalls[change.type]
	plan.after(change, names[0]) == "0.0.0.0"
	plan.after(change, names[1]) == "0.0.0.0"
	msg := sprintf("%s lets all of Azure in, other customers included: use a private endpoint", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "azurerm_kubernetes_cluster"
	plan.off(change, "private_cluster_enabled")
	not plan.unknown(change, "api_server_access_profile")
	not authorised(change)
	msg := sprintf(
		"the API of %s is open to the internet: set authorized_ip_ranges in its api_server_access_profile, or private_cluster_enabled",
		[change.address],
	)
}

rules(change) := [change.change.after] if change.type == "azurerm_network_security_rule"

rules(change) := [found.block | some found in plan.blocks(change, "security_rule")] if {
	change.type == "azurerm_network_security_group"
}

# Open to everybody, and on more than the ports that may be.
open(rule) if {
	rule.direction == "Inbound"
	rule.access == "Allow"
	some range in array.concat(
		plan.list(plan.field(rule, "source_address_prefix")),
		plan.list(plan.field(rule, "source_address_prefixes")),
	)
	plan.internet(range)
	count(closed(rule)) > 0
}

# Ranges of ports that may not be open.
closed(rule) := [words(range) |
	some range in array.concat(
		plan.list(plan.field(rule, "destination_port_range")),
		plan.list(plan.field(rule, "destination_port_ranges")),
	)
	range != ""
	not web(rule, range)
]

web(rule, range) if {
	lower(plan.text(rule.protocol)) == "tcp"
	some port in public_ports
	range == sprintf("%d", [port])
}

words(range) := "all ports" if range == "*"

words(range) := sprintf("port %s", [range]) if range != "*"

# What else keeps the internet out.
guarded(change) if {
	some name in {"network_acls", "network_rule_set"}
	some found in plan.blocks(change, name)
	found.block.default_action == "Deny"
}

guarded(change) if {
	change.type == "azurerm_cosmosdb_account"

	# A list, and in older providers one text with commas.
	ranges := {trim_space(range) |
		some text in plan.list(plan.value(change, "ip_range_filter"))
		some range in split(plan.text(text), ",")
		range != ""
	}
	count(ranges) > 0
	not "0.0.0.0/0" in ranges
}

guarded(change) if {
	some name in {"delegated_subnet_id", "subnet_id"}
	name in object.keys(change.change.after)
	not plan.blank(change, name)
}

guarded(change) if {
	change.type == "azurerm_cosmosdb_account"
	plan.after(change, "is_virtual_network_filter_enabled") == true
}

guarded(change) if {
	some name in {"delegated_subnet_id", "subnet_id"}
	plan.unknown(change, name)
}

authorised(change) if {
	some found in plan.blocks(change, "api_server_access_profile")
	limits(plan.field(found.block, "authorized_ip_ranges"))
}

authorised(change) if {
	some found in plan.blocks(change, "api_server_access_profile")
	found.unknown.authorized_ip_ranges == true
}

authorised(change) if limits(plan.value(change, "api_server_authorized_ip_ranges"))

limits(ranges) if {
	count(plan.list(ranges)) > 0
	every range in plan.list(ranges) {
		not plan.internet(range)
	}
}

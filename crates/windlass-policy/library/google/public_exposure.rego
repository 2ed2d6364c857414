# METADATA
# title: Nothing of Google Cloud is open to the internet by accident
# description: >-
#   Firewalls and databases that let the whole internet in, whatever is granted to everybody, clusters whose API is open. Web ports may
#   be open; `data.library.settings.public_ports` names which. Machines with an external address are a warning.
# related_resources:
# - ref: https://cloud.google.com/security-command-center/docs/concepts-vulnerabilities-findings
# custom:
#   severity: high
package library.google.public_exposure

import data.library.plan
import rego.v1

# Ports that may be open to the internet, over TCP.
default public_ports := [80, 443]

public_ports := data.library.settings.public_ports

# Roles that everybody may have, e.g. that of calling a public service.
default public_roles := []

public_roles := data.library.settings.public_roles

everybody := {"allUsers", "allAuthenticatedUsers"}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_compute_firewall"
	not plan.value(change, "disabled") == true
	not plan.value(change, "direction") == "EGRESS"
	some range in plan.list(plan.after(change, "source_ranges"))
	plan.internet(range)
	some found in plan.blocks(change, "allow")
	some what in closed(found.block)
	msg := sprintf("%s lets the whole internet in on %s: name the ranges that need it in source_ranges", [change.address, what])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some grant in grants(change)
	some who in grant.members
	who in everybody
	not grant.role in public_roles
	msg := sprintf("%s grants %s to %s: name the members that need it", [change.address, grant.role, who])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {
		"google_storage_bucket_access_control", "google_storage_default_object_access_control",
		"google_storage_object_access_control",
	}
	who := plan.after(change, "entity")
	who in everybody
	msg := sprintf("%s lets %s in: name the entity that needs it", [change.address, who])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"google_storage_bucket_acl", "google_storage_default_object_acl", "google_storage_object_acl"}
	acl := plan.after(change, "predefined_acl")
	lower(plan.text(acl)) in {"publicread", "publicreadwrite", "authenticatedread"}
	msg := sprintf("%s can be read by anybody (%s): use \"private\"", [change.address, acl])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_bigquery_dataset"
	some found in plan.blocks(change, "access")
	some name in {"special_group", "iam_member"}
	who := plan.field(found.block, name)
	who in everybody
	msg := sprintf("%s can be read by %s: name the members that need it", [change.address, who])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_sql_database_instance"
	some found in plan.blocks(change, "settings")
	some config in plan.list(plan.field(found.block, "ip_configuration"))
	some network in plan.list(plan.field(config, "authorized_networks"))
	plan.internet(network.value)
	msg := sprintf("%s lets the whole internet in: name the ranges that need it in authorized_networks", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_container_cluster"
	not private(change)
	not plan.unknown(change, "master_authorized_networks_config")
	not authorised(change)
	msg := sprintf(
		"the API of %s is open to the internet: name ranges in its master_authorized_networks_config",
		[change.address],
	)
}

warn contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"google_compute_instance", "google_compute_instance_template"}
	some found in plan.blocks(change, "network_interface")
	some name in {"access_config", "ipv6_access_config"}
	count(plan.list(plan.field(found.block, name))) > 0
	msg := sprintf("%s has an external address: remove its %s, and use a NAT or a load balancer", [change.address, name])
}

# Ports that may not be open, in words.
closed(allowed) := {"all protocols"} if {
	allowed.protocol == "all"
} else := {sprintf("all of %s", [allowed.protocol])} if {
	count(plan.list(plan.field(allowed, "ports"))) == 0
	lower(plan.text(allowed.protocol)) in {"tcp", "udp", "sctp", "6", "17"}
} else := {sprintf("port %s", [range]) |
	some range in plan.list(plan.field(allowed, "ports"))
	not web(allowed, range)
}

web(allowed, range) if {
	lower(plan.text(allowed.protocol)) in {"tcp", "6"}
	some port in public_ports
	range == sprintf("%d", [port])
}

# Who gets which role, of any resource.
grants(change) := [{"role": plan.value(change, "role"), "members": members}] if {
	regex.match(`^google_.*_iam_(member|binding)$`, change.type)
	members := array.concat(plan.list(plan.value(change, "member")), plan.list(plan.value(change, "members")))
} else := [{"role": binding.role, "members": plan.list(plan.field(binding, "members"))} |
	some binding in plan.list(plan.field(plan.document(plan.after(change, "policy_data")), "bindings"))
] if {
	regex.match(`^google_.*_iam_policy$`, change.type)
}

private(change) if {
	some found in plan.blocks(change, "private_cluster_config")
	found.block.enable_private_endpoint == true
}

authorised(change) if {
	some found in plan.blocks(change, "master_authorized_networks_config")
	ranges := plan.list(plan.field(found.block, "cidr_blocks"))
	every range in ranges {
		not plan.internet(plan.field(range, "cidr_block"))
	}
}

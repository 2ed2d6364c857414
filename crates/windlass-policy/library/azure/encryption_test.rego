package library.azure.encryption_test

import data.library.azure.encryption
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := encryption.deny with input as planned(type, after, {})
}

test_switches_have_to_be_on if {
	every type, names in encryption.switches {
		every name in names {
			messages(type, {}) == {sprintf("%s.x: set %s = true", [type, name])}
			count(messages(type, {name: false})) == 1
			messages(type, {name: true}) == set()
			coming := planned(type, {}, {name: true})
			count(encryption.deny) == 0 with input as coming
		}
	}
}

test_defaults_stay_on if {
	every type, names in encryption.defaults {
		messages(type, {}) == set()
		every name in names {
			count(messages(type, {name: false})) == 1
			messages(type, {name: true}) == set()
			messages(type, {name: null}) == set()
		}
	}
}

test_doors_stay_closed if {
	every type, names in encryption.doors {
		every name in names {
			count(messages(type, {name: true})) == 1
			messages(type, {name: false}) == set()
		}
	}
}

# A type can have a switch besides its version, whose message says nothing of a version.
of_versions(type, after) := {message |
	some message in messages(type, after)
	contains(message, "accepts TLS older than 1.2")
}

test_old_versions_of_tls if {
	every type, name in encryption.versions {
		every version in encryption.old {
			count(of_versions(type, {name: version})) == 1
		}
		of_versions(type, {name: "1.2"}) == set()
		of_versions(type, {name: "TLS1_2"}) == set()
		of_versions(type, {name: null}) == set()
	}
	every type in encryption.sites {
		count(of_versions(type, {"site_config": [{"minimum_tls_version": "1.0"}]})) == 1
		of_versions(type, {"site_config": [{"minimum_tls_version": "1.2"}]}) == set()
		of_versions(type, {"site_config": null}) == set()
	}
}

test_connections_to_postgresql if {
	type := "azurerm_postgresql_flexible_server_configuration"
	count(messages(type, {"name": "require_secure_transport", "value": "OFF"})) == 1
	messages(type, {"name": "require_secure_transport", "value": "on"}) == set()
	messages(type, {"name": "log_connections", "value": "off"}) == set()
}

test_disks if {
	count(messages("azurerm_managed_disk", {"encryption_settings": [{"enabled": false}]})) == 1
	messages("azurerm_managed_disk", {"encryption_settings": []}) == set()
}

test_machines_are_a_warning if {
	count(encryption.warn) == 1 with input as planned("azurerm_linux_virtual_machine", {}, {})
	on := planned("azurerm_windows_virtual_machine", {"encryption_at_host_enabled": true}, {})
	count(encryption.warn) == 0 with input as on
}

# METADATA
# title: Data on Azure is encrypted, at rest and on its way
# description: >-
#   Storage, applications, databases and caches that speak plain HTTP or an old TLS, databases without transparent encryption, vaults
#   whose keys can be lost for good.
# related_resources:
# - ref: https://learn.microsoft.com/en-us/security/benchmark/azure/mcsb-data-protection
# custom:
#   severity: high
package library.azure.encryption

import data.library.plan
import rego.v1

# Attributes that have to be true, also when they are not written: their default is false.
switches := {
	"azurerm_app_service": {"https_only"},
	"azurerm_function_app": {"https_only"},
	"azurerm_key_vault": {"purge_protection_enabled"},
	"azurerm_linux_function_app": {"https_only"},
	"azurerm_linux_web_app": {"https_only"},
	"azurerm_mysql_server": {"ssl_enforcement_enabled"},
	"azurerm_postgresql_server": {"ssl_enforcement_enabled"},
	"azurerm_windows_function_app": {"https_only"},
	"azurerm_windows_web_app": {"https_only"},
}

# Attributes that may not be turned off: their default is true.
defaults := {
	"azurerm_mssql_database": {"transparent_data_encryption_enabled"},
	"azurerm_storage_account": {"https_traffic_only_enabled", "enable_https_traffic_only"},
}

# Attributes that open a door without encryption.
doors := {"azurerm_redis_cache": {"non_ssl_port_enabled", "enable_non_ssl_port"}}

# Attributes that hold the least version of TLS.
versions := {
	"azurerm_cosmosdb_account": "minimal_tls_version",
	"azurerm_eventhub_namespace": "minimum_tls_version",
	"azurerm_mssql_managed_instance": "minimum_tls_version",
	"azurerm_mssql_server": "minimum_tls_version",
	"azurerm_mysql_server": "ssl_minimal_tls_version_enforced",
	"azurerm_postgresql_server": "ssl_minimal_tls_version_enforced",
	"azurerm_redis_cache": "minimum_tls_version",
	"azurerm_servicebus_namespace": "minimum_tls_version",
	"azurerm_storage_account": "min_tls_version",
}

# Types whose TLS is set in a site_config block.
sites := {
	"azurerm_app_service", "azurerm_function_app", "azurerm_linux_function_app", "azurerm_linux_web_app",
	"azurerm_windows_function_app", "azurerm_windows_web_app",
}

# Versions of TLS that are too old, in every spelling that Azure has.
old := {"1.0", "1.1", "TLS1_0", "TLS1_1", "Tls", "Tls11", "Disabled", "TLSEnforcementDisabled"}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some name in switches[change.type]
	plan.off(change, name)
	msg := sprintf("%s: set %s = true", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some name in defaults[change.type]
	plan.after(change, name) == false
	msg := sprintf("%s is not encrypted: remove %s = false", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some name in doors[change.type]
	plan.after(change, name) == true
	msg := sprintf("%s can be spoken to without encryption: set %s = false", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	name := versions[change.type]
	version := plan.after(change, name)
	version in old
	msg := sprintf("%s accepts TLS older than 1.2 (%s): set %s to 1.2", [change.address, version, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in sites
	some found in plan.blocks(change, "site_config")
	some name in {"minimum_tls_version", "min_tls_version"}
	version := plan.field(found.block, name)
	version in old
	msg := sprintf("%s accepts TLS older than 1.2 (%s): set %s = \"1.2\" in its site_config", [change.address, version, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "azurerm_postgresql_flexible_server_configuration"
	plan.after(change, "name") == "require_secure_transport"
	lower(plan.text(plan.after(change, "value"))) == "off"
	msg := sprintf("%s turns encryption of connections off: set value = \"on\"", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "azurerm_managed_disk"
	some found in plan.blocks(change, "encryption_settings")
	found.block.enabled == false
	msg := sprintf("%s is not encrypted: remove enabled = false from its encryption_settings", [change.address])
}

warn contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {
		"azurerm_linux_virtual_machine", "azurerm_windows_virtual_machine", "azurerm_linux_virtual_machine_scale_set",
		"azurerm_windows_virtual_machine_scale_set",
	}
	plan.off(change, "encryption_at_host_enabled")
	msg := sprintf(
		"temporary disks and caches of %s are not encrypted: set encryption_at_host_enabled = true",
		[change.address],
	)
}

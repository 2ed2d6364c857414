# METADATA
# title: Data on Google Cloud is encrypted, at rest and on its way
# description: >-
#   Databases and caches that accept connections without encryption, buckets with permissions object by object, an old TLS, keys that
#   never rotate. What is encrypted with Google's keys instead of one's own is a warning, unless `data.library.settings.own_keys` is
#   false.
# related_resources:
# - ref: https://cloud.google.com/docs/security/encryption/default-encryption
# custom:
#   severity: high
package library.google.encryption

import data.library.plan
import rego.v1

# Whether data under a key of Google's instead of one's own is a warning.
default own_keys := true

own_keys := data.library.settings.own_keys

# What names the customer's own key.
keys := {
	"google_bigquery_dataset": "default_encryption_configuration",
	"google_compute_disk": "disk_encryption_key",
	"google_pubsub_topic": "kms_key_name",
	"google_sql_database_instance": "encryption_key_name",
	"google_storage_bucket": "encryption",
}

encrypted := {"ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"}

deny contains plan.result(change, msg) if {
	some config in connections
	not config.unknown
	not config.block.require_ssl == true
	not plan.field(config.block, "ssl_mode") in encrypted
	msg := sprintf(
		"%s accepts connections without encryption: set ssl_mode = \"ENCRYPTED_ONLY\" in its ip_configuration",
		[config.change.address],
	)
	change := config.change
}

warn contains plan.result(change, msg) if {
	some config in connections
	config.unknown
	change := config.change
	msg := sprintf(
		"whether %s accepts connections without encryption is known after the apply only: set ssl_mode = \"ENCRYPTED_ONLY\"",
		[change.address],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_storage_bucket"
	plan.off(change, "uniform_bucket_level_access")
	msg := sprintf(
		"%s has permissions object by object, which nobody can oversee: set uniform_bucket_level_access = true",
		[change.address],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"google_compute_ssl_policy", "google_compute_region_ssl_policy"}
	not plan.unknown(change, "min_tls_version")
	not plan.value(change, "min_tls_version") in {"TLS_1_2", "TLS_1_3"}
	msg := sprintf("%s accepts TLS older than 1.2: set min_tls_version = \"TLS_1_2\"", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_redis_instance"
	not plan.unknown(change, "transit_encryption_mode")
	not plan.value(change, "transit_encryption_mode") == "SERVER_AUTHENTICATION"
	msg := sprintf(
		"%s accepts connections without encryption: set transit_encryption_mode = \"SERVER_AUTHENTICATION\"",
		[change.address],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "google_kms_crypto_key"
	plan.value(change, "purpose") in {null, "ENCRYPT_DECRYPT"}
	plan.blank(change, "rotation_period")
	msg := sprintf("%s never changes: set rotation_period, e.g. \"7776000s\"", [change.address])
}

warn contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"google_compute_target_http_proxy", "google_compute_region_target_http_proxy"}
	msg := sprintf("%s serves plain HTTP: let its url_map only redirect to HTTPS", [change.address])
}

warn contains plan.result(change, msg) if {
	own_keys
	some change in plan.written
	name := keys[change.type]
	not plan.unknown(change, name)
	plan.value(change, name) in {null, "", []}
	msg := sprintf("%s is encrypted with a key of Google's: set %s to use your own", [change.address, name])
}

# How each database is connected to.
connections contains {"change": change, "block": config, "unknown": unknown} if {
	some change in plan.written
	change.type == "google_sql_database_instance"
	some found in plan.blocks(change, "settings")
	some index, config in plan.list(plan.field(found.block, "ip_configuration"))
	unknown := hidden(found.unknown, index)
}

hidden(unknown, index) if {
	unknown.ip_configuration[index].ssl_mode == true
} else := false

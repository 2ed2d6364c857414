package library.google.encryption_test

import data.library.google.encryption
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

denied(type, after) := count(found) if {
	found := encryption.deny with input as planned(type, after, {}) with data.library.settings as {}
}

test_connections_to_databases if {
	every mode in encryption.encrypted {
		denied("google_sql_database_instance", {"settings": [{"ip_configuration": [{"ssl_mode": mode}]}]}) == 0
	}
	denied("google_sql_database_instance", {"settings": [{"ip_configuration": [{"require_ssl": true}]}]}) == 0
	denied("google_sql_database_instance", {"settings": [{"ip_configuration": [{"ssl_mode": null}]}]}) == 1
	mode := "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
	denied("google_sql_database_instance", {"settings": [{"ip_configuration": [{"ssl_mode": mode}]}]}) == 1
	denied("google_sql_database_instance", {"settings": null}) == 0
}

test_connections_that_are_not_known_are_a_warning if {
	after := {"encryption_key_name": "k", "settings": [{"ip_configuration": [{"ipv4_enabled": false}]}]}
	unknown := {"settings": [{"ip_configuration": [{"ssl_mode": true}]}]}
	plan := planned("google_sql_database_instance", after, unknown)
	count(encryption.deny) == 0 with input as plan
	count(encryption.warn) == 1 with input as plan
}

test_buckets if {
	denied("google_storage_bucket", {"uniform_bucket_level_access": false}) == 1
	denied("google_storage_bucket", {"uniform_bucket_level_access": true}) == 0
	coming := planned("google_storage_bucket", {}, {"uniform_bucket_level_access": true})
	count(encryption.deny) == 0 with input as coming
}

test_versions_of_tls if {
	denied("google_compute_ssl_policy", {"min_tls_version": null}) == 1
	denied("google_compute_ssl_policy", {"min_tls_version": "TLS_1_1"}) == 1
	denied("google_compute_ssl_policy", {"min_tls_version": "TLS_1_2"}) == 0
}

test_caches_and_keys if {
	denied("google_redis_instance", {"transit_encryption_mode": "DISABLED"}) == 1
	denied("google_redis_instance", {"transit_encryption_mode": "SERVER_AUTHENTICATION"}) == 0
	denied("google_kms_crypto_key", {"purpose": null, "rotation_period": null}) == 1
	denied("google_kms_crypto_key", {"rotation_period": "7776000s"}) == 0
	denied("google_kms_crypto_key", {"purpose": "ASYMMETRIC_SIGN", "rotation_period": null}) == 0
}

test_keys_of_ones_own_are_a_warning if {
	every type, name in encryption.keys {
		without := planned(type, {name: null}, {})
		count(encryption.warn) == 1 with input as without with data.library.settings as {}
		count(encryption.warn) == 0 with input as without with data.library.settings as {"own_keys": false}
		owned := planned(type, {name: "projects/p/keys/k"}, {})
		count(encryption.warn) == 0 with input as owned with data.library.settings as {}
		coming := planned(type, {}, {name: true})
		count(encryption.warn) == 0 with input as coming with data.library.settings as {}
	}
}

test_plain_http_is_a_warning if {
	count(encryption.warn) == 1 with input as planned("google_compute_target_http_proxy", {}, {})
}

# METADATA
# title: Data on AWS is encrypted, at rest and on its way
# description: >-
#   Volumes, databases, caches, queues and topics without encryption, keys that never rotate, listeners that speak plain HTTP or
#   an old TLS.
# related_resources:
# - ref: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-controls-reference.html
# custom:
#   severity: high
package library.aws.encryption

import data.library.plan
import rego.v1

# Attributes that have to be true.
switches := {
	"aws_db_instance": {"storage_encrypted"},
	"aws_docdb_cluster": {"storage_encrypted"},
	"aws_ebs_encryption_by_default": {"enabled"},
	"aws_ebs_volume": {"encrypted"},
	"aws_efs_file_system": {"encrypted"},
	"aws_elasticache_replication_group": {"at_rest_encryption_enabled", "transit_encryption_enabled"},
	"aws_neptune_cluster": {"storage_encrypted"},
	"aws_rds_cluster": {"storage_encrypted"},
	"aws_redshift_cluster": {"encrypted"},
}

# Blocks of disks.
disks := {"root_block_device", "ebs_block_device"}

deny contains plan.result(change, msg) if {
	some change in plan.written
	some name in switches[change.type]
	not inherited(change)
	plan.off(change, name)
	msg := sprintf("%s is not encrypted: set %s = true", [change.address, name])
}

warn contains plan.result(change, msg) if {
	some change in plan.written
	some name in switches[change.type]
	not inherited(change)
	plan.unknown(change, name)
	msg := sprintf("whether %s is encrypted is known after the apply only: set %s = true", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_instance", "aws_launch_configuration", "aws_spot_instance_request"}
	some name in disks
	some found in plan.blocks(change, name)
	plan.block_off(found, "encrypted")
	msg := sprintf("a disk of %s is not encrypted: set encrypted = true in its %s", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_launch_template"
	some index, mapping in plan.list(plan.after(change, "block_device_mappings"))
	some place, ebs in plan.list(plan.field(mapping, "ebs"))
	not change.change.after_unknown.block_device_mappings[index].ebs[place].encrypted == true
	not plan.on(plan.field(ebs, "encrypted"))
	msg := sprintf("a disk of %s is not encrypted: set encrypted = true in its ebs blocks", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_sqs_queue"
	plan.blank(change, "kms_master_key_id")
	plan.off(change, "sqs_managed_sse_enabled")
	msg := sprintf("%s keeps messages in plain text: set sqs_managed_sse_enabled = true or kms_master_key_id", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_sns_topic"
	plan.blank(change, "kms_master_key_id")
	msg := sprintf("%s keeps messages in plain text: set kms_master_key_id, e.g. \"alias/aws/sns\"", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_kinesis_stream"
	not plan.unknown(change, "encryption_type")
	not plan.value(change, "encryption_type") == "KMS"
	msg := sprintf("%s is not encrypted: set encryption_type = \"KMS\" and kms_key_id", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_kms_key"
	not asymmetric(change)
	plan.off(change, "enable_key_rotation")
	msg := sprintf("%s never changes: set enable_key_rotation = true", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_lb_listener", "aws_alb_listener"}
	plan.after(change, "protocol") == "HTTP"
	some found in plan.blocks(change, "default_action")
	not redirects(found.block)
	msg := sprintf("%s serves plain HTTP: make its default_action a redirect to HTTPS", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_lb_listener", "aws_alb_listener"}
	plan.after(change, "protocol") in {"HTTPS", "TLS"}
	chosen := plan.after(change, "ssl_policy")
	is_string(chosen)
	not regex.match(`-1-[23](-|$)`, chosen)
	msg := sprintf(
		"%s accepts TLS older than 1.2 (%s): set ssl_policy = \"ELBSecurityPolicy-TLS13-1-2-2021-06\"",
		[change.address, chosen],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_cloudfront_distribution"
	some name in {"default_cache_behavior", "ordered_cache_behavior"}
	some found in plan.blocks(change, name)
	found.block.viewer_protocol_policy == "allow-all"
	msg := sprintf("%s serves plain HTTP: set viewer_protocol_policy = \"redirect-to-https\" in its %s", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_cloudfront_distribution"
	some found in plan.blocks(change, "viewer_certificate")
	version := plan.field(found.block, "minimum_protocol_version")
	version in {"SSLv3", "TLSv1", "TLSv1_2016", "TLSv1.1_2016"}
	not plan.field(found.block, "cloudfront_default_certificate") == true
	msg := sprintf(
		"%s accepts TLS older than 1.2 (%s): set minimum_protocol_version = \"TLSv1.2_2021\"",
		[change.address, version],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_opensearch_domain", "aws_elasticsearch_domain"}
	some name in {"encrypt_at_rest", "node_to_node_encryption"}
	some found in plan.blocks(change, name)
	plan.block_off(found, "enabled")
	msg := sprintf("%s is not encrypted: set enabled = true in its %s", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_opensearch_domain", "aws_elasticsearch_domain"}
	some found in plan.blocks(change, "domain_endpoint_options")
	found.block.tls_security_policy == "Policy-Min-TLS-1-0-2019-07"
	msg := sprintf(
		"%s accepts TLS older than 1.2: set tls_security_policy = \"Policy-Min-TLS-1-2-PFS-2023-10\"",
		[change.address],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_api_gateway_domain_name"
	plan.after(change, "security_policy") == "TLS_1_0"
	msg := sprintf("%s accepts TLS older than 1.2: set security_policy = \"TLS_1_2\"", [change.address])
}

# A replica is encrypted as what it copies; its own attribute is ignored.
inherited(change) if {
	change.type == "aws_db_instance"
	not plan.blank(change, "replicate_source_db")
}

inherited(change) if {
	change.type == "aws_rds_cluster"
	not plan.blank(change, "replication_source_identifier")
}

# Only symmetric keys of AWS's own making can rotate.
asymmetric(change) if plan.after(change, "customer_master_key_spec") != "SYMMETRIC_DEFAULT"

redirects(action) if {
	action.type == "redirect"
	some redirect in plan.list(action.redirect)
	plan.field(redirect, "protocol") == "HTTPS"
}

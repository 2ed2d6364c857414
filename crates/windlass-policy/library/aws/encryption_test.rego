package library.aws.encryption_test

import data.library.aws.encryption
import rego.v1

planned(type, after, unknown) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": unknown},
}]}

denied(type, after) := count(found) if {
	found := encryption.deny with input as planned(type, after, {}) with data.library.settings as {}
}

test_every_switch_has_to_be_on if {
	every type, names in encryption.switches {
		denied(type, {}) == count(names)
		denied(type, {name: null | some name in names}) == count(names)
		denied(type, {name: false | some name in names}) == count(names)
		denied(type, {name: true | some name in names}) == 0
		denied(type, {name: "true" | some name in names}) == 0
	}
}

test_what_is_not_known_is_a_warning if {
	plan := planned("aws_rds_cluster", {}, {"storage_encrypted": true})
	count(encryption.deny) == 0 with input as plan
	expected := {{
		"msg": "whether aws_rds_cluster.x is encrypted is known after the apply only: set storage_encrypted = true",
		"address": "aws_rds_cluster.x",
	}}
	encryption.warn == expected with input as plan
}

test_replicas_are_as_what_they_copy if {
	denied("aws_db_instance", {"replicate_source_db": "main"}) == 0
	denied("aws_db_instance", {"replicate_source_db": ""}) == 1
	denied("aws_rds_cluster", {"replication_source_identifier": "arn:x"}) == 0
}

test_disks_of_instances if {
	denied("aws_instance", {"root_block_device": [{"encrypted": false}], "ebs_block_device": [{"encrypted": null}]}) == 2
	denied("aws_instance", {"root_block_device": [{"encrypted": true}], "ebs_block_device": []}) == 0
	denied("aws_instance", {"root_block_device": null}) == 0
	plan := planned("aws_instance", {"root_block_device": [{}]}, {"root_block_device": [{"encrypted": true}]})
	count(encryption.deny) == 0 with input as plan
	computed := planned("aws_instance", {}, {"root_block_device": true})
	count(encryption.deny) == 0 with input as computed
}

test_disks_of_launch_templates if {
	denied("aws_launch_template", {"block_device_mappings": [{"ebs": [{"encrypted": "false"}]}]}) == 1
	denied("aws_launch_template", {"block_device_mappings": [{"ebs": [{"encrypted": "true"}]}]}) == 0
	denied("aws_launch_template", {"block_device_mappings": [{"ebs": null}]}) == 0
	unknown := {"block_device_mappings": [{"ebs": [{"encrypted": true}]}]}
	plan := planned("aws_launch_template", {"block_device_mappings": [{"ebs": [{}]}]}, unknown)
	count(encryption.deny) == 0 with input as plan
}

test_queues_and_topics if {
	denied("aws_sqs_queue", {"kms_master_key_id": null, "sqs_managed_sse_enabled": false}) == 1
	denied("aws_sqs_queue", {"sqs_managed_sse_enabled": true}) == 0
	denied("aws_sqs_queue", {"kms_master_key_id": "alias/mine"}) == 0
	computed := planned("aws_sqs_queue", {}, {"sqs_managed_sse_enabled": true})
	count(encryption.deny) == 0 with input as computed
	denied("aws_sns_topic", {"kms_master_key_id": ""}) == 1
	denied("aws_sns_topic", {"kms_master_key_id": "alias/aws/sns"}) == 0
	denied("aws_kinesis_stream", {"encryption_type": "NONE"}) == 1
	denied("aws_kinesis_stream", {"encryption_type": "KMS"}) == 0
}

test_keys_rotate if {
	denied("aws_kms_key", {"enable_key_rotation": null}) == 1
	denied("aws_kms_key", {"enable_key_rotation": true}) == 0
	denied("aws_kms_key", {"customer_master_key_spec": "SYMMETRIC_DEFAULT"}) == 1
	denied("aws_kms_key", {"customer_master_key_spec": "RSA_2048"}) == 0
}

test_listeners if {
	denied("aws_lb_listener", {"protocol": "HTTP", "default_action": [{"type": "forward"}]}) == 1
	redirect := {"type": "redirect", "redirect": [{"protocol": "HTTPS"}]}
	denied("aws_lb_listener", {"protocol": "HTTP", "default_action": [redirect]}) == 0
	denied("aws_lb_listener", {"protocol": "HTTPS", "ssl_policy": "ELBSecurityPolicy-2016-08"}) == 1
	denied("aws_lb_listener", {"protocol": "HTTPS", "ssl_policy": "ELBSecurityPolicy-TLS13-1-0-2021-06"}) == 1
	denied("aws_lb_listener", {"protocol": "HTTPS", "ssl_policy": "ELBSecurityPolicy-TLS13-1-2-2021-06"}) == 0
	denied("aws_lb_listener", {"protocol": "HTTPS", "ssl_policy": "ELBSecurityPolicy-TLS-1-2-Ext-2018-06"}) == 0
	denied("aws_lb_listener", {"protocol": "HTTPS", "ssl_policy": null}) == 0
}

test_edges if {
	denied("aws_cloudfront_distribution", {"default_cache_behavior": [{"viewer_protocol_policy": "allow-all"}]}) == 1
	denied("aws_cloudfront_distribution", {"viewer_certificate": [{"minimum_protocol_version": "TLSv1"}]}) == 1
	denied("aws_cloudfront_distribution", {"viewer_certificate": [{"minimum_protocol_version": "TLSv1.2_2021"}]}) == 0
	default_certificate := {"minimum_protocol_version": "TLSv1", "cloudfront_default_certificate": true}
	denied("aws_cloudfront_distribution", {"viewer_certificate": [default_certificate]}) == 0
	denied("aws_api_gateway_domain_name", {"security_policy": "TLS_1_0"}) == 1
	denied("aws_api_gateway_domain_name", {"security_policy": "TLS_1_2"}) == 0
}

test_search_domains if {
	denied("aws_opensearch_domain", {"encrypt_at_rest": [{"enabled": false}]}) == 1
	denied("aws_opensearch_domain", {"node_to_node_encryption": [{"enabled": true}]}) == 0
	options := {"domain_endpoint_options": [{"tls_security_policy": "Policy-Min-TLS-1-0-2019-07"}]}
	denied("aws_opensearch_domain", options) == 1
}

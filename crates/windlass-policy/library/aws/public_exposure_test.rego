package library.aws.public_exposure_test

import data.library.aws.public_exposure
import rego.v1

planned(type, after) := {"resource_changes": [{
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type,
	"change": {"actions": ["create"], "before": null, "after": after, "after_unknown": {}},
}]}

messages(type, after) := {finding.msg | some finding in found} if {
	found := public_exposure.deny with input as planned(type, after) with data.library.settings as {}
}

ingress(from, to, protocol, range) := {"ingress": [{"from_port": from, "to_port": to, "protocol": protocol, "cidr_blocks": [range], "ipv6_cidr_blocks": null}]}

test_ssh_from_everywhere_is_denied if {
	messages("aws_security_group", ingress(22, 22, "tcp", "0.0.0.0/0")) == {"aws_security_group.x lets the whole internet in on port 22: name the ranges that need it in its ingress"}
}

test_a_range_and_all_ports_are_said if {
	some range in messages("aws_security_group", ingress(1000, 2000, "tcp", "0.0.0.0/0"))
	contains(range, "ports 1000 to 2000")
	some all in messages("aws_security_group", ingress(0, 0, "-1", "0.0.0.0/0"))
	contains(all, "all ports")
}

test_web_and_known_ranges_may_be_open if {
	messages("aws_security_group", ingress(443, 443, "tcp", "0.0.0.0/0")) == set()
	messages("aws_security_group", ingress(22, 22, "tcp", "10.0.0.0/8")) == set()
	messages("aws_security_group", {"ingress": null}) == set()
}

test_which_ports_may_be_open_is_a_setting if {
	count(public_exposure.deny) == 1 with input as planned("aws_security_group", ingress(443, 443, "tcp", "0.0.0.0/0"))
		with data.library.settings.public_ports as [8443]
}

test_single_rules_are_denied if {
	rule := {"type": "ingress", "from_port": 22, "to_port": 22, "protocol": "tcp", "cidr_blocks": null, "ipv6_cidr_blocks": ["::/0"]}
	count(messages("aws_security_group_rule", rule)) == 1
	count(messages("aws_security_group_rule", object.union(rule, {"type": "egress"}))) == 0
	one := {"from_port": 22, "to_port": 22, "ip_protocol": "tcp", "cidr_ipv4": "0.0.0.0/0", "cidr_ipv6": null}
	count(messages("aws_vpc_security_group_ingress_rule", one)) == 1
}

test_public_buckets_are_denied if {
	count(messages("aws_s3_bucket_acl", {"acl": "public-read"})) == 1
	count(messages("aws_s3_bucket_acl", {"acl": "private"})) == 0
	block := {"block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": true}
	count(messages("aws_s3_bucket_public_access_block", block)) == 0
	count(messages("aws_s3_bucket_public_access_block", object.union(block, {"ignore_public_acls": false}))) == 1
	count(messages("aws_s3_bucket_public_access_block", {})) == 4
}

test_public_databases_and_clusters_are_denied if {
	count(messages("aws_db_instance", {"publicly_accessible": true})) == 1
	count(messages("aws_db_instance", {"publicly_accessible": false})) == 0
	count(messages("aws_eks_cluster", {"vpc_config": [{"endpoint_public_access": true}]})) == 1
	count(messages("aws_eks_cluster", {"vpc_config": [{"endpoint_public_access": true, "public_access_cidrs": ["198.51.100.0/24"]}]})) == 0
}

test_ports_that_are_not_known_are_no_excuse if {
	rule := {"type": "ingress", "protocol": "tcp", "cidr_blocks": ["0.0.0.0/0"]}
	some message in messages("aws_security_group_rule", rule)
	contains(message, "ports that are known after the apply only")
}

# METADATA
# title: Nothing of AWS is open to the internet by accident
# description: >-
#   Security groups that let the whole internet in, buckets and databases that anybody can reach. Web ports may be open;
#   `data.library.settings.public_ports` names which.
# related_resources:
# - ref: https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html
# custom:
#   severity: high
package library.aws.public_exposure

import data.library.plan
import rego.v1

# Ports that may be open to the internet, over TCP.
default public_ports := [80, 443]

public_ports := data.library.settings.public_ports

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_security_group", "aws_default_security_group"}
	some found in plan.blocks(change, "ingress")
	rule := found.block
	open(object.union(rule, {"cidr": array.concat(ranges(rule, "cidr_blocks"), ranges(rule, "ipv6_cidr_blocks"))}))
	msg := sprintf(
		"%s lets the whole internet in on %s: name the ranges that need it in its ingress",
		[change.address, ports(rule)],
	)
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_security_group_rule"
	plan.after(change, "type") == "ingress"
	rule := change.change.after
	open(object.union(rule, {"cidr": array.concat(ranges(rule, "cidr_blocks"), ranges(rule, "ipv6_cidr_blocks"))}))
	msg := sprintf("%s lets the whole internet in on %s: name the ranges that need it", [change.address, ports(rule)])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_vpc_security_group_ingress_rule"
	rule := change.change.after
	open(object.union(rule, {"cidr": [range | some name in ["cidr_ipv4", "cidr_ipv6"]; range := rule[name]; range != null]}))
	msg := sprintf("%s lets the whole internet in on %s: name the range that needs it", [change.address, ports(rule)])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_s3_bucket", "aws_s3_bucket_acl"}
	acl := plan.after(change, "acl")
	acl in {"public-read", "public-read-write", "authenticated-read"}
	msg := sprintf("%s can be read by anybody (acl %q): use \"private\" and a bucket policy", [change.address, acl])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_s3_bucket_public_access_block"
	some name in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"]
	not plan.unknown(change, name)
	not change.change.after[name] == true
	msg := sprintf("%s does not block public access: set %s = true", [change.address, name])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type in {"aws_db_instance", "aws_rds_cluster_instance", "aws_redshift_cluster", "aws_dms_replication_instance"}
	plan.after(change, "publicly_accessible") == true
	msg := sprintf("%s can be reached from the internet: set publicly_accessible = false", [change.address])
}

deny contains plan.result(change, msg) if {
	some change in plan.written
	change.type == "aws_eks_cluster"
	some config in plan.after(change, "vpc_config")
	config.endpoint_public_access == true
	some range in ranges_of(config)
	plan.internet(range)
	msg := sprintf("the API of %s is open to the internet: set public_access_cidrs", [change.address])
}

# Open to everybody, and on more than the ports that may be.
open(rule) if {
	some range in rule.cidr
	plan.internet(range)
	not web(rule)
}

web(rule) if {
	rule.from_port == rule.to_port
	rule.from_port in public_ports
	lower(plan.text(protocol(rule))) == "tcp"
}

protocol(rule) := rule.protocol

protocol(rule) := rule.ip_protocol

# Without ranges everybody may.
ranges_of(config) := config.public_access_cidrs if {
	count(plan.list(plan.field(config, "public_access_cidrs"))) > 0
} else := ["0.0.0.0/0"]

# Written so that an attribute that is absent is an empty list: `not f(absent)` is not true in Rego.
ranges(rule, name) := plan.list(plan.field(rule, name))

ports(rule) := "all ports" if {
	protocol(rule) in {"-1", "all"}
} else := sprintf("port %d", [rule.from_port]) if {
	rule.from_port == rule.to_port
} else := sprintf("ports %d to %d", [rule.from_port, rule.to_port]) if {
	rule.to_port
} else := "ports that are known after the apply only"

package library.terraform.module_pinning_test

import data.library.terraform.module_pinning
import rego.v1

called(call) := {"configuration": {"root_module": {"module_calls": {"a": call}}}}

messages(source) := {finding.msg | some finding in found} if {
	found := module_pinning.deny with input as called({"source": source}) with data.library.settings as {}
}

test_git_without_a_reference if {
	wanted := {"module.a is whatever its repository holds: add ?ref= with a tag or a commit to its source"}
	every source in [
		"git::https://example.com/a.git", "git::ssh://git@example.com/a.git//modules/b?depth=1", "github.com/org/a",
		"git@github.com:org/a.git", "bitbucket.org/org/a", "https://example.com/a.git//b", "git::https://example.com/a.git?ref=",
	] {
		messages(source) == wanted
	}
}

test_git_with_a_branch if {
	messages("git::https://example.com/a.git?ref=master") == {"module.a is of master, which moves: name a tag or a commit"}
	count(messages("github.com/org/a?depth=1&ref=main")) == 1
	count(messages("github.com/org/a?ref=refs/heads/release")) == 1
	messages("github.com/org/a?ref=v1.2.0") == set()
	messages("git::https://example.com/a.git//b?ref=51d462976d84fdea54b47d80dcabbf680badcdb8") == set()
}

test_branches_are_a_setting if {
	plan := called({"source": "github.com/org/a?ref=stable"})
	count(module_pinning.deny) == 0 with input as plan with data.library.settings as {}
	count(module_pinning.deny) == 1 with input as plan with data.library.settings as {"moving_refs": ["stable"]}
}

test_registries if {
	wanted := {"module.a is the newest there is: set its version"}
	messages("terraform-aws-modules/vpc/aws") == wanted
	messages("registry.example.com/org/vpc/aws//modules/b") == wanted
	pinned := called({"source": "terraform-aws-modules/vpc/aws", "version_constraint": "~> 5.1"})
	count(module_pinning.deny) == 0 with input as pinned
	count(module_pinning.warn) == 0 with input as pinned
}

test_versions_without_an_upper_bound_are_a_warning if {
	versions := {">= 1.0": 1, "> 1.0, != 1.3": 1, ">= 1.0, < 2.0": 0, "1.2.3": 0, "= 1.2.3": 0, "~> 1.2": 0}
	every version, number in versions {
		plan := called({"source": "org/vpc/aws", "version_constraint": version})
		count(module_pinning.warn) == number with input as plan
	}
}

test_local_modules_are_part_of_the_stack if {
	messages("./modules/vpc") == set()
	messages("../vpc") == set()
}

test_archives_are_a_warning if {
	plan := called({"source": "https://example.com/vpc.zip"})
	count(module_pinning.warn) == 1 with input as plan
	count(module_pinning.deny) == 0 with input as plan
}

test_calls_at_any_depth if {
	inner := {"source": "github.com/org/b"}
	plan := called({"source": "./a", "module": {"module_calls": {"b": inner}}})
	found := module_pinning.deny with input as plan
	{finding.address | some finding in found} == {"module.a.module.b"}
}

# METADATA
# title: Everything on AWS says whose it is
# description: >-
#   Resources that can be tagged carry the tags of `data.library.settings.required_tags`; the provider's `default_tags` count.
#   Letter case does not matter.
# related_resources:
# - ref: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html
# custom:
#   severity: low
package library.aws.tags

import data.library.plan
import rego.v1

# Tags that every resource carries; letter case does not matter.
default required_tags := ["owner", "environment"]

required_tags := data.library.settings.required_tags

deny contains plan.result(change, msg) if {
	some change in plan.written
	taggable(change)
	missing := [name | some name in required_tags; not lower(name) in names(change)]
	count(missing) > 0
	msg := sprintf(
		"%s lacks tags: set %s in its tags, or in the provider's default_tags",
		[change.address, concat(", ", missing)],
	)
}

# Resources whose tags are known, at least which ones there are.
taggable(change) if {
	startswith(change.type, "aws_")
	some name in {"tags", "tags_all"}
	has(change, name)
	not plan.unknown(change, "tags")
	not undecided(change)
}

taggable(change) if {
	change.type == "aws_autoscaling_group"
	not plan.unknown(change, "tag")
}

has(change, name) if is_object(plan.after(change, name))

has(change, name) if change.change.after[name] == null

has(change, name) if change.change.after_unknown[name]

# The default tags are hidden by a value that is not known.
undecided(change) if {
	plan.unknown(change, "tags_all")
	some hidden in change.change.after_unknown.tags
	hidden == true
}

names(change) := (known | coming) | listed if {
	known := {lower(plan.text(name)) |
		some attribute in {"tags", "tags_all"}
		some name, _ in plan.after(change, attribute)
	}
	coming := {lower(plan.text(name)) |
		some attribute in {"tags", "tags_all"}
		some name, hidden in change.change.after_unknown[attribute]
		hidden == true
	}
	listed := {lower(plan.text(found.block.key)) | some found in plan.blocks(change, "tag")}
}

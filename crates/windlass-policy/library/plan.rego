# METADATA
# title: Reading a plan
# description: What the other policies of the library share. It decides nothing.
package library.plan

import rego.v1

# Resources that will be there after the apply and that it creates or changes.
written contains change if {
	some change in input.resource_changes
	change.mode == "managed"
	some action in change.change.actions
	action in {"create", "update"}
}

# Resources that the apply takes away, also to make them anew.
destroyed contains change if {
	some change in input.resource_changes
	change.mode == "managed"
	"delete" in change.change.actions
}

# Whether the plan has managed resources of a provider, by the beginning of their types.
has(prefix) if {
	some change in input.resource_changes
	change.mode == "managed"
	startswith(text(change.type), prefix)
}

# What an attribute will be: `undefined` when it is not known before the apply, or null.
after(change, name) := value if {
	value := change.change.after[name]
	value != null
}

# The same, and null where that is undefined. For conditions with `not`: in Rego `not f(x) == 1` does not hold where f(x) is
# undefined.
value(change, name) := field(change.change.after, name)

# What an object has under a name; null when it has nothing, or is no object.
field(holder, name) := holder[name] if {
	is_object(holder)
	holder[name] != null
} else := null

# A text; empty for what is none.
text(value) := value if {
	is_string(value)
} else := ""

# Whether an attribute is known after the apply only, wholly.
unknown(change, name) if change.change.after_unknown[name] == true

# Whether a switch is known to be off: false, null or absent.
off(change, name) if {
	not unknown(change, name)
	not on(value(change, name))
}

# Whether a text is known to be missing: empty, null or absent.
blank(change, name) if {
	not unknown(change, name)
	value(change, name) in {null, ""}
}

# Some providers write truth values as texts.
on(value) if value in {true, "true"}

# The blocks of a name, each with what is not known of it: `{"block": …, "unknown": …}`. None when all of them are unknown.
blocks(change, name) := [{"block": block, "unknown": hidden(change, name, index)} |
	some index, block in list(value(change, name))
	is_object(block)
]

hidden(change, name, index) := found if {
	found := list(change.change.after_unknown[name])[index]
	is_object(found)
} else := {}

# Whether a switch of a block is known to be off.
block_off(found, name) if {
	not field(found.unknown, name) == true
	not on(field(found.block, name))
}

# Whether a range of addresses is the whole internet.
internet(range) if range in {"0.0.0.0/0", "::/0", "0::/0", "0:0:0:0:0:0:0:0/0", "*", "Internet", "internet", "any", "Any"}

# A list of one where a single value stands: policies are written both ways. Of null an empty one.
list(value) := value if is_array(value)

list(value) := [] if value == null

list(value) := [value] if {
	not is_array(value)
	value != null
}

# The document in a text of JSON; undefined when it is not known or no JSON.
document(text) := json.unmarshal(text) if {
	is_string(text)
	json.is_valid(text)
}

# The regions that a provider is configured with, where they are constants or variables of the root module.
provider_regions(suffix) := {region |
	some config in input.configuration.provider_config
	endswith(text(object.get(config, "full_name", config.name)), suffix)
	some region in known(field(field(config, "expressions"), "region"))
	is_string(region)
}

known(expression) := [expression.constant_value] if expression.constant_value

known(expression) := [value |
	some reference in expression.references
	startswith(text(reference), "var.")
	value := input.variables[substring(reference, 4, -1)].value
] if {
	not expression.constant_value
}

# Every module call of the configuration, at any depth, with its path.
module_calls contains {"path": path, "call": call} if {
	walk(input.configuration.root_module, [path, call])
	count(path) > 1
	path[count(path) - 2] == "module_calls"
}

# A finding of a resource.
result(change, msg) := {"msg": msg, "address": change.address}

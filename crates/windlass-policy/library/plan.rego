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

# What an attribute will be: `undefined` when it is not known before the apply, or null.
after(change, name) := value if {
	value := change.change.after[name]
	value != null
}

# Whether an attribute is known after the apply only.
unknown(change, name) if change.change.after_unknown[name] == true

# Whether a range of addresses is the whole internet.
internet(range) if range in {"0.0.0.0/0", "::/0", "0::/0", "*", "Internet", "internet", "any", "Any"}

# A list of one where a single value stands: policies are written both ways.
list(value) := value if is_array(value)

list(value) := [value] if not is_array(value)

# Every module call of the configuration, at any depth, with its path.
module_calls contains {"path": path, "call": call} if {
	walk(input.configuration.root_module, [path, call])
	count(path) > 1
	path[count(path) - 2] == "module_calls"
}

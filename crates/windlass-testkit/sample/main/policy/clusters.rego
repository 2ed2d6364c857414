# A cluster that loses its quorum with one node is no cluster.
package clusters

import rego.v1

minimum := 3

names contains name if {
	some change in input.resource_changes
	name := change.change.after.input.cluster
}

nodes(name) := {change.address |
	some change in input.resource_changes
	change.change.after.input.cluster == name
}

deny contains {"msg": msg, "address": address} if {
	some name in names
	size := count(nodes(name))
	size < minimum
	address := min(nodes(name))
	msg := sprintf("cluster %s would have %d nodes, it needs at least %d", [name, size, minimum])
}

warn contains {"msg": msg, "address": change.address} if {
	some change in input.resource_changes
	change.change.actions == ["delete", "create"]
	change.name == "release"
	msg := sprintf("%s restarts the whole cluster", [change.address])
}

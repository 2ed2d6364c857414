# Nothing that this company runs is reached from the internet.
package exposure

import rego.v1

deny contains {"msg": msg, "address": change.address} if {
	some change in input.resource_changes
	change.change.after.input.public == true
	msg := sprintf("%s would be open to the internet (public = true)", [change.address])
}

package recorded

import rego.v1

result[cloud][name][kind] := found if {
	some cloud, name
	some kind in {"deny", "warn"}
	found := data.library[cloud][name][kind]
}

# METADATA
# title: Everything on Google Cloud says whose it is
# description: >-
#   Resources that can be labelled carry the labels of `data.library.settings.required_labels`; the provider's `default_labels` count.
# related_resources:
# - ref: https://cloud.google.com/resource-manager/docs/labels-overview
# custom:
#   severity: low
package library.google.labels

import data.library.plan
import rego.v1

# Labels that every resource carries.
default required_labels := ["owner", "environment"]

required_labels := data.library.settings.required_labels

attributes := {"labels", "terraform_labels", "effective_labels"}

deny contains plan.result(change, msg) if {
	some change in plan.written
	startswith(change.type, "google_")
	"labels" in object.keys(change.change.after)
	not plan.unknown(change, "labels")
	not plan.unknown(change, "terraform_labels")
	missing := [name | some name in required_labels; not name in names(change)]
	count(missing) > 0
	msg := sprintf(
		"%s lacks labels: set %s in its labels, or in the provider's default_labels",
		[change.address, concat(", ", missing)],
	)
}

names(change) := known | coming if {
	known := {name |
		some attribute in attributes
		some name, _ in plan.after(change, attribute)
	}
	coming := {name |
		some attribute in attributes
		some name, hidden in change.change.after_unknown[attribute]
		hidden == true
	}
}

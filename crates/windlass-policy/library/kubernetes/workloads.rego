# METADATA
# title: Containers run with no more rights than they need
# description: >-
#   Containers that are privileged, run as root, share the host's namespaces or directories, add capabilities, have no fixed image or
#   no limits. Namespaces of the cluster itself are left out: `data.library.settings.system_namespaces`.
# related_resources:
# - ref: https://kubernetes.io/docs/concepts/security/pod-security-standards/
# custom:
#   severity: high
package library.kubernetes.workloads

import data.library.kubernetes.objects
import data.library.plan
import rego.v1

# Namespaces of the cluster itself, which are left out.
default system_namespaces := ["kube-system"]

system_namespaces := data.library.settings.system_namespaces

# Capabilities that a container may add.
default allowed_capabilities := ["NET_BIND_SERVICE"]

allowed_capabilities := data.library.settings.allowed_capabilities

# Directories of the host that a pod may mount.
default allowed_host_paths := []

allowed_host_paths := data.library.settings.allowed_host_paths

# Resources that every container limits.
default required_limits := ["memory"]

required_limits := data.library.settings.required_limits

deny contains plan.result(found, msg) if {
	some found in judged
	some name in {"hostNetwork", "hostPID", "hostIPC"}
	found.pod[name] == true
	msg := sprintf("%s shares a namespace of its host: remove %s", [found.address, name])
}

deny contains plan.result(found, msg) if {
	some found in judged
	some volume in plan.list(plan.field(found.pod, "volumes"))
	path := volume.hostPath.path
	not path in allowed_host_paths
	msg := sprintf("%s mounts %s of its host: use a volume claim", [found.address, path])
}

deny contains plan.result(found, msg) if {
	some found in judged
	some container in objects.containers(found)
	container.securityContext.privileged == true
	msg := sprintf("container %s of %s may do everything on its host: remove privileged", [name(container), found.address])
}

deny contains plan.result(found, msg) if {
	some found in judged
	some container in objects.containers(found)
	container.securityContext.allowPrivilegeEscalation == true
	msg := sprintf(
		"container %s of %s may gain rights: set allowPrivilegeEscalation to false",
		[name(container), found.address],
	)
}

deny contains plan.result(found, msg) if {
	some found in judged
	some container in objects.containers(found)
	root(found, container)
	msg := sprintf(
		"container %s of %s may run as root: set runAsNonRoot to true in its securityContext",
		[name(container), found.address],
	)
}

deny contains plan.result(found, msg) if {
	some found in judged
	some container in objects.containers(found)
	some capabilities in plan.list(plan.field(plan.field(container, "securityContext"), "capabilities"))
	some capability in plan.list(plan.field(capabilities, "add"))
	not trim_prefix(plan.text(capability), "CAP_") in allowed_capabilities
	msg := sprintf("container %s of %s adds %s: remove it", [name(container), found.address, capability])
}

deny contains plan.result(found, msg) if {
	some found in judged
	some container in objects.containers(found)
	moving(container.image)
	msg := sprintf(
		"container %s of %s runs whatever %s is on the day: name a version or a digest",
		[name(container), found.address, container.image],
	)
}

deny contains plan.result(found, msg) if {
	some found in judged
	some container in objects.containers(found)
	limits := {limit | some limit, _ in plan.field(plan.field(container, "resources"), "limits")}
	missing := [limit | some limit in required_limits; not limit in limits]
	count(missing) > 0
	msg := sprintf(
		"container %s of %s can take all of its node: set limits for %s in its resources",
		[name(container), found.address, concat(", ", missing)],
	)
}

judged contains found if {
	some found in objects.workloads
	not objects.namespaced(found, system_namespaces)
}

name(container) := objects.label(container)

# What the container says wins over what its pod says.
setting(found, container, key) := container.securityContext[key] if {
	container.securityContext[key] != null
} else := found.pod.securityContext[key]

root(found, container) if setting(found, container, "runAsUser") in {0, "0"}

root(found, container) if {
	not safe(found, container)
}

safe(found, container) if setting(found, container, "runAsNonRoot") == true

safe(found, container) if {
	user := setting(found, container, "runAsUser")
	not user in {0, "0", null}
}

# An image without a digest whose tag is missing or latest. What stands before the last slash may have a port.
moving(image) if {
	is_string(image)
	not contains(image, "@")
	parts := split(image, "/")
	not contains(parts[count(parts) - 1], ":")
}

moving(image) if endswith(plan.text(image), ":latest")

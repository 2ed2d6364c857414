package library.plan_test

import data.library.plan
import rego.v1

test_what_is_written_and_destroyed if {
	changes := [
		{"mode": "managed", "type": "a", "change": {"actions": ["create"]}},
		{"mode": "managed", "type": "b", "change": {"actions": ["delete", "create"]}},
		{"mode": "managed", "type": "c", "change": {"actions": ["delete"]}},
		{"mode": "managed", "type": "d", "change": {"actions": ["no-op"]}},
		{"mode": "data", "type": "e", "change": {"actions": ["read"]}},
	]
	document := {"resource_changes": changes}
	written := plan.written with input as document
	{change.type | some change in written} == {"a", "b"}
	destroyed := plan.destroyed with input as document
	{change.type | some change in destroyed} == {"b", "c"}
}

test_what_is_off_blank_or_not_known if {
	change := {"change": {
		"after": {"t": true, "s": "true", "f": false, "n": null, "e": "", "x": "x"},
		"after_unknown": {"u": true, "p": {"q": true}},
	}}
	every name in ["f", "n", "e", "x", "absent"] {
		plan.off(change, name)
	}
	every name in ["t", "s", "u"] {
		not plan.off(change, name)
	}
	every name in ["n", "e", "absent"] {
		plan.blank(change, name)
	}
	every name in ["x", "u", "f"] {
		not plan.blank(change, name)
	}
	plan.unknown(change, "u")
	not plan.unknown(change, "p")
}

test_blocks_with_what_is_not_known_of_them if {
	change := {"change": {"after": {"b": [{"x": 1}, {}], "one": {"y": 2}, "n": null}, "after_unknown": {"b": [{}, {"x": true}], "all": true}}}
	plan.blocks(change, "b") == [{"block": {"x": 1}, "unknown": {}}, {"block": {}, "unknown": {"x": true}}]
	plan.blocks(change, "one") == [{"block": {"y": 2}, "unknown": {}}]
	plan.blocks(change, "n") == []
	plan.blocks(change, "absent") == []
	plan.blocks(change, "all") == []
}

test_module_calls_at_any_depth if {
	document := {"configuration": {"root_module": {"module_calls": {"a": {"module": {"module_calls": {"b": {}}}}}}}}
	calls := plan.module_calls with input as document
	{found.path | some found in calls} == {["module_calls", "a"], ["module_calls", "a", "module", "module_calls", "b"]}
}

//! The table: dependants written in different forms.

/// How a preview and the later plan compare.
pub enum Outcome {
    Same,
    /// The preview says less or something else, and the apply asks again: difference, and why it cannot be better.
    Differs(&'static str, #[allow(dead_code)] &'static str),
    /// There is no preview: a part of what terraform says, and why.
    Refused(&'static str, #[allow(dead_code)] &'static str),
}

use Outcome::{Differs, Refused, Same};

pub struct Row {
    pub name: &'static str,
    /// The dependant was applied while the upstream was as before.
    pub applied: bool,
    /// Path below the dependant's directory, content.
    pub files: &'static [(&'static str, &'static str)],
    /// Directories below the dependant's that have the data source `net`; the empty one is its own.
    pub reads: &'static [&'static str],
    /// What the preview says.
    pub seen: &'static str,
    pub outcome: Outcome,
}

const ROW: Row = Row { name: "", applied: false, files: &[], reads: &[""], seen: "", outcome: Same };

/// The upstream. `gen` is 1 in the state and 2 in the change.
pub const UPSTREAM: &str = r#"
variable "gen" {}
resource "terraform_data" "vpc" {
  triggers_replace = var.gen
}
output "id" { value = "vpc-${var.gen}" }
output "uid" { value = terraform_data.vpc.id }
output "same" { value = "constant" }
output "secret" {
  value     = "hunter-${var.gen}"
  sensitive = true
}
output "secret_uid" {
  value     = terraform_data.vpc.id
  sensitive = true
}
output "zones" { value = var.gen == "1" ? tolist(["a", "b"]) : tolist(["a", "b", "c"]) }
output "zone_set" { value = toset(var.gen == "1" ? ["a"] : ["a", "b"]) }
output "mixed" {
  value = { known = "k${var.gen}", later = [terraform_data.vpc.id, "x"] }
}
output "none" { value = var.gen == "1" ? "some" : null }
output "text" { value = "$${a} %%{b} \"q\" \\ \n\té 😀 ${var.gen}" }
output "number" { value = 1.5 * var.gen }
"#;
/// Comes with the change.
pub const ADDED: &str = "output \"added\" { value = \"new\" }\n";

const NET: &str = r#"data "terraform_remote_state" "net" {
  backend = "local"
  config  = { path = "${path.module}/../net/terraform.tfstate" }
}
"#;

macro_rules! net {
    ($text:literal) => {
        concat!(
            "data \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n  config = { path = \"../net/terraform.tfstate\" }\n",
            $text,
            "\n}\n"
        )
    };
}

pub fn rows() -> Vec<Row> {
    let one = |name, files, seen| Row { name, files, seen, ..ROW };
    let changed = |name, files, seen| Row { name, files, seen, applied: true, ..ROW };
    vec![
        changed(
            "plain",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.id\n}\noutput \"o\" {\n  value = [data.terraform_remote_state.net.outputs.number, data.terraform_remote_state.net.outputs.same]\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"vpc-2\" output=?\noutput o=[3,\"constant\"]",
        ),
        changed(
            "an output that does not change",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.same\n}\n",
                ),
            ],
            "",
        ),
        one(
            "an output that the change adds",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.added\n}\n",
                ),
            ],
            "terraform_data.x created id=? input=\"new\" output=?",
        ),
        changed(
            "a value that is not known yet",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = \"in ${data.terraform_remote_state.net.outputs.uid}\"\n}\noutput \"o\" {\n  value = data.terraform_remote_state.net.outputs.uid\n}\n",
                ),
            ],
            "terraform_data.x updated input=? output=?\noutput o=?",
        ),
        changed(
            "a value that is known in part",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.mixed\n}\nresource \"terraform_data\" \"y\" {\n  input = [data.terraform_remote_state.net.outputs.mixed.known, data.terraform_remote_state.net.outputs.mixed.later[1]]\n}\n",
                ),
            ],
            "terraform_data.x updated input.known=\"k2\" input.later[0]=? output=?\nterraform_data.y updated input[0]=\"k2\" output=?",
        ),
        changed(
            "a known value that forces a replacement",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  triggers_replace = data.terraform_remote_state.net.outputs.id\n}\n",
                ),
            ],
            "terraform_data.x replaced id=? triggers_replace=\"vpc-2\"",
        ),
        changed(
            "an unknown value that forces a replacement",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  triggers_replace = [data.terraform_remote_state.net.outputs.uid]\n}\n",
                ),
            ],
            "terraform_data.x replaced id=? triggers_replace[0]=?",
        ),
        changed(
            "count",
            &[
                ("net.tf", net!("  count = 2")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net[1].outputs.id\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"vpc-2\" output=?",
        ),
        changed(
            "count that is none",
            &[
                ("net.tf", net!("  count = var.on ? 1 : 0")),
                (
                    "a.tf",
                    "variable \"on\" {\n  default = false\n}\nresource \"terraform_data\" \"x\" {\n  input = var.on ? data.terraform_remote_state.net[0].outputs.id : \"off\"\n}\noutput \"n\" {\n  value = length(data.terraform_remote_state.net)\n}\n",
                ),
            ],
            "",
        ),
        changed(
            "for_each",
            &[
                ("net.tf", net!("  for_each = toset([\"t\", \"o\"])")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  for_each = data.terraform_remote_state.net\n  input    = \"${each.key} ${each.value.outputs.id} ${data.terraform_remote_state.net[\"o\"].outputs.same}\"\n}\n",
                ),
            ],
            "terraform_data.x[\"o\"] updated input=\"o vpc-2 constant\" output=?\nterraform_data.x[\"t\"] updated input=\"t vpc-2 constant\" output=?",
        ),
        changed(
            "splat",
            &[
                ("net.tf", net!("  count = 2")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = [data.terraform_remote_state.net[*].outputs.id, data.terraform_remote_state.net.*.outputs.same]\n}\n",
                ),
            ],
            "terraform_data.x updated input[0][0]=\"vpc-2\" input[0][1]=\"vpc-2\" output=?",
        ),
        changed(
            "splat of a single one",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net[*].outputs.id\n}\n",
                ),
            ],
            "terraform_data.x updated input[0]=\"vpc-2\" output=?",
        ),
        Row {
            outcome: Differs(
                "terraform_data.x would get another value of `input`",
                "terraform forgets on the way through a state that an output is sensitive; the preview does not show it",
            ),
            ..changed(
                "sensitive",
                &[
                    ("net.tf", NET),
                    (
                        "a.tf",
                        "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.secret\n}\n",
                    ),
                ],
                "terraform_data.x updated input=*** output=?",
            )
        },
        changed(
            "sensitive and not known yet",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.secret_uid\n}\n",
                ),
            ],
            "terraform_data.x updated input=? output=?",
        ),
        Row {
            outcome: Refused(
                "Output refers to sensitive values",
                "the output has to say that it is sensitive, which terraform does not notice after the apply",
            ),
            ..changed(
                "a sensitive value in an output that does not say so",
                &[
                    ("net.tf", NET),
                    ("a.tf", "output \"o\" {\n  value = data.terraform_remote_state.net.outputs.secret\n}\n"),
                ],
                "",
            )
        },
        changed(
            "lists in conditionals and functions",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "variable \"on\" {\n  default = true\n}\nlocals {\n  zones = data.terraform_remote_state.net.outputs.zones\n}\nresource \"terraform_data\" \"x\" {\n  input = [var.on ? local.zones : [], concat(local.zones, [\"z\"]), length(toset(local.zones)), element(local.zones, 5), join(\",\", local.zones)]\n}\n",
                ),
            ],
            "terraform_data.x updated input[0][2]=\"c\" input[1][2]=\"c\" input[1][3]=\"z\" input[2]=3 input[3]=\"c\" input[4]=\"a,b,c\" output=?",
        ),
        changed(
            "JSON",
            &[
                (
                    "net.tf.json",
                    r#"{"data":{"terraform_remote_state":{"net":{"backend":"local","config":{"path":"../net/terraform.tfstate"},"count":"${var.n}"}}},"variable":{"n":{"default":1}}}"#,
                ),
                (
                    "a.tf.json",
                    r#"{"resource":{"terraform_data":{"x":{"input":"a ${data.terraform_remote_state.net[0].outputs.id}","depends_on":["data.terraform_remote_state.net"]}}}}"#,
                ),
            ],
            "terraform_data.x updated input=\"a vpc-2\" output=?",
        ),
        changed(
            "JSON with arrays at all levels",
            &[(
                "a.tf.json",
                r#"[{"data":[{"terraform_remote_state":[{"net":[{"backend":"local","config":{"path":"../net/terraform.tfstate"}}]}]}]},{"resource":[{"terraform_data":[{"x":[{"input":["${data.terraform_remote_state.net.outputs.id}"]}]}]}]}]"#,
            )],
            "terraform_data.x updated input[0]=\"vpc-2\" output=?",
        ),
        changed(
            "JSON with a name twice",
            &[(
                "a.tf.json",
                r#"{"data":{"terraform_remote_state":{"net":{"backend":"local","config":{"path":"../net/terraform.tfstate"}}}},"resource":{"terraform_data":{"x":{"input":"${data.terraform_remote_state.net.outputs.id}"}}},"resource":{"terraform_data":{"y":{"input":"${data.terraform_remote_state.net.outputs.id}"}}}}"#,
            )],
            "terraform_data.x updated input=\"vpc-2\" output=?\nterraform_data.y updated input=\"vpc-2\" output=?",
        ),
        changed(
            "an override of the configuration",
            &[
                (
                    "net.tf",
                    "data \"terraform_remote_state\" \"net\" {\n  backend = \"s3\"\n  workspace = \"w\"\n  config = { bucket = \"nowhere\" }\n}\n",
                ),
                (
                    "x_override.tf",
                    "data \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n  workspace = null\n  config = { path = \"../net/terraform.tfstate\" }\n}\n",
                ),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.id\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"vpc-2\" output=?",
        ),
        changed(
            "an override that adds count",
            &[
                ("net.tf", NET),
                ("x_override.tf", "data \"terraform_remote_state\" \"net\" {\n  count = 1\n}\n"),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net[0].outputs.id\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"vpc-2\" output=?",
        ),
        changed(
            "an override that changes for_each",
            &[
                ("net.tf", net!("  for_each = toset([\"a\", \"b\"])")),
                ("override.tf.json", r#"{"data":{"terraform_remote_state":{"net":{"for_each":{"c":1}}}}}"#),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = { for k, v in data.terraform_remote_state.net : k => v.outputs.id }\n}\n",
                ),
            ],
            "terraform_data.x updated input.c=\"vpc-2\" output=?",
        ),
        Row {
            reads: &["m"],
            ..changed(
                "a local module that reads the state itself",
                &[
                    (
                        "a.tf",
                        "module \"m\" {\n  source = \"./m\"\n  count  = 2\n}\noutput \"o\" {\n  value = module.m[*].id\n}\n",
                    ),
                    (
                        "m/a.tf",
                        "data \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n  config  = { path = \"../net/terraform.tfstate\" }\n}\nresource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.id\n}\noutput \"id\" {\n  value = data.terraform_remote_state.net.outputs.id\n}\n",
                    ),
                ],
                "module.m[0].terraform_data.x updated input=\"vpc-2\" output=?\nmodule.m[1].terraform_data.x updated input=\"vpc-2\" output=?\noutput o=[\"vpc-2\",\"vpc-2\"]",
            )
        },
        changed(
            "heredoc and directives",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = <<-EOT\n    é id ${data.terraform_remote_state.net.outputs.id}\n    %{~ for z in data.terraform_remote_state.net.outputs.zones }\n    z ${z}\n    %{~ endfor }\n    %{ if data.terraform_remote_state.net.outputs.id == \"vpc-2\" }two%{ else }one%{ endif }\n  EOT\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"    é id vpc-2\\n\\n    z a\\n\\n    z b\\n\\n    z c\\n\\n    two\\n\" output=?",
        ),
        changed(
            "text that looks like a template",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.text\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"${a} %{b} \\\"q\\\" \\\\ \\n\\té 😀 2\" output=?",
        ),
        changed(
            "for over outputs",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = [for k, v in nonsensitive(data.terraform_remote_state.net.outputs) : k if startswith(k, \"z\")]\n}\nresource \"terraform_data\" \"z\" {\n  for_each = toset([for z in data.terraform_remote_state.net.outputs.zones : upper(z)])\n}\n",
                ),
            ],
            "terraform_data.z[\"C\"] created id=?",
        ),
        changed(
            "try with an output that is not there",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = [try(data.terraform_remote_state.net.outputs.x, \"d\"), try(data.terraform_remote_state.net.outputs.added, \"d\"), lookup(data.terraform_remote_state.net.outputs, \"y\", \"e\")]\n}\n",
                ),
            ],
            "terraform_data.x updated input[1]=\"new\" output=?",
        ),
        changed(
            "an output that becomes null",
            &[
                ("net.tf", NET),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = try(data.terraform_remote_state.net.outputs.none, \"absent\")\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"absent\" output=?",
        ),
        changed(
            "all outputs as an argument of a module",
            &[
                (
                    "a.tf",
                    "module \"m\" {\n  source = \"./m\"\n  all    = data.terraform_remote_state.net.outputs\n  state  = data.terraform_remote_state.net\n}\n",
                ),
                ("net.tf", NET),
                (
                    "m/a.tf",
                    "variable \"all\" {}\nvariable \"state\" {\n  type = object({ outputs = any })\n}\nresource \"terraform_data\" \"x\" {\n  input = [var.all.id, var.state.outputs.same]\n}\n",
                ),
            ],
            "module.m.terraform_data.x updated input[0]=\"vpc-2\" output=?",
        ),
        changed(
            "defaults",
            &[
                ("net.tf", net!("  defaults = { id = \"default\", other = \"default\" }")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = [data.terraform_remote_state.net.outputs.id, data.terraform_remote_state.net.outputs.other]\n}\n",
                ),
            ],
            "terraform_data.x updated input[0]=\"vpc-2\" output=?",
        ),
        one(
            "depends_on of the data source on something that changes",
            &[
                ("net.tf", net!("  depends_on = [terraform_data.y]")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"y\" {}\nresource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.id\n}\n",
                ),
            ],
            "terraform_data.x created id=? input=? output=?\nterraform_data.y created id=?",
        ),
        changed(
            "depends_on of the data source on something that does not change",
            &[
                ("net.tf", net!("  depends_on = [terraform_data.y]")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"y\" {}\nresource \"terraform_data\" \"x\" {\n  input      = data.terraform_remote_state.net.outputs.id\n  depends_on = [data.terraform_remote_state.net]\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"vpc-2\" output=?",
        ),
        Row {
            reads: &["m"],
            ..one(
                "depends_on of the module around it",
                &[
                    (
                        "a.tf",
                        "resource \"terraform_data\" \"y\" {}\nmodule \"m\" {\n  source     = \"./m\"\n  depends_on = [terraform_data.y]\n}\noutput \"o\" {\n  value = module.m.id\n}\n",
                    ),
                    (
                        "m/a.tf",
                        "data \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n  config  = { path = \"../net/terraform.tfstate\" }\n}\noutput \"id\" {\n  value = data.terraform_remote_state.net.outputs.id\n}\n",
                    ),
                ],
                "terraform_data.y created id=?\noutput o=?",
            )
        },
        changed(
            "a condition of the data source",
            &[
                (
                    "net.tf",
                    net!(
                        "  lifecycle {\n    postcondition {\n      condition     = startswith(self.outputs.id, \"vpc-\") && length(self.outputs.zones) > 1\n      error_message = \"wrong network\"\n    }\n  }"
                    ),
                ),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"x\" {\n  input = data.terraform_remote_state.net.outputs.id\n}\n",
                ),
            ],
            "terraform_data.x updated input=\"vpc-2\" output=?",
        ),
        Row {
            outcome: Refused(
                "Invalid for_each argument",
                "terraform has to know the keys, and the upstream does not know them yet",
            ),
            ..one(
                "keys that are not known yet",
                &[
                    ("net.tf", NET),
                    (
                        "a.tf",
                        "resource \"terraform_data\" \"x\" {\n  for_each = toset([data.terraform_remote_state.net.outputs.uid])\n}\n",
                    ),
                ],
                "",
            )
        },
        Row {
            outcome: Refused(
                "Invalid for_each argument",
                "the planned outputs have no types: a set comes back as a tuple",
            ),
            ..changed(
                "a set as keys",
                &[
                    ("net.tf", NET),
                    (
                        "a.tf",
                        "resource \"terraform_data\" \"x\" {\n  for_each = data.terraform_remote_state.net.outputs.zone_set\n}\n",
                    ),
                ],
                "",
            )
        },
        one(
            "try while the reading is deferred",
            &[
                ("net.tf", net!("  depends_on = [terraform_data.y]")),
                (
                    "a.tf",
                    "resource \"terraform_data\" \"y\" {}\nresource \"terraform_data\" \"x\" {\n  input = try(data.terraform_remote_state.net.outputs.missing, \"d\")\n}\n",
                ),
            ],
            "terraform_data.x created id=? input=? output=?\nterraform_data.y created id=?",
        ),
    ]
}

//! Repositories of any size, made by a seed: groups of stacks by environment and region, shared local modules with nested
//! modules and templates, remote-state edges, and a few percent of the odd forms (JSON, override files, variable files).
//!
//! They are for reading (discovery, graph, affected): nobody could plan them, they use a cloud provider. [`write_tiny`] makes
//! stacks that can be planned.

use crate::git::{Git, Identity};
use crate::{TestkitError, make_empty, write_file};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const AUTHOR: Identity = ("Dev Team", "dev@example.com");
const ENVIRONMENTS: [&str; 4] = ["development", "staging", "production", "recovery"];
const REGIONS: [&str; 5] = ["ap-northeast-1", "ap-northeast-3", "us-east-1", "eu-west-1", "eu-central-1"];
/// Stacks of a group and what each reads from, by position.
const KINDS: [(&str, &[usize]); 10] = [
    ("network", &[]),
    ("security", &[0]),
    ("storage", &[0]),
    ("database", &[0, 1]),
    ("cache", &[0, 1]),
    ("queue", &[0]),
    ("cluster", &[0, 1, 2]),
    ("backend", &[3, 4, 5, 6]),
    ("frontend", &[6, 7]),
    ("monitor", &[3, 6, 7]),
];
const SHARED_MODULES: usize = 24;

/// What was made.
#[derive(Debug, Clone)]
pub struct Synthetic {
    pub root: PathBuf,
    pub stacks: usize,
    /// The one path that differs between the first and the second commit.
    pub changed: String,
    /// The stack it belongs to.
    pub changed_stack: String,
    /// Edges between stacks; every one is a `terraform_remote_state`.
    pub edges: usize,
    pub files: usize,
    pub bytes: u64,
}

/// Numbers that look random and are the same for the same seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0. The bias of the remainder does not matter here.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

/// Makes a repository of `stacks` stacks with two commits; the second changes one file of one stack in the middle.
///
/// # Errors
/// When `root` is not empty, a file cannot be written, or git is missing or fails.
pub fn write_synthetic(root: &Path, stacks: usize, seed: u64) -> Result<Synthetic, TestkitError> {
    make_empty(root)?;
    let mut writer = Writer { root, files: 0, bytes: 0 };
    for index in 0..SHARED_MODULES {
        shared_module(&mut writer, index)?;
    }
    writer.write(".gitignore", ".terraform/\n*.tfstate\n")?;
    writer.write("README.md", "Made by a seed.\n")?;
    let mut random = Random::new(seed);
    let mut edges = 0;
    for index in 0..stacks {
        edges += stack(&mut writer, index, &mut random)?;
    }
    let changed_stack = directory(stacks / 2);
    let changed = format!("{changed_stack}/variables.tf");
    let git = Git::init(root)?;
    git.run(&["add", "--all"])?;
    git.commit(AUTHOR, "2026-01-05T09:00:00Z", "Stacks")?;
    let at = |source| TestkitError::Write { path: root.join(&changed), source };
    let text = std::fs::read_to_string(root.join(&changed)).map_err(at)?;
    write_file(
        &root.join(&changed),
        &format!("{text}\nvariable \"added\" {{\n  type    = string\n  default = \"later\"\n}}\n"),
    )?;
    git.run(&["add", "--all"])?;
    git.commit(AUTHOR, "2026-01-05T09:10:00Z", "One change")?;
    let (files, bytes) = (writer.files, writer.bytes);
    Ok(Synthetic { root: root.to_owned(), stacks, changed, changed_stack, edges, files, bytes })
}

/// Makes `stacks` stacks of the built-in provider with a local backend, unrelated to each other, below `root/stacks/`, and
/// commits them on `main` above an empty commit tagged `empty`.
///
/// # Errors
/// When `root` is not empty, a file cannot be written, or git is missing or fails.
pub fn write_tiny(root: &Path, stacks: usize) -> Result<Vec<PathBuf>, TestkitError> {
    make_empty(root)?;
    let git = Git::init(root)?;
    let mut writer = Writer { root, files: 0, bytes: 0 };
    writer.write(".gitignore", ".terraform/\n*.tfstate\n*.tfstate.backup\n")?;
    git.run(&["add", "--all"])?;
    git.commit(AUTHOR, "2026-01-05T09:00:00Z", "Empty")?;
    git.run(&["tag", "empty"])?;
    let mut directories = Vec::new();
    for index in 0..stacks {
        let directory = format!("stacks/service-{index:03}");
        let main = format!(
            "terraform {{\n  backend \"local\" {{}}\n}}\n\nvariable \"size\" {{\n  type    = number\n  default = {size}\n}}\n\n\
             resource \"terraform_data\" \"service\" {{\n  input = {{\n    name = \"service-{index}\"\n    size = var.size\n  }}\n}}\n\n\
             output \"name\" {{\n  value = terraform_data.service.output.name\n}}\n",
            size = index % 7 + 1
        );
        writer.write(&format!("{directory}/main.tf"), &main)?;
        directories.push(root.join(directory));
    }
    git.run(&["add", "--all"])?;
    git.commit(AUTHOR, "2026-01-05T09:10:00Z", "Stacks")?;
    Ok(directories)
}

struct Writer<'a> {
    root: &'a Path,
    files: usize,
    bytes: u64,
}

impl Writer<'_> {
    fn write(&mut self, path: &str, content: &str) -> Result<(), TestkitError> {
        self.files += 1;
        self.bytes += content.len() as u64;
        write_file(&self.root.join(path), content)
    }
}

/// Where a stack by number lies.
fn directory(index: usize) -> String {
    let (group, kind) = (index / KINDS.len(), index % KINDS.len());
    let (environment, region, team) = place(group);
    format!("live/{environment}/{region}/team-{team:03}/{}", KINDS[kind].0)
}

fn place(group: usize) -> (&'static str, &'static str, usize) {
    let per_team = ENVIRONMENTS.len() * REGIONS.len();
    let within = group % per_team;
    (ENVIRONMENTS[within % ENVIRONMENTS.len()], REGIONS[within / ENVIRONMENTS.len()], group / per_team)
}

/// Text that only ever grows; writing to a `String` cannot fail.
macro_rules! put {
    ($text:ident, $($argument:tt)*) => { let _ = writeln!($text, $($argument)*); };
}

/// One stack; gives the number of its edges.
fn stack(writer: &mut Writer<'_>, index: usize, random: &mut Random) -> Result<usize, TestkitError> {
    let directory = directory(index);
    let (group, kind) = (index / KINDS.len(), index % KINDS.len());
    let (environment, region, team) = place(group);
    let (name, reads) = KINDS[kind];
    let upstreams: Vec<&str> = reads.iter().map(|&upstream| KINDS[upstream].0).collect();
    writer.write(&format!("{directory}/backend.tf"), &backend(environment, region, team, name))?;
    writer.write(&format!("{directory}/main.tf"), &main(name, &upstreams, random))?;
    writer.write(&format!("{directory}/remote.tf"), &remote(environment, &upstreams))?;
    let variables = variables(environment, region, team, random);
    writer.write(&format!("{directory}/variables.tf"), &variables)?;
    if random.percent(3) {
        writer.write(&format!("{directory}/outputs.tf.json"), &outputs_json(name))?;
    } else {
        writer.write(&format!("{directory}/outputs.tf"), &outputs(name))?;
    }
    if random.percent(3) {
        let text = format!("resource \"aws_{name}\" \"this\" {{\n  name = \"overridden-${{local.prefix}}\"\n}}\n");
        writer.write(&format!("{directory}/main_override.tf"), &text)?;
    }
    if random.percent(5) {
        writer.write(&format!("{directory}/terraform.tfvars"), &format!("replicas = {}\n", random.below(9) + 1))?;
    }
    if random.percent(20) {
        writer.write(&format!("{directory}/templates/user-data.sh.tftpl"), "#!/bin/sh\nexec start --name ${name}\n")?;
    }
    Ok(upstreams.len())
}

fn backend(environment: &str, region: &str, team: usize, name: &str) -> String {
    format!(
        "terraform {{\n  required_version = \">= 1.5, < 2.0\"\n\n  required_providers {{\n    aws = {{\n      source  = \"hashicorp/aws\"\n      \
         version = \"~> 5.40\"\n    }}\n  }}\n\n  backend \"s3\" {{\n    bucket         = \"company-terraform-{environment}\"\n    \
         key            = \"{region}/team-{team:03}/{name}/terraform.tfstate\"\n    region         = \"ap-northeast-1\"\n    \
         dynamodb_table = \"terraform-locks\"\n    encrypt        = true\n  }}\n}}\n\nprovider \"aws\" {{\n  region = var.region\n\n  \
         default_tags {{\n    tags = local.tags\n  }}\n}}\n"
    )
}

fn variables(environment: &str, region: &str, team: usize, random: &mut Random) -> String {
    let mut text = String::with_capacity(2048);
    for (name, default) in [("environment", environment), ("region", region), ("team", &format!("team-{team:03}"))] {
        put!(
            text,
            "variable \"{name}\" {{\n  description = \"The {name} this stack belongs to.\"\n  type        = string\n  default     = \"{default}\"\n}}\n"
        );
    }
    put!(
        text,
        "variable \"replicas\" {{\n  description = \"How many.\"\n  type        = number\n  default     = {}\n\n  validation {{",
        random.below(7) + 1
    );
    put!(
        text,
        "    condition     = var.replicas > 0 && var.replicas < 100\n    error_message = \"replicas must lie between 1 and 99, got ${{var.replicas}}.\"\n  }}\n}}\n"
    );
    put!(
        text,
        "variable \"rules\" {{\n  description = \"Who may reach it.\"\n  type = list(object({{\n    port  = number\n    cidrs = list(string)\n  }}))\n  default = ["
    );
    for _ in 0..4 {
        put!(text, "    {{ port = {}, cidrs = [\"10.{}.0.0/16\"] }},", 1024 + random.below(40000), random.below(250));
    }
    put!(text, "  ]\n}}\n");
    put!(text, "variable \"labels\" {{\n  type = map(string)\n  default = {{");
    for key in ["owner", "cost-centre", "service", "tier"] {
        put!(text, "    \"{key}\" = \"{:x}\"", random.number());
    }
    put!(text, "  }}\n}}");
    text
}

fn remote(environment: &str, upstreams: &[&str]) -> String {
    let mut text = String::with_capacity(1024);
    put!(
        text,
        "locals {{\n  state_bucket = \"company-terraform-${{var.environment}}\"\n  state_prefix = format(\"%s/%s\", var.region, var.team)"
    );
    put!(
        text,
        "  prefix       = join(\"-\", [var.environment, var.team])\n  tags = merge(var.labels, {{\n    environment = var.environment\n    managed     = \"terraform\"\n  }})"
    );
    for upstream in upstreams {
        put!(text, "  {upstream} = data.terraform_remote_state.{upstream}.outputs");
    }
    put!(text, "}}\n");
    for (index, upstream) in upstreams.iter().enumerate() {
        // The same place, said in the ways that repositories say it.
        let key = match index % 3 {
            0 => format!("\"${{local.state_prefix}}/{upstream}/terraform.tfstate\""),
            1 => format!("format(\"%s/{upstream}/terraform.tfstate\", local.state_prefix)"),
            _ => format!("join(\"/\", [var.region, var.team, \"{upstream}\", \"terraform.tfstate\"])"),
        };
        let bucket = if index.is_multiple_of(2) {
            "local.state_bucket".to_owned()
        } else {
            format!("\"company-terraform-{environment}\"")
        };
        put!(
            text,
            "data \"terraform_remote_state\" \"{upstream}\" {{\n  backend = \"s3\"\n\n  config = {{\n    bucket = {bucket}\n    key    = {key}\n    region = \"ap-northeast-1\"\n  }}\n}}\n"
        );
    }
    text
}

fn main(name: &str, upstreams: &[&str], random: &mut Random) -> String {
    let mut text = String::with_capacity(4096);
    put!(text, "# {name}: everything the team runs of it.");
    for number in 0..2 + random.below(2) {
        let module = random.below(SHARED_MODULES);
        put!(
            text,
            "module \"part_{number}\" {{\n  source = \"../../../../../modules/shared-{module:02}\"\n\n  name     = \"${{local.prefix}}-{number}\"\n  replicas = var.replicas\n  tags     = local.tags"
        );
        if let Some(upstream) = upstreams.get(number) {
            put!(text, "  parent   = local.{upstream}.id");
        }
        put!(text, "}}\n");
    }
    put!(
        text,
        "resource \"aws_{name}\" \"this\" {{\n  name  = \"${{local.prefix}}-{name}\"\n  count = var.replicas > 0 ? 1 : 0\n"
    );
    for upstream in upstreams {
        put!(text, "  {upstream}_id = local.{upstream}.id");
    }
    put!(
        text,
        "\n  dynamic \"rule\" {{\n    for_each = var.rules\n    content {{\n      port  = rule.value.port\n      cidrs = rule.value.cidrs\n    }}\n  }}\n\n  tags = local.tags\n}}\n"
    );
    for number in 0..3 {
        put!(
            text,
            "resource \"aws_iam_policy\" \"access_{number}\" {{\n  name        = \"${{local.prefix}}-{name}-{number}\"\n  description = \"Access {:x}\"\n\n  policy = jsonencode({{",
            random.number()
        );
        put!(
            text,
            "    Version = \"2012-10-17\"\n    Statement = [{{\n      Effect   = \"Allow\"\n      Action   = [\"{name}:Get*\", \"{name}:List*\"]"
        );
        put!(text, "      Resource = [for item in aws_{name}.this[*].arn : \"${{item}}/*\"]\n    }}]\n  }})\n}}\n");
    }
    put!(
        text,
        "resource \"aws_launch_template\" \"nodes\" {{\n  name_prefix = local.prefix\n  user_data = base64encode(<<-EOT\n    #!/bin/sh\n    # braces {{ in a heredoc }} are text\n    exec run --name \"${{local.prefix}}\" --replicas ${{var.replicas}}\n  EOT\n  )\n}}"
    );
    text
}

fn outputs(name: &str) -> String {
    format!(
        "output \"id\" {{\n  description = \"Identifier of the {name}.\"\n  value       = one(aws_{name}.this[*].id)\n}}\n\noutput \"arn\" {{\n  \
         value = one(aws_{name}.this[*].arn)\n}}\n\noutput \"parts\" {{\n  value = {{\n    first  = module.part_0.id\n    second = module.part_1.id\n  }}\n}}\n"
    )
}

fn outputs_json(name: &str) -> String {
    let outputs = serde_json::json!({"output": {
        "id": {"value": format!("${{one(aws_{name}.this[*].id)}}")},
        "arn": {"value": format!("${{one(aws_{name}.this[*].arn)}}")},
        "parts": {"value": {"first": "${module.part_0.id}", "second": "${module.part_1.id}"}},
    }});
    format!("{outputs:#}\n")
}

/// A shared module; every third has a nested module, every second a template.
fn shared_module(writer: &mut Writer<'_>, index: usize) -> Result<(), TestkitError> {
    let directory = format!("modules/shared-{index:02}");
    let mut text = String::new();
    put!(
        text,
        "variable \"name\" {{\n  type = string\n}}\n\nvariable \"replicas\" {{\n  type = number\n}}\n\nvariable \"tags\" {{\n  type = map(string)\n}}\n\nvariable \"parent\" {{\n  type    = string\n  default = null\n}}\n"
    );
    put!(
        text,
        "resource \"aws_instance\" \"this\" {{\n  count         = var.replicas\n  instance_type = \"t3.small\"\n  subnet_id     = var.parent\n  tags          = merge(var.tags, {{ Name = \"${{var.name}}-${{count.index}}\" }})"
    );
    if index.is_multiple_of(2) {
        put!(
            text,
            "  user_data     = templatefile(\"${{path.module}}/templates/start.sh.tftpl\", {{ name = var.name }})"
        );
        writer.write(&format!("{directory}/templates/start.sh.tftpl"), "#!/bin/sh\nexec start ${name}\n")?;
    }
    put!(text, "}}\n");
    if index.is_multiple_of(3) {
        put!(text, "module \"alarm\" {{\n  source = \"./alarm\"\n\n  name = var.name\n}}\n");
        let alarm = "variable \"name\" {\n  type = string\n}\n\nresource \"aws_cloudwatch_metric_alarm\" \"this\" {\n  alarm_name = var.name\n  threshold  = 80\n}\n";
        writer.write(&format!("{directory}/alarm/main.tf"), alarm)?;
    }
    put!(text, "output \"id\" {{\n  value = one(aws_instance.this[*].id)\n}}");
    writer.write(&format!("{directory}/main.tf"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_repository() {
        let temporary = tempfile::tempdir().unwrap();
        let make = |name: &str, seed: u64| {
            let root = temporary.path().join(name);
            let made = write_synthetic(&root, 40, seed).unwrap();
            (Git::open(&root).run(&["rev-parse", "HEAD^{tree}"]).unwrap(), made)
        };
        let (tree, made) = make("first", 1);
        assert_eq!(tree, make("second", 1).0);
        assert_ne!(tree, make("third", 2).0);
        // Each group of ten has 19 edges.
        assert_eq!((made.stacks, made.edges), (40, 4 * 19));
        let changed = Git::open(&made.root).run(&["diff", "--name-only", "HEAD~1"]).unwrap();
        assert_eq!(changed.trim(), made.changed);
    }

    #[test]
    fn terraform_can_read_all_of_it() {
        let temporary = tempfile::tempdir().unwrap();
        let made = write_synthetic(&temporary.path().join("repo"), 30, 7).unwrap();
        // `fmt` parses every file; the layout is another matter, hence no `-check`.
        let output = std::process::Command::new(crate::cli::terraform().unwrap())
            .args(["fmt", "-recursive", "-list=false"])
            .current_dir(&made.root)
            .env("CHECKPOINT_DISABLE", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

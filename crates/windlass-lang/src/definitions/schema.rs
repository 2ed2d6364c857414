//! What each block of a Windlass file takes. One table is the source of everything about an attribute: its name, its type, both
//! in the file and in the value that is read, whether it is required, and the words that explain it.

use super::reader::{Count, Cpu, Duration, Flag, Globs, Kind, Map, Memory, Reader, Template, Templates, Text, Texts};

/// What a block may hold, for messages.
#[derive(Debug)]
pub struct Schema {
    pub block: &'static str,
    pub attributes: &'static [Attribute],
    pub blocks: &'static [&'static str],
}

#[derive(Debug)]
pub struct Attribute {
    pub name: &'static str,
    /// What a value looks like.
    pub expected: &'static str,
    pub required: bool,
    /// What it means, in a few words.
    pub meaning: &'static str,
}

/// A block's attributes, read and checked against its table.
pub trait Attributes: Sized {
    const SCHEMA: &'static Schema;
    fn read(reader: &mut Reader<'_>) -> Self;
}

/// `Values: "block", [inner blocks], { field = "name" Kind required|optional "meaning", … }`
macro_rules! schema {
    ($values:ident: $block:literal, [$($inner:literal),*], {
        $($field:ident = $name:literal $kind:ident $required:ident $meaning:literal,)*
    }) => {
        pub struct $values {
            $(pub $field: <$kind as Kind>::Output,)*
        }

        impl Attributes for $values {
            const SCHEMA: &'static Schema = &Schema {
                block: $block,
                attributes: &[$(Attribute {
                    name: $name,
                    expected: <$kind as Kind>::EXPECTED,
                    required: schema!(@$required),
                    meaning: $meaning,
                }),*],
                blocks: &[$($inner),*],
            };

            fn read(_reader: &mut Reader<'_>) -> Self {
                Self { $($field: _reader.value::<$kind>($name),)* }
            }
        }
    };
    (@required) => { true };
    (@optional) => { false };
}

pub(super) use schema;

/// The top of a file.
pub const TOP: &Schema = &Schema {
    block: "a Windlass file",
    attributes: &[],
    blocks: &[
        "project",
        "team",
        "grant",
        "runner",
        "stack",
        "policy",
        "locals",
        "operation",
        "template",
        "batch",
        "notifier",
        "freeze",
        "host_set",
        "service",
    ],
};

schema!(ProjectValues: "project", ["changes", "environment", "lint", "waivers", "notify"], {
    review_expires = "review_expires" Duration optional "how long a review is good for",
    default_role = "default_role" Text optional "the role of everybody who is signed in",
});

schema!(EnvironmentValues: "environment", ["approvals", "rollout", "notify"], {
    matches = "match" Globs required "patterns over stacks, or over instances when they have a bracket",
    runner = "runner" Text optional "the label of the workers that do the steps of its instances",
    apply = "apply" Text optional "when changes that touch it are applied: before_merge, on_merge, after_merge or never",
});

schema!(ChangesValues: "changes", [], {
    apply = "apply" Text optional "when changes are applied: before_merge, on_merge, after_merge or never",
    merge = "merge" Flag optional "whether a change is merged when it was applied",
    method = "method" Text optional "how it is merged: merge, squash or rebase",
    delete_branch = "delete_branch" Flag optional "whether its branch is deleted when it is merged",
    forks = "forks" Text optional "\"ask\" plans changes of forks once somebody who may says so, \"never\" does not",
    autoplan = "autoplan" Flag optional "whether changes are planned without being asked for",
    labels = "labels" Flag optional "whether changes get labels of what they do",
});

schema!(ChangeNotifyValues: "notify", [], {
    to = "to" Texts required "notifiers, notifier.NAME",
    on = "on" Texts optional "success, failure, waiting, drift or quarantine; all but success when left out",
});

schema!(LintValues: "lint", ["tool"], {
    disable = "disable" Texts optional "codes of checks that are not made",
});

schema!(ToolValues: "tool", [], {
    command = "command" Texts optional "program and arguments; it writes a SARIF report",
    enforcement = "enforcement" Text optional "\"warn\" or \"deny\"",
    runner = "runner" Text optional "the runner in whose container it runs",
});

schema!(ApprovalsValues: "approvals", [], {
    count = "count" Count optional "how many different people",
    from = "from" Texts optional "teams whose members count",
    author_may_approve = "author_may_approve" Flag optional "whether an author of the change counts",
    unverified = "unverified" Flag optional "whether people nobody has checked count",
});

schema!(TeamValues: "team", [], {
    members = "members" Texts required "who belongs to it, such as \"user:NAME\" or \"github:ORG/TEAM\"",
});

schema!(GrantValues: "grant", [], {
    to = "to" Texts required "teams whose members have it",
    role = "role" Text optional "viewer, developer, operator or admin",
    permissions = "permissions" Texts optional "permissions beside those of the role",
    stacks = "stacks" Globs optional "the stacks, or instances where a pattern has a bracket, that it is for",
    environments = "environments" Texts optional "the environments that it is for",
});

schema!(RunnerValues: "runner", ["container", "job"], {
    description = "description" Text optional "what it is for",
});

schema!(ContainerValues: "container", [], {
    image = "image" Text required "the image that has the programs on its PATH",
    user = "user" Text optional "the user inside, \"UID:GID\" or a name",
    network = "network" Text optional "a network of the container engine, such as \"host\"",
    memory = "memory" Memory optional "how much memory a program gets",
    cpu = "cpu" Cpu optional "how many processors a program gets",
    environment = "environment" Map optional "variables of the programs",
    mounts = "mounts" Texts optional "more directories of the machine, \"/HOST:/INSIDE:ro\"",
    pull = "pull" Text optional "when the image is fetched: missing, always or never",
});

schema!(JobValues: "job", [], {
    image = "image" Text required "the image that has the programs on its PATH",
    namespace = "namespace" Text optional "the namespace of the jobs",
    service_account = "service_account" Text optional "the service account of the pods",
    memory = "memory" Memory optional "how much memory a program gets",
    cpu = "cpu" Cpu optional "how many processors a program gets",
    environment = "environment" Map optional "variables of the programs",
    volume_claim = "volume_claim" Text optional "the claim of the volume that holds the data directory",
    node_selector = "node_selector" Map optional "labels of the nodes that may be used",
});

schema!(StackValues: "stack", ["instance", "ready", "rollout"], {
    owner = "owner" Text optional "a team",
    regions = "regions" Texts optional "one instance each",
    after = "after" Texts optional "stacks that are applied first",
    var_files = "var_files" Texts optional "variable files of all instances, relative to the stack",
    variables = "variables" Map optional "values for all instances",
    backend_config = "backend_config" Map optional "what a partial backend configuration leaves out",
    tool = "tool" Text optional "\"terraform\" or \"tofu\"",
    runner = "runner" Text optional "the label of the workers that do its steps",
    env = "env" Texts optional "environment variables that are passed to terraform, by name",
    enabled = "enabled" Flag optional "`false` takes the directory out of discovery",
    drift_ignore = "drift_ignore" Texts optional "what may drift without being told: patterns over ADDRESS.ATTRIBUTE",
    protect = "protect" Flag optional "`true` keeps it from ever being destroyed as a whole",
});

schema!(InstanceValues: "instance", [], {
    workspace = "workspace" Text optional "its workspace",
    var_files = "var_files" Texts optional "its variable files, relative to the stack",
    variables = "variables" Map optional "its values",
    backend_config = "backend_config" Map optional "what a partial backend configuration leaves out",
});

schema!(ReadyValues: "ready", [], {
    tcp = "tcp" Template optional "an address that has to accept connections",
    http = "http" Template optional "an address that has to answer",
    command = "command" Templates optional "a program and its arguments that has to succeed",
    status = "status" Count optional "the status to answer with; any from 200 to 299 otherwise",
    contains = "contains" Text optional "a text that the answer has to hold",
    timeout = "timeout" Duration optional "how long all of it may take",
    interval = "interval" Duration optional "from an answer to the next question",
});

schema!(GateValues: "gate", [], {
    tcp = "tcp" Text optional "an address that has to accept connections",
    http = "http" Text optional "an address that has to answer",
    command = "command" Texts optional "a program and its arguments: 0 passes, 1 fails, anything else holds",
    status = "status" Count optional "the status to answer with; any from 200 to 299 otherwise",
    contains = "contains" Text optional "a text that the answer has to hold",
    timeout = "timeout" Duration optional "how long one question may take",
    interval = "interval" Duration optional "from an answer to the next question",
    checks = "checks" Flag optional "`true` asks the `check` blocks of what was applied",
    service_level = "service_level" Text optional "a service level by name",
});

schema!(RolloutValues: "rollout", ["gate", "wave"], {
    canary = "canary" Text optional "what goes first: a region, an instance, or environment:NAME",
    batch = "batch" Count optional "how many go at a time after it; all when left out",
    soak = "soak" Duration optional "how long each wave is left alone before its gates are asked",
    gate_timeout = "gate_timeout" Duration optional "how long a gate may hold before a person is asked",
    max_failures = "max_failures" Count optional "failed instances that a wave may have and still go on",
    on_failure = "on_failure" Text optional "\"halt\" or \"rollback\"",
});

schema!(WaveValues: "wave", ["gate"], {
    select = "select" Texts required "regions, instances, environment:NAME, or rest",
    soak = "soak" Duration optional "instead of the rollout's",
});

schema!(PolicyValues: "policy", ["waivers"], {
    decides = "decides" Text optional "what it is asked about: plan, review, approval, operation, access or trigger",
    paths = "paths" Texts optional "Rego files or directories, from the root, or in the bundle",
    source = "source" Text optional "a bundle: \"git::https://…//dir?ref=…\" or \"oci://host/repo:tag@sha256:…\"",
    checksum = "checksum" Text optional "what the bundle has to hold, as `windlass policy pull` prints it",
    matches = "match" Globs optional "stacks that it judges",
    namespaces = "namespaces" Texts optional "packages that judge",
    enforcement = "enforcement" Text optional "\"deny\" or \"warn\"",
    engine = "engine" Text optional "\"embedded\" or \"opa\"",
});

schema!(WaiversValues: "waivers", [], {
    from = "from" Texts required "teams whose members may waive a finding",
    author_may_waive = "author_may_waive" Flag optional "whether an author of the change may",
    unverified = "unverified" Flag optional "whether people nobody has checked may",
    longest = "longest" Duration optional "how long a waiver may hold",
});

/// The tables, for the test that compares them with the documentation.
#[cfg(test)]
pub const ALL: [&Schema; 19] = [
    ProjectValues::SCHEMA,
    ChangesValues::SCHEMA,
    EnvironmentValues::SCHEMA,
    ApprovalsValues::SCHEMA,
    TeamValues::SCHEMA,
    GrantValues::SCHEMA,
    RunnerValues::SCHEMA,
    ContainerValues::SCHEMA,
    JobValues::SCHEMA,
    StackValues::SCHEMA,
    InstanceValues::SCHEMA,
    ReadyValues::SCHEMA,
    GateValues::SCHEMA,
    RolloutValues::SCHEMA,
    WaveValues::SCHEMA,
    PolicyValues::SCHEMA,
    LintValues::SCHEMA,
    ToolValues::SCHEMA,
    WaiversValues::SCHEMA,
];

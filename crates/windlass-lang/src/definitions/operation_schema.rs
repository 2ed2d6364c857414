//! What the blocks of operations take.

use super::reader::{Count, Cpu, Duration, Flag, Kind, Map, Memory, Reader, Text, Texts};
use super::schema::{Attribute, Attributes, Schema, schema};
use super::written::{BatchSize, Bound, Number, StatusRange, Statuses, Word, Written, WrittenList, WrittenMap};

schema!(OperationValues: "operation", ["grant", "param", "secret", "approvals", "concurrency", "schedule", "trigger", "step",
    "each", "parallel", "on_failure", "on_cancel", "notify", "checklist"], {
    from = "from" Text optional "the template that says what is not said here, template.NAME",
    description = "description" Text optional "what it is for, Markdown",
    owner = "owner" Text optional "a team",
    allow = "allow" Texts optional "teams whose members may run it with any parameters",
    labels = "labels" Map optional "texts by which it is found",
    environment = "environment" Written optional "the environment whose freezes, runner and grants apply",
    runner = "runner" Text optional "the label of the workers that do its steps",
    timeout = "timeout" Duration optional "how long a run may take, waiting for people included",
    locks = "locks" WrittenList optional "names of locks, or \"stack:INSTANCE\", that each of its steps holds",
    confirm = "confirm" Written optional "a text that has to be typed before it begins",
    break_glass = "break_glass" Texts optional "teams whose members may run it at once, without approvals and in a freeze",
    alert_after = "alert_after" Count optional "an alert after so many intervals of its schedules without a success",
});

schema!(BatchValues: "batch", ["grant", "param", "secret", "concurrency", "schedule", "trigger", "notify"], {
    description = "description" Text optional "what it is for, Markdown",
    owner = "owner" Text optional "a team",
    allow = "allow" Texts optional "teams whose members may run it",
    labels = "labels" Map optional "texts by which it is found",
    environment = "environment" Written optional "the environment whose freezes, runner and grants apply",
    runner = "runner" Text optional "the label of the workers that do it",
    image = "image" Written optional "the image of the container that it runs in",
    command = "command" Written optional "program and arguments; with an image, instead of what the image does by itself",
    arguments = "arguments" Written optional "further arguments",
    env = "env" WrittenMap optional "variables of the program",
    memory = "memory" Memory optional "how much memory each of the programs gets",
    cpu = "cpu" Cpu optional "how many processors each of the programs gets",
    count = "count" Count optional "how many of them run at once; each.index says which",
    timeout = "timeout" Duration optional "how long one attempt may take",
    retries = "retries" Number optional "how often it is tried again",
    give_up = "give_up" Statuses optional "exit statuses after which it is not tried again",
    alert_after = "alert_after" Count optional "an alert after so many intervals without a success",
});

schema!(OperationGrantValues: "grant", [], {
    to = "to" Texts required "teams whose members may run it",
    when = "when" Written optional "a condition over parameters",
});

schema!(ParamValues: "param", ["choices_from"], {
    kind = "type" Word optional "string, number, bool, choice, multi_choice, duration, date_time, secret, file, stack, service or host_set",
    description = "description" Text optional "what is asked for",
    default = "default" Written optional "the value where none is given",
    required = "required" Flag optional "`false`: it may be left out, and is null then",
    pattern = "pattern" Text optional "a regular expression that the whole of a text has to match",
    min = "min" Bound optional "the least number or duration, or the least length",
    max = "max" Bound optional "the greatest number or duration, or the greatest length",
    choices = "choices" Written optional "a list of texts, or an object of texts by label",
});

schema!(ChoicesFromValues: "choices_from", [], {
    command = "command" Written optional "program and arguments that say one a line, or a JSON list",
    file = "file" Written optional "a file of the repository, one a line, or a JSON or YAML list",
    http = "http" Written optional "an address that answers with JSON",
    pointer = "pointer" Text optional "where in the answer the list is, a JSON pointer",
    stack = "stack" Written optional "a stack instance one of whose outputs is the list",
    output = "output" Text optional "the name of the output",
    cache = "cache" Duration optional "how long an answer is good for",
});

schema!(SecretValues: "secret", [], {
    env = "env" Text optional "a variable of the worker's environment",
    file = "file" Text optional "a whole path on the worker",
    command = "command" Texts optional "program and arguments that say it",
});

schema!(OperationApprovalsValues: "approvals", [], {
    count = "count" Count optional "how many different people",
    from = "from" Texts optional "teams whose members count",
    when = "when" Written optional "a condition over parameters; without it they are always needed",
    expires = "expires" Duration optional "how long is waited for them before the run fails",
    unverified = "unverified" Flag optional "whether people nobody has checked count",
});

schema!(ConcurrencyValues: "concurrency", [], {
    key = "key" Written optional "runs with the same text are counted together",
    limit = "limit" Count optional "how many of them there may be at a time",
    on_conflict = "on_conflict" Word optional "queue, cancel_running or reject",
});

schema!(ScheduleValues: "schedule", [], {
    cron = "cron" Text required "minute, hour, day, month and day of the week, perhaps with seconds before them",
    timezone = "timezone" Text optional "a zone such as \"Asia/Tokyo\"",
    missed = "missed" Word optional "what becomes of times at which no server was there: skip, latest or all",
    within = "within" Duration optional "how late a missed time may still be made up for",
    jitter = "jitter" Duration optional "how much later it may begin, so that not all begin at once",
    arguments = "arguments" WrittenMap optional "values of its parameters",
    enabled = "enabled" Flag optional "`false`: it does not start anything",
});

schema!(TriggerValues: "trigger", ["webhook", "event", "alertmanager", "files", "image"], {
    when = "when" Written optional "a condition over trigger.payload and trigger.event",
    arguments = "arguments" WrittenMap optional "values of its parameters",
    deduplicate = "deduplicate" Written optional "what has the same text starts one run",
    window = "window" Duration optional "for how long",
});

schema!(WebhookTriggerValues: "webhook", [], {
    key = "key" Written required "the secret that deliveries are signed with, secret.NAME",
});

schema!(EventTriggerValues: "event", [], {
    kinds = "kinds" Texts required "kinds of events, e.g. \"run.failed\"",
});

schema!(AlertmanagerTriggerValues: "alertmanager", [], {
    key = "key" Written required "the secret that deliveries carry, secret.NAME",
    resolved = "resolved" Flag optional "whether the end of an alert starts it as well",
});

schema!(FilesTriggerValues: "files", [], {
    paths = "paths" Texts required "patterns over paths in the repository",
});

schema!(ImageTriggerValues: "image", [], {
    reference = "reference" Text required "an image with a tag",
    every = "every" Duration optional "how often its digest is asked for",
});

schema!(StepValues: "step", ["retry", "script", "container", "job", "http", "sql", "terraform", "approval", "ask", "wait",
    "operation", "notify", "undo"], {
    description = "description" Text optional "what it does, for people",
    run = "run" Written optional "program and arguments",
    shell = "shell" Written optional "a line for /bin/sh -ec",
    stack_outputs = "stack_outputs" Written optional "a stack instance whose outputs become those of the step",
    when = "when" Written optional "it is passed over where this is false",
    after = "after" Texts optional "nodes of the same level that it waits for, instead of the one before it",
    env = "env" WrittenMap optional "variables of its programs",
    directory = "directory" Written optional "where it runs, relative to the root of the repository",
    runner = "runner" Text optional "instead of the operation's",
    timeout = "timeout" Duration optional "how long one attempt may take",
    repeat = "repeat" Word optional "idempotent, checkable or once",
    probe = "probe" Written optional "a program that exits with 0 when a checkable step had happened, with 1 when not",
    outputs = "outputs" Word optional "how its standard output is read: json, key_value or text",
    artefacts = "artefacts" Texts optional "files that are kept, patterns relative to its directory",
    mask = "mask" WrittenList optional "more values that are kept out of the log",
    locks = "locks" WrittenList optional "locks that it holds while it runs, beside the operation's",
    may_fail = "may_fail" Flag optional "`true`: its failure does not fail the run",
    success = "success" Statuses optional "exit statuses that are a success",
    give_up = "give_up" Statuses optional "exit statuses after which it is not tried again",
    memory = "memory" Memory optional "how much memory it takes",
    cpu = "cpu" Cpu optional "how many processors it takes",
});

schema!(RetryValues: "retry", [], {
    attempts = "attempts" Count required "how often it is tried in all",
    backoff = "backoff" Duration optional "how long before the second attempt; it doubles each time",
    max_backoff = "max_backoff" Duration optional "the longest time between two attempts",
});

schema!(ScriptValues: "script", [], {
    interpreter = "interpreter" Texts optional "what it is given to",
    text = "text" Written optional "the script itself",
    file = "file" Written optional "a file of the repository",
    arguments = "arguments" Written optional "arguments of the script",
});

schema!(StepContainerValues: "container", [], {
    image = "image" Written required "the image",
    run = "run" Written optional "program and arguments; what the image does by itself otherwise",
    user = "user" Text optional "the user inside, \"UID:GID\" or a name",
    network = "network" Text optional "a network of the container engine, such as \"host\"",
    memory = "memory" Memory optional "how much memory a program gets",
    cpu = "cpu" Cpu optional "how many processors a program gets",
    environment = "environment" Map optional "variables of the programs",
    mounts = "mounts" Texts optional "more directories of the machine, \"/HOST:/INSIDE:ro\"",
    pull = "pull" Text optional "when the image is fetched: missing, always or never",
});

schema!(StepJobValues: "job", [], {
    image = "image" Written required "the image",
    run = "run" Written optional "program and arguments; what the image does by itself otherwise",
    namespace = "namespace" Text optional "the namespace of the jobs",
    service_account = "service_account" Text optional "the service account of the pods",
    memory = "memory" Memory optional "how much memory a program gets",
    cpu = "cpu" Cpu optional "how many processors a program gets",
    environment = "environment" Map optional "variables of the programs",
    volume_claim = "volume_claim" Text optional "the claim of the volume that holds the data directory",
    node_selector = "node_selector" Map optional "labels of the nodes that may be used",
});

schema!(HttpValues: "http", [], {
    method = "method" Text optional "GET, POST, …",
    url = "url" Written required "the address",
    headers = "headers" WrittenMap optional "headers of the request",
    body = "body" Written optional "a text, or anything else, which is sent as JSON",
    status = "status" StatusRange optional "the status to answer with, or a range of them",
    contains = "contains" Written optional "a text that the answer has to hold",
    timeout = "timeout" Duration optional "how long the answer may take",
});

schema!(SqlValues: "sql", [], {
    url = "url" Written required "postgres://…, mysql://… or sqlite:…, mostly secret.NAME",
    statement = "statement" Written required "the statement",
    values = "values" Written optional "a list of the values of $1, $2, …",
    write = "write" Flag optional "`true`: it may change something",
    max_rows = "max_rows" Number optional "more rows than this fail the step",
});

schema!(TerraformValues: "terraform", [], {
    stack = "stack" Written required "a stack instance",
    command = "command" Word required "plan, apply or output",
    variables = "variables" WrittenMap optional "values for this time",
});

schema!(AskValues: "ask", [], {
    question = "question" Written required "what is asked",
    choices = "choices" Texts optional "the answers that there are; any text otherwise",
    from = "from" Texts optional "teams whose members may answer",
    default = "default" Text optional "the answer where nobody gives one in time",
    expires = "expires" Duration optional "how long is waited for an answer",
});

schema!(WaitValues: "wait", ["gate"], {
    duration = "for" Written optional "a time such as \"5m\"",
    until = "until" Written optional "a moment such as \"2026-03-29T02:30:00+09:00\"",
});

schema!(CallValues: "operation", [], {
    name = "name" Text required "the operation",
    arguments = "arguments" WrittenMap optional "values of its parameters",
});

schema!(StepNotifyValues: "notify", [], {
    to = "to" Texts required "notifiers, notifier.NAME",
    text = "text" Written required "what is told",
});

schema!(EachValues: "each", ["gate", "step", "each", "parallel"], {
    members = "in" Written required "a list, or an object whose keys are each.key",
    batch = "batch" BatchSize optional "how many members at once, or a percentage of them; all when left out",
    max_failures = "max_failures" Number optional "how many members may fail before nothing further is begun",
});

schema!(ParallelValues: "parallel", ["step", "each", "parallel"], {
});

schema!(OperationGateValues: "gate", [], {
    tcp = "tcp" Written optional "an address that has to accept connections",
    http = "http" Written optional "an address that has to answer",
    command = "command" WrittenList optional "a program and its arguments: 0 passes, 1 fails, anything else holds",
    status = "status" StatusRange optional "the status to answer with; any from 200 to 299 otherwise",
    contains = "contains" Written optional "a text that the answer has to hold",
    timeout = "timeout" Duration optional "how long one question may take",
    interval = "interval" Duration optional "from an answer to the next question",
    within = "within" Duration optional "how long it is asked again before it counts as failed",
});

schema!(NotifyValues: "notify", [], {
    to = "to" Texts required "notifiers, notifier.NAME",
    on = "on" Texts optional "success, failure, waiting, slow, late, recovered, break_glass or dead_man; failure, waiting and recovered when left out",
});

schema!(ChecklistValues: "checklist", ["window", "before", "during", "after"], {
    announcement = "announcement" Written optional "what is told to those who are touched, Markdown",
    rollback = "rollback" Written optional "how it is taken back, Markdown",
});

schema!(WindowValues: "window", [], {
    days = "days" Texts optional "days of the week, mon to sun; all when left out",
    from = "from" Text required "the time of day at which it may begin, \"22:00\"",
    to = "to" Text required "the time of day until which it may begin",
    timezone = "timezone" Text optional "a zone such as \"Asia/Tokyo\"",
});

schema!(ItemValues: "before", [], {
    text = "text" Text required "what has to be so, for people",
    run = "run" Written optional "a program that decides it",
    from = "from" Texts optional "teams whose members may tick it",
});

schema!(NotifierValues: "notifier", ["secret", "webhook", "bot", "email", "signed"], {
});

schema!(WebhookValues: "webhook", [], {
    url = "url" Written required "the address of an incoming webhook of Slack or Mattermost",
});

schema!(BotValues: "bot", [], {
    api = "api" Text optional "the address of the API; that of Slack otherwise",
    token = "token" Written required "secret.NAME",
    channel = "channel" Text required "where it writes",
});

schema!(EmailValues: "email", [], {
    smtp = "smtp" Written required "smtp://… or smtps://… of the server, mostly secret.NAME",
    from = "from" Text required "the sender",
    to = "to" Texts required "the receivers",
});

schema!(SignedValues: "signed", [], {
    url = "url" Written required "the address that gets JSON",
    key = "key" Written required "what it is signed with, secret.NAME",
});

schema!(FreezeValues: "freeze", [], {
    environments = "environments" Texts optional "where; everywhere when left out",
    from = "from" Text required "its beginning, \"2026-12-20T00:00:00+09:00\"",
    to = "to" Text required "its end",
    reason = "reason" Text required "why, for people",
});

schema!(HostSetValues: "host_set", [], {
    members = "members" Texts required "names of hosts",
});

schema!(ServiceValues: "service", [], {
    description = "description" Text optional "what it is",
    owner = "owner" Text optional "a team",
});

/// The tables, for the test that compares them with the documentation.
#[cfg(test)]
pub const ALL: [&Schema; 42] = [
    OperationValues::SCHEMA,
    BatchValues::SCHEMA,
    OperationGrantValues::SCHEMA,
    ParamValues::SCHEMA,
    ChoicesFromValues::SCHEMA,
    SecretValues::SCHEMA,
    OperationApprovalsValues::SCHEMA,
    ConcurrencyValues::SCHEMA,
    ScheduleValues::SCHEMA,
    TriggerValues::SCHEMA,
    WebhookTriggerValues::SCHEMA,
    EventTriggerValues::SCHEMA,
    AlertmanagerTriggerValues::SCHEMA,
    FilesTriggerValues::SCHEMA,
    ImageTriggerValues::SCHEMA,
    StepValues::SCHEMA,
    RetryValues::SCHEMA,
    ScriptValues::SCHEMA,
    StepContainerValues::SCHEMA,
    StepJobValues::SCHEMA,
    HttpValues::SCHEMA,
    SqlValues::SCHEMA,
    TerraformValues::SCHEMA,
    AskValues::SCHEMA,
    WaitValues::SCHEMA,
    CallValues::SCHEMA,
    StepNotifyValues::SCHEMA,
    EachValues::SCHEMA,
    ParallelValues::SCHEMA,
    OperationGateValues::SCHEMA,
    NotifyValues::SCHEMA,
    ChecklistValues::SCHEMA,
    WindowValues::SCHEMA,
    ItemValues::SCHEMA,
    NotifierValues::SCHEMA,
    WebhookValues::SCHEMA,
    BotValues::SCHEMA,
    EmailValues::SCHEMA,
    SignedValues::SCHEMA,
    FreezeValues::SCHEMA,
    HostSetValues::SCHEMA,
    ServiceValues::SCHEMA,
];

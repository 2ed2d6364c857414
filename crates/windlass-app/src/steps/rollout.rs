//! What stands between the applies: readiness of a stack, soaking of a wave, gates.

use super::{failed, input};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::recover::Silent;
use crate::service::Service;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_drivers::probe::{self, Probe, Surroundings};
use windlass_drivers::process::{Listener, Stream, Token};
use windlass_engine::{Executor, StepContext, StepFailure, StepResult};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::InstanceId;
use windlass_model::place::Place;
use windlass_model::rollout::{Answer, Gate, GateInput, GateWait, SoakAnswer, SoakInput, gate_wait, soak_answer};
use windlass_model::run::{StepState, Steps};
use windlass_model::stack_plan::{ApplyWork, StackWork, apply_step};

/// Longest time of one attempt of a `ready` probe.
const ATTEMPT: i64 = 10_000_000;

/// Asks the `ready` probes of a stack until each has passed.
pub struct Ready(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Ready {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.ready(cx).await {
            Ok(result) => result,
            Err(error) => failed(error),
        }
    }
}

impl Ready {
    async fn ready(&self, cx: &StepContext) -> AppResult<StepResult> {
        let work: StackWork = input(&cx.input)?;
        crate::secrets::hide(&self.0, cx, &work, None).await;
        let mut outputs = None;
        for gate in &work.ready {
            let gate = resolve(&self.0, cx, &work, gate, &mut outputs).await?;
            let (limit, interval) = (gate.timeout().unwrap_or(ATTEMPT), gate.interval().unwrap_or(ATTEMPT));
            let title = gate.title();
            let Some(probe) = probe_of(&self.0, cx, &work, &work.place, shortened(gate)).await? else { continue };
            cx.log(format!("{title}\n").as_bytes()).await;
            cx.flush().await;
            let deadline = Instant::now() + micros(limit);
            let answer = probe::until(&probe, deadline, micros(interval), &cx.cancel, &mut Starts(cx)).await;
            cx.log(format!("{}\n{}", answer.detail, answer.output).as_bytes()).await;
            if answer.answer != Answer::Pass {
                if cx.cancel.is_cancelled() {
                    return Ok(StepResult::Cancelled);
                }
                let message = format!("{} is not ready: {}", work.instance.id, answer.detail);
                return Ok(StepResult::Failed(StepFailure { code: "WL665".into(), message, retryable: false }));
            }
        }
        Ok(StepResult::Succeeded(serde_json::json!({ "ready": true })))
    }
}

fn shortened(gate: Gate) -> Gate {
    match gate {
        Gate::Tcp { address, timeout, interval } => Gate::Tcp { address, timeout: timeout.min(ATTEMPT), interval },
        Gate::Http { url, status, contains, timeout, interval } => {
            Gate::Http { url, status, contains, timeout: timeout.min(ATTEMPT), interval }
        }
        other => other,
    }
}

fn micros(time: i64) -> Duration {
    Duration::from_micros(u64::try_from(time).unwrap_or(0))
}

/// Commands run in the stack's directory with what finding programs needs, and what the stack declares.
async fn probe_of(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    place: &Place,
    gate: Gate,
) -> AppResult<Option<Probe>> {
    let directory = service.checkout.root.join(super::terraform::directory_of(work));
    let of_the_machine = ["PATH", "HOME"].iter().filter(|_| place.is_here());
    let names = ["LANG", "LC_ALL", "TZ"].iter().chain(of_the_machine).map(|name| (*name).to_owned());
    let environment: BTreeMap<OsString, OsString> = names
        .chain(work.env.iter().cloned())
        .filter_map(|name| Some((OsString::from(&name), std::env::var_os(name)?)))
        .chain([(OsString::from("WINDLASS_INSTANCE"), OsString::from(work.instance.id.as_str()))])
        .collect();
    let gate = super::operation::at_home(gate, &directory);
    let (token, reach) = (Token::parse(&cx.token), vec![service.checkout.root.clone()]);
    let asker = Vec::new();
    let mut around = Surroundings { directory, environment, place: place.clone(), token, reach, asker };
    super::elsewhere::ask_there(service, &mut around, &gate).await?;
    Ok(Probe::of_gate(&gate, &around))
}

/// Puts on record what starts for a probe.
pub struct Starts<'a>(pub &'a StepContext);

impl Listener for Starts<'_> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.0.process_started(pid).await.map_err(|error| error.to_string())
    }
    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        super::terraform::starts_elsewhere(self.0, what).await
    }
    async fn output(&mut self, _: Stream, bytes: &[u8]) {
        self.0.log(bytes).await;
    }
}

/// Puts the stack's outputs in place of `${output.NAME}`; they are read once, when one is needed.
async fn resolve(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    gate: &Gate,
    outputs: &mut Option<BTreeMap<String, String>>,
) -> AppResult<Gate> {
    let text = serde_json::to_string(gate).map_err(crate::error::internal)?;
    if !text.contains("${output.") {
        return Ok(gate.clone());
    }
    if outputs.is_none() {
        let stack = super::terraform::stack_directory(service, cx, work).await?;
        let found = stack.outputs(&cx.cancel, &mut Silent).await.map_err(|e| super::terraform::driver_error(&e))?;
        *outputs = Some(found.map_err(|diagnostics| AppError::many(ErrorKind::Unavailable, diagnostics))?);
    }
    let mut resolved = text;
    for (name, value) in outputs.iter().flatten() {
        // Inside of JSON text: the value is written as JSON writes it, without its quotes.
        let quoted = serde_json::Value::from(value.as_str()).to_string();
        resolved = resolved.replace(&format!("${{output.{name}}}"), quoted.trim_matches('"'));
    }
    if let Some(rest) = resolved.split("${output.").nth(1) {
        let name = rest.split('}').next().unwrap_or_default();
        let summary = format!("{} has no output `{name}`, which its `ready` block uses", work.instance.id);
        let help = "`windlass show STACK` lists the outputs; a sensitive one or one that is no text cannot be used";
        return Err(AppError::new(ErrorKind::Definition, Diagnostic::error("WL666", summary).help(help)));
    }
    serde_json::from_str(&resolved).map_err(crate::error::internal)
}

/// Leaves a wave alone for its time, and stops what follows when too much of it failed.
pub struct Soak(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Soak {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let work = async {
            let soak: SoakInput = input(&cx.input)?;
            let now = self.0.store.now().await?;
            Ok::<_, AppError>(match soak_answer(&soak, &steps(&self.0, cx).await?, now) {
                SoakAnswer::Passed => StepResult::Succeeded(serde_json::json!({ "wave": soak.name })),
                SoakAnswer::Until(until) => {
                    let seconds = (until - now).max(0) / 1_000_000;
                    let reason = format!("wave {} soaks for another {seconds}s", soak.name);
                    StepResult::Wait { reason, until: Some(until) }
                }
                SoakAnswer::Failed(message) => {
                    StepResult::Failed(StepFailure { code: "WL667".into(), message, retryable: false })
                }
            })
        };
        work.await.unwrap_or_else(failed)
    }
}

async fn steps(service: &Service, cx: &StepContext) -> AppResult<Steps> {
    Ok(service.store.step_list(&cx.run).await?.into_iter().map(|step| (step.id.clone(), step)).collect())
}

/// Asks whether a wave is well. Nothing but a pass passes; what holds for too long is for a person to decide.
pub struct WaveGate(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for WaveGate {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.gate(cx).await {
            Ok(result) => result,
            Err(error) => failed(error),
        }
    }
}

impl WaveGate {
    async fn gate(&self, cx: &StepContext) -> AppResult<StepResult> {
        let service = &self.0;
        let gate: GateInput = input(&cx.input)?;
        let steps = steps(service, cx).await?;
        if gate.is_moot(&steps) {
            return Ok(StepResult::Succeeded(serde_json::json!({ "answer": "nothing was applied" })));
        }
        let applied: Vec<InstanceId> = gate
            .instances
            .keys()
            .filter(|id| steps.get(&apply_step(id)).is_some_and(|s| s.state == StepState::Succeeded))
            .cloned()
            .collect();
        let (answer, detail) = self.ask(cx, &gate, &applied).await?;
        cx.log(format!("{answer:?}: {detail}\n").as_bytes()).await;
        let title = gate.gate.title();
        match answer {
            Answer::Pass => return Ok(StepResult::Succeeded(serde_json::json!({ "answer": detail }))),
            Answer::Fail => {
                let message = format!("{title} fails after wave {}: {detail}", gate.name);
                return Ok(StepResult::Failed(StepFailure { code: "WL668".into(), message, retryable: false }));
            }
            Answer::Hold if cx.cancel.is_cancelled() => return Ok(StepResult::Cancelled),
            Answer::Hold => {}
        }
        let now = service.store.now().await?;
        let since = steps.get(&cx.step).and_then(|step| step.started_at).unwrap_or(now);
        Ok(match gate_wait(&gate.gate, gate.gate_timeout, since, Some(now), now) {
            GateWait::Ask => StepResult::Unknown(format!(
                "{title} has held for too long after wave {} ({detail}); look yourself, and settle it as done or failed",
                gate.name
            )),
            GateWait::Now => StepResult::Wait { reason: format!("{title} holds: {detail}"), until: Some(now) },
            GateWait::Until(until) => {
                StepResult::Wait { reason: format!("{title} holds: {detail}"), until: Some(until) }
            }
        })
    }

    async fn ask(&self, cx: &StepContext, gate: &GateInput, applied: &[InstanceId]) -> AppResult<(Answer, String)> {
        let record = self.0.store.run_get(&cx.run).await?;
        let works = applied.iter().filter_map(|id| record.plan.steps.iter().find(|s| s.id == apply_step(id)));
        let works: Vec<StackWork> =
            works.map(|spec| input::<ApplyWork>(&spec.work.input).map(|apply| apply.work)).collect::<AppResult<_>>()?;
        if gate.gate == Gate::Checks {
            return self.checks(cx, &works).await;
        }
        let Some(first) = works.first() else { return Ok((Answer::Hold, "no instance to ask about".into())) };
        crate::secrets::hide(&self.0, cx, first, None).await;
        match probe_of(&self.0, cx, first, &gate.place, gate.gate.clone()).await? {
            Some(probe) => {
                let answer = probe::attempt(&probe, &cx.cancel, &mut Starts(cx)).await;
                cx.log(answer.output.as_bytes()).await;
                Ok((answer.answer, answer.detail))
            }
            None => Ok((Answer::Hold, "this installation has no source of service levels".into())),
        }
    }

    /// The `check` blocks as the applies left them in the states.
    async fn checks(&self, cx: &StepContext, works: &[StackWork]) -> AppResult<(Answer, String)> {
        let mut unknown = Vec::new();
        for work in works {
            let stack = super::terraform::stack_directory(&self.0, cx, work).await?;
            let state = stack.state(&cx.cancel, &mut Silent).await.map_err(|e| super::terraform::driver_error(&e))?;
            let Ok(state) = state else {
                return Ok((Answer::Hold, format!("the state of {} cannot be read", work.instance.id)));
            };
            for check in state["check_results"].as_array().into_iter().flatten() {
                let address = format!("{} {}", work.instance.id, check["config_addr"].as_str().unwrap_or_default());
                match check["status"].as_str() {
                    Some("pass") => {}
                    Some("fail" | "error") => return Ok((Answer::Fail, format!("{address} fails"))),
                    _ => unknown.push(address),
                }
            }
        }
        Ok(match unknown.first() {
            Some(first) => (Answer::Hold, format!("{first} is not known")),
            None => (Answer::Pass, "all checks pass".into()),
        })
    }
}

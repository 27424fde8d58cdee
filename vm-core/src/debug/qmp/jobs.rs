//! QMP's jobs: what takes long is asked for under a name, tells how far it is by `JOB_STATUS_CHANGE`, and stays listed until
//! `job-dismiss`. Source: QEMU QMP Reference Manual, "Background jobs".
//!
//! `snapshot-save` and its like take `vmstate` and `devices` as QEMU has them; here memory and all media always belong together, so both
//! only say what happens anyway.

use serde_json::{Value, json};

use super::QmpError;
use super::command::Call;
use crate::runner::{Command, Reply, SnapshotEvent};
use crate::snapshot::tree::SnapshotId;

/// Most jobs that are listed.
const MAX_JOBS: usize = 64;
/// Longest name of a job in bytes.
const LONGEST_NAME: usize = 127;
/// Before the names of QMP's jobs in the machine's own events.
const PREFIX: &str = "qmp:";

#[derive(Debug)]
struct Job {
    id: String,
    kind: &'static str,
    status: &'static str,
    progress: (u64, u64),
    error: Option<String>,
}

/// The jobs of a server.
#[derive(Debug, Default)]
pub struct QmpJobs {
    jobs: Vec<Job>,
    /// Events of commands, which follow their answers.
    pub pending: Vec<Value>,
}

fn change(id: &str, status: &str) -> Value {
    json!({ "event": "JOB_STATUS_CHANGE", "data": { "id": id, "status": status } })
}

impl QmpJobs {
    /// The QMP events that an event of the machine makes.
    pub fn of(&mut self, event: &SnapshotEvent) -> Vec<Value> {
        let (label, steps): (_, &[&'static str]) = match event {
            SnapshotEvent::Started { label, .. } => (label, &["running"]),
            SnapshotEvent::Progress { label, .. } => (label, &[]),
            SnapshotEvent::Done { label, .. } => (label, &["waiting", "pending", "concluded"]),
            SnapshotEvent::Failed { label, .. } => (label, &["aborting", "concluded"]),
        };
        let id = label.as_deref().and_then(|label| label.strip_prefix(PREFIX));
        let Some(job) = self.jobs.iter_mut().find(|job| Some(job.id.as_str()) == id) else { return Vec::new() };
        match event {
            SnapshotEvent::Progress { done, all, .. } => job.progress = (*done, *all),
            SnapshotEvent::Failed { text, .. } => job.error = Some(text.clone()),
            SnapshotEvent::Done { .. } => job.progress.0 = job.progress.1,
            SnapshotEvent::Started { .. } => {}
        }
        job.status = steps.last().copied().unwrap_or(job.status);
        steps.iter().map(|status| change(&job.id, status)).collect()
    }

    fn start(&mut self, id: &str, kind: &'static str) -> Result<String, QmpError> {
        if id.is_empty() || id.len() > LONGEST_NAME {
            return Err(QmpError::generic(format!("a job's name has 1 to {LONGEST_NAME} bytes")));
        }
        if self.jobs.iter().any(|job| job.id == id) {
            return Err(QmpError::generic(format!("Job ID '{id}' already in use")));
        }
        if self.jobs.len() >= MAX_JOBS {
            return Err(QmpError::generic(format!(
                "there are {MAX_JOBS} jobs already: dismiss those that are concluded"
            )));
        }
        self.jobs.push(Job { id: id.to_owned(), kind, status: "created", progress: (0, 1), error: None });
        self.pending.push(change(id, "created"));
        Ok(format!("{PREFIX}{id}"))
    }
}

/// The snapshot that a command's `tag` names.
fn tagged(call: &mut Call<'_>) -> Result<SnapshotId, QmpError> {
    let tag = call.arguments.text("tag")?.to_owned();
    let Reply::Snapshots(tree) = call.machine.call(Command::Snapshots)? else {
        return Err(QmpError::generic("the machine has no list of snapshots"));
    };
    let found = tree.find(&tag).map(|found| found.id);
    found.ok_or_else(|| QmpError::generic(format!("there is no snapshot “{tag}”")))
}

fn start(call: &mut Call<'_>, kind: &'static str) -> Result<String, QmpError> {
    let id = call.arguments.text("job-id")?.to_owned();
    call.notices.jobs.start(&id, kind)
}

/// `snapshot-save`.
pub(super) fn save(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let name = Some(call.arguments.text("tag")?.to_owned());
    let label = Some(start(call, "snapshot-save")?);
    call.machine.send(Command::TakeSnapshot { name, note: String::new(), adopt: false, label });
    Ok(json!({}))
}

/// `snapshot-load`.
pub(super) fn load(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let id = tagged(call)?;
    let label = Some(start(call, "snapshot-load")?);
    call.machine.send(Command::RestoreSnapshot { id, keep: true, label });
    Ok(json!({}))
}

/// `snapshot-delete`.
pub(super) fn delete(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let id = tagged(call)?;
    let label = Some(start(call, "snapshot-delete")?);
    call.machine.send(Command::DeleteSnapshot { id, label });
    Ok(json!({}))
}

/// `job-cancel`.
pub(super) fn cancel(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let id = call.arguments.text("id")?.to_owned();
    let job = call.notices.jobs.jobs.iter().find(|job| job.id == id);
    let job = job.ok_or_else(|| QmpError::generic(format!("Job '{id}' not found")))?;
    if job.status == "concluded" {
        let text = format!("Job '{id}' in state '{}' cannot accept command verb 'cancel'", job.status);
        return Err(QmpError::generic(text));
    }
    call.machine.call(Command::CancelSnapshot { label: Some(format!("{PREFIX}{id}")) })?;
    Ok(json!({}))
}

/// `query-jobs`.
pub(super) fn query(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let job = |job: &Job| {
        let (current, total) = job.progress;
        let mut value = json!({
            "id": job.id, "type": job.kind, "status": job.status, "current-progress": current, "total-progress": total,
        });
        if let Some(error) = &job.error {
            value["error"] = json!(error);
        }
        value
    };
    Ok(call.notices.jobs.jobs.iter().map(job).collect())
}

/// `job-dismiss`.
pub(super) fn dismiss(call: &mut Call<'_>) -> Result<Value, QmpError> {
    let id = call.arguments.text("id")?.to_owned();
    let jobs = &mut call.notices.jobs;
    let at = jobs.jobs.iter().position(|job| job.id == id);
    let at = at.ok_or_else(|| QmpError::generic(format!("Job '{id}' not found")))?;
    if jobs.jobs[at].status != "concluded" {
        let status = jobs.jobs[at].status;
        return Err(QmpError::generic(format!("Job '{id}' in state '{status}' cannot accept command verb 'dismiss'")));
    }
    jobs.jobs.remove(at);
    jobs.pending.push(change(&id, "null"));
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_each_step_and_stays_until_it_is_dismissed() {
        let mut jobs = QmpJobs::default();
        let label = Some(jobs.start("a", "snapshot-save").unwrap());
        assert!(jobs.start("a", "snapshot-save").is_err() && jobs.start("", "snapshot-save").is_err());
        assert_eq!(jobs.pending, [change("a", "created")]);
        let names = |events: Vec<Value>| -> Vec<String> {
            events.iter().map(|event| event["data"]["status"].as_str().unwrap().to_owned()).collect()
        };
        let action = crate::runner::SnapshotAction::Take;
        assert_eq!(names(jobs.of(&SnapshotEvent::Started { job: 1, label: label.clone(), action })), ["running"]);
        assert!(jobs.of(&SnapshotEvent::Progress { job: 1, label: label.clone(), done: 5, all: 9 }).is_empty());
        assert_eq!(jobs.jobs[0].progress, (5, 9));
        assert!(jobs.of(&SnapshotEvent::Done { job: 2, label: None, id: None, pause: None }).is_empty(), "another's");
        let done = SnapshotEvent::Done { job: 1, label, id: None, pause: None };
        assert_eq!(names(jobs.of(&done)), ["waiting", "pending", "concluded"]);
        let label = Some(jobs.start("b", "snapshot-load").unwrap());
        let failed = SnapshotEvent::Failed { job: 3, label, text: "no".to_owned() };
        assert_eq!(names(jobs.of(&failed)), ["aborting", "concluded"]);
        assert_eq!(jobs.jobs[1].error.as_deref(), Some("no"));
        for n in 0..MAX_JOBS - 2 {
            jobs.start(&n.to_string(), "snapshot-save").unwrap();
        }
        assert!(jobs.start("too many", "snapshot-save").is_err());
    }
}

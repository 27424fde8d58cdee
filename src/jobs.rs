//! Work that may wait (files, dialogs of the desktop), done beside the window's thread.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use eframe::egui;

/// What is done on the window's thread once a job is finished.
pub type Then<S> = Box<dyn FnOnce(&mut S, &egui::Context) + Send>;
type Work<S> = Box<dyn FnOnce() -> Then<S> + Send>;

/// A worker thread that does jobs in order, and threads of their own for those that wait for a person.
pub struct Jobs<S> {
    work: Option<Sender<Work<S>>>,
    thread: Option<JoinHandle<()>>,
    done: Receiver<Then<S>>,
    report: Sender<Then<S>>,
    context: egui::Context,
}

impl<S: 'static> Jobs<S> {
    /// Starts the worker.
    ///
    /// # Errors
    /// Where the host gives no thread.
    pub fn new(context: egui::Context) -> std::io::Result<Self> {
        let (work, jobs) = channel::<Work<S>>();
        let (report, done) = channel();
        let (teller, waker) = (report.clone(), context.clone());
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
            for job in jobs {
                let then = job();
                let _ = teller.send(then);
                waker.request_repaint();
            }
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), done, report, context })
    }

    /// Does `work` after what was given before, then `then` on the window's thread.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut S, &egui::Context, T) + Send + 'static,
    ) {
        let job: Work<S> = Box::new(move || {
            let result = work();
            Box::new(move |state, context| then(state, context, result))
        });
        if let Some(sender) = &self.work {
            // The worker lives as long as `self`.
            let _ = sender.send(job);
        }
    }

    /// The same on a thread of its own, for work that waits for a person.
    pub fn run_beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut S, &egui::Context, T) + Send + 'static,
    ) {
        let (report, waker) = (self.report.clone(), self.context.clone());
        let spawned = std::thread::Builder::new().name("beside".into()).spawn(move || {
            let result = work();
            let finish: Then<S> = Box::new(move |state, context| then(state, context, result));
            let _ = report.send(finish);
            waker.request_repaint();
        });
        if let Err(error) = spawned {
            tracing::warn!("no thread: {error}");
        }
    }

    /// What is finished.
    pub fn finished(&self) -> Vec<Then<S>> {
        self.done.try_iter().collect()
    }

    /// Waits until everything given is done. Only at the very end.
    pub fn finish(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

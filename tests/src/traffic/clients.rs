//! A thread of the client's whose flows run until nobody wants them any more.

use std::thread::JoinHandle;

use anyhow::Result;
use tokio::sync::watch;

use super::runtime;
use crate::lab::Lab;

/// The thread; its flows are stopped and ended when this value is dropped.
#[derive(Debug)]
pub(super) struct Clients {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Clients {
    /// Starts the flows that `flows` makes; each ends when what it gets is closed.
    pub(super) fn start<F, One>(lab: &Lab, name: &str, flows: F) -> Result<Self>
    where
        F: FnOnce(watch::Receiver<()>) -> Vec<One> + Send + 'static,
        One: Future<Output = Result<()>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(());
        let host = lab.client().clone();
        let thread =
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || -> Result<()> {
                    host.enter()?;
                    runtime()?.block_on(async {
                        let tasks: Vec<_> = flows(stopped).into_iter().map(tokio::spawn).collect();
                        for task in tasks {
                            task.await??;
                        }
                        Ok(())
                    })
                })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Fails if a flow broke.
    pub(super) fn check(&mut self) -> Result<()> {
        if !self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Ok(());
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

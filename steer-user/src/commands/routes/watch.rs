//! The daemon's part: hearing of routes, and when to act on it.

use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout_at};

use super::Follower;
use crate::{
    commands::{Failure, daemon::Daemon},
    net::{NetError, Netlink, Noted, RouteEvents, RouteNotice},
};

/// What comes within this time is done at once.
const GATHER: Duration = Duration::from_millis(2);
/// In a storm of messages so many times as long as a change takes is left to everything else.
const REST: u32 = 2;
/// How often at most all routes are listed at once, if what went meanwhile may have hidden some.
const LISTINGS: usize = 3;
/// The least time between two listings of all routes, where messages do not suffice.
const READ_PAUSE: Duration = Duration::from_millis(500);
/// All routes are listed this often, whatever the kernel's messages were.
const READ_AGAIN: Duration = Duration::from_mins(1);
/// When to try again what failed.
const RETRY: Duration = Duration::from_secs(1);
/// The least time between two events.
const EVENT_PAUSE: Duration = Duration::from_secs(1);

/// Follows routes for as long as the daemon is there.
#[derive(Default)]
pub(in crate::commands) struct RouteWatch {
    follower: Follower,
    /// `None` when nothing is followed.
    events: Option<RouteEvents>,
    /// The messages stopped: when to listen anew.
    listen_at: Option<Instant>,
    /// When there is something to do.
    due: Option<Instant>,
    /// Messages do not suffice.
    must_read: bool,
    /// Some were lost, and older ones may wait behind where those would be.
    has_lost: bool,
    read_at: Option<Instant>,
    told_at: Option<Instant>,
    /// When the next change may be done: not sooner, or nothing else would be in a storm.
    rested: Option<Instant>,
}

impl RouteWatch {
    /// Goes on from what a start read and applied. What changed since is looked for at once.
    pub(in crate::commands) fn new(follower: Follower) -> Result<Self, NetError> {
        if follower.is_idle() {
            return Ok(Self::default());
        }
        Ok(Self {
            follower,
            events: Some(RouteEvents::subscribe()?),
            due: Some(Instant::now()),
            must_read: true,
            ..Self::default()
        })
    }

    /// Waits until there is something to do.
    ///
    /// Cancel safe: what was heard is noted.
    pub(in crate::commands) async fn wait(&mut self) {
        if self.events.is_none() {
            return std::future::pending().await;
        }
        loop {
            let pause = if self.must_read {
                READ_PAUSE
            } else {
                READ_AGAIN
            };
            let again = self.read_at.unwrap_or_else(Instant::now) + pause;
            let until = self.due.unwrap_or(again);
            let Ok(noted) = timeout_at(until.into(), self.hear()).await else {
                break;
            };
            self.must_read |= noted == Noted::Unsure;
            if noted != Noted::Nothing {
                self.due.get_or_insert_with(|| soon(self.rested));
            }
        }
        self.must_read |= self.due.is_none();
    }

    /// Hears what the kernel tells. When its messages stop, it listens anew a while later, however often
    /// somebody stops waiting meanwhile.
    async fn hear(&mut self) -> Noted {
        if let Some(listen_at) = self.listen_at {
            sleep_until(listen_at.into()).await;
            match RouteEvents::subscribe() {
                Ok(anew) => (self.events, self.listen_at) = (Some(anew), None),
                Err(error) => {
                    log::warn!("{error}");
                    self.listen_at = Some(Instant::now() + RETRY);
                }
            }
            // Nobody heard what happened meanwhile.
            return Noted::Unsure;
        }
        let heard = match &mut self.events {
            Some(events) => events.next().await,
            None => return std::future::pending().await,
        };
        if let Some(notice) = heard {
            return self.note(notice);
        }
        log::warn!("the kernel's route messages stopped; listening anew");
        self.listen_at = Some(Instant::now() + RETRY);
        Noted::Unsure
    }

    fn note(&mut self, notice: RouteNotice) -> Noted {
        self.has_lost |= notice == RouteNotice::Lost;
        let noted = self.follower.note(notice);
        self.must_read |= noted == Noted::Unsure;
        noted
    }

    /// Devices changed: routes go with them, and the kernel does not always say so.
    pub(in crate::commands) fn devices_changed(&mut self) {
        self.must_read = true;
        self.due.get_or_insert_with(|| soon(self.rested));
    }

    /// Notes what is there already, without waiting.
    fn note_all(&mut self) {
        while let Some(notice) = self.events.as_mut().and_then(RouteEvents::next_at_once) {
            self.note(notice);
        }
    }

    /// Lists all routes. If that does not succeed as a whole, there is to be another time.
    async fn read(&mut self, netlink: &Netlink) -> Result<(), NetError> {
        if self.has_lost {
            // What is still under way is older than the listing, and would undo what that says.
            self.events = Some(RouteEvents::subscribe()?);
            self.has_lost = false;
        }
        let mut heard = Vec::new();
        self.read_at = Some(Instant::now());
        let result = self.list(netlink, &mut heard).await;
        self.read_at = Some(Instant::now());
        for notice in heard {
            self.note(notice);
        }
        match result {
            Err(error) if error.is_interrupted() => log::debug!("{error}"),
            result => result?,
        }
        Ok(())
    }

    async fn list(
        &mut self,
        netlink: &Netlink,
        heard: &mut Vec<RouteNotice>,
    ) -> Result<(), NetError> {
        for more in (0..LISTINGS).rev() {
            let listed = self.follower.list(netlink).await?;
            let until_now = heard.len();
            self.hear_meanwhile(heard).await;
            let mut meanwhile = heard[until_now..].iter();
            let is_whole = !meanwhile.any(|notice| self.follower.table.spoils_listing(notice));
            if is_whole || more == 0 {
                self.follower.renew(listed, is_whole);
                self.must_read = !is_whole;
                break;
            }
        }
        Ok(())
    }

    /// What the kernel told while routes were listed.
    async fn hear_meanwhile(&mut self, heard: &mut Vec<RouteNotice>) {
        let Some(events) = &mut self.events else {
            return;
        };
        let until = Instant::now() + GATHER;
        while let Ok(Some(notice)) = timeout_at(until.into(), events.next()).await {
            heard.push(notice);
        }
    }
}

/// When to do what was heard now.
fn soon(rested: Option<Instant>) -> Instant {
    let gathered = Instant::now() + GATHER;
    rested.map_or(gathered, |rested| rested.max(gathered))
}

impl Daemon {
    /// Does what is due for the routes; what went wrong is tried again.
    pub(in crate::commands) async fn follow_routes_or_warn(&mut self) {
        if let Err(error) = self.follow_routes().await {
            log::warn!("following the routes: {error}");
            self.routes.due = Some(Instant::now() + RETRY);
        }
    }

    async fn follow_routes(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.routes.due = None;
        self.routes.note_all();
        if self.routes.must_read {
            let soonest = self.routes.read_at.map_or(start, |at| at + READ_PAUSE);
            // Until then by what is known.
            if soonest <= start {
                self.routes.read(&self.netlink).await?;
            }
        }
        let read = start.elapsed();
        let _lock = self.lock()?;
        let start = Instant::now();
        if !self.is_current()? {
            return Ok(());
        }
        self.routes.follower.apply(&mut self.maps)?;
        self.tell_of_routes()?;
        self.routes.rested = Some(Instant::now() + REST * (read + start.elapsed()));
        Ok(())
    }

    /// What is not urgent: events that were held back, and groups that are out of use.
    pub(in crate::commands) fn look_after_routes(&mut self) -> Result<(), Failure> {
        let follower = &self.routes.follower;
        if !follower.has_news() && !follower.has_leftovers() {
            return Ok(());
        }
        let _lock = self.lock()?;
        if !self.is_current()? {
            return Ok(());
        }
        self.tell_of_routes()?;
        Ok(self.routes.follower.forget_leftovers(&mut self.maps)?)
    }

    fn tell_of_routes(&mut self) -> Result<(), Failure> {
        let told_at = self.routes.told_at;
        let is_time = told_at.is_none_or(|at| at.elapsed() >= EVENT_PAUSE);
        if is_time && self.routes.follower.has_news() {
            self.routes.follower.push_events(&mut self.maps)?;
            self.routes.told_at = Some(Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn it_listens_anew_however_often_it_is_cancelled() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let mut watch = RouteWatch {
                events: Some(RouteEvents::ended()),
                ..RouteWatch::default()
            };
            let begin = Instant::now();
            let mut was_deaf = false;
            while begin.elapsed() < 5 * RETRY {
                let _ = timeout(RETRY / 4, watch.wait()).await;
                watch.due = None;
                was_deaf |= watch.listen_at.is_some();
                if was_deaf && watch.listen_at.is_none() {
                    break;
                }
            }
            assert!(was_deaf && watch.listen_at.is_none());
            assert!(watch.must_read, "what nobody heard is to be listed");
            assert!(begin.elapsed() >= RETRY, "{:?}", begin.elapsed());
            let again = timeout(RETRY / 4, watch.wait()).await;
            assert!(again.is_err() && watch.listen_at.is_none(), "it listens");
        });
    }
}

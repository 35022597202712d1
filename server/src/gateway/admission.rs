//! How a client that is known gets in. Its limits are asked here or where clients are counted now; if it has all of
//! its connections open, one more may wait for one of those to end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lb::{Admission, ClientLimits, Denied, Name, Place, Waiting};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Gateway;
use crate::access_record::{Outcome, Record};
use crate::balancer_config;
use crate::client_stream::TlsClient;
use crate::connection_table::{Cut, Holder};
use crate::expiry::certificate_ended;
use crate::policy::OnRevoke;
use crate::rejection::Rejection;
use crate::snapshot::Permit;
use crate::upgrade::protocol::Carried;
use crate::upgrade::remote_admission::Heir;

mod candidate;
mod wait_time;

use candidate::{Newcomer, Others, Own};
pub(crate) use wait_time::Wait;

/// A client that wants to come in.
struct Arrival<'a> {
    connection: u64,
    client: &'a Name,
    group: &'a str,
    limits: ClientLimits,
    /// When it came. Without it nobody would hear that it waits: it is let in at once or refused.
    since: Option<Instant>,
}

/// How far a client is that wants to come in.
enum Standing {
    /// It has not asked, or has to ask again.
    Outside,
    /// It waits here for a place.
    InLine(Waiting),
    /// It was given one here.
    Placed(Admission),
    /// Another process has let it in.
    AdmittedBy(Arc<Heir>),
}

/// What comes of one look at who decides.
enum Step<T> {
    Entered(T),
    InLine(Waiting),
    Ask(Arc<Heir>),
}

impl Gateway {
    /// Has a client come in, or says why it does not. One that waits is seen to leave, and ends with its
    /// certificate and with the gateway.
    pub(crate) async fn let_in(
        &self,
        client: &mut TlsClient,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
        record: &mut Record,
    ) -> Result<Holder, Outcome> {
        let (ends, connection) = (permit.ends(), record.connection());
        let at_once = || (OnRevoke::Cut, Duration::ZERO);
        let entered = tokio::select! {
            biased;
            entered = self.enter(connection, permit, chain, record.wait()) => {
                entered.map_err(Outcome::Rejected)
            }
            () = client.left() => Err(Outcome::Rejected(Rejection::LeftWaiting)),
            () = certificate_ended(ends, connection, at_once) => Err(Outcome::CertificateEnded),
            () = self.drain.cut_off() => Err(Outcome::CutOff),
        };
        record.wait().end();
        entered
    }

    /// Lets a client in, if its limits allow it: those of this process and of the others that serve the
    /// gateway's clients together. A revision that came into force since the permit was given decides too.
    /// Cancel safe: whoever waits leaves.
    pub(crate) async fn enter(
        &self,
        connection: u64,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
        wait: &mut Wait,
    ) -> Result<Holder, Rejection> {
        let client = Arc::clone(permit.identity().name().shared());
        let group = Arc::clone(&permit.group().name);
        let arrival = Arrival {
            connection,
            client: &client,
            group: &group,
            limits: balancer_config::client(permit.client()),
            since: Some(Instant::now()),
        };
        let own = Own {
            gateway: self,
            connection,
            permit,
            chain,
        };
        let holder = self.admitted(arrival, own, wait).await?;
        // From here on a revision finds it in the table.
        if holder.still_holds(&self.running(), UnixTime::now()) {
            Ok(holder)
        } else {
            Err(Rejection::Lapsed)
        }
    }

    /// Lets a client of an older process in, as its limits are here. `waited` says how long it has waited there,
    /// if it may wait on.
    pub(crate) async fn enter_elsewhere(
        &self,
        arrived: &Carried,
        cut: &Cut,
        waited: Option<Duration>,
        wait: &mut Wait,
    ) -> Result<u64, Rejection> {
        let running = self.running();
        let connection = self.recorder.number();
        let others = Others {
            gateway: self,
            connection,
            arrived,
            cut,
        };
        let now = Instant::now();
        let arrival = Arrival {
            connection,
            client: &arrived.client.as_str().into(),
            group: &arrived.group,
            limits: others.limits(&running).ok_or(Rejection::Lapsed)?,
            since: waited.map(|waited| now.checked_sub(waited).unwrap_or(now)),
        };
        let entered = self.admitted(arrival, others, wait).await;
        wait.end();
        entered?.ok_or(Rejection::GatewayFull)?;
        // A revision that came into force meanwhile may have missed it.
        let latest = self.running();
        if latest.generation() != running.generation() {
            self.live.cut_lapsed(connection, &latest);
        }
        Ok(connection)
    }

    /// Admits a client here or where clients are counted now, and enters it in the same moment.
    async fn admitted<N: Newcomer>(
        &self,
        mut arrival: Arrival<'_>,
        newcomer: N,
        wait: &mut Wait,
    ) -> Result<N::Entered, Rejection> {
        let mut standing = Standing::Outside;
        let mut newcomer = Some(newcomer);
        let mut news = None;
        loop {
            let step = self.look(&arrival, standing, &mut newcomer)?;
            if let Step::Entered(entered) = step {
                return Ok(entered);
            }
            let newcomer = newcomer.as_ref().ok_or(Rejection::Lapsed)?;
            // What has changed before somebody listens is seen by the next look.
            let is_new = news.is_none();
            let news = news.get_or_insert_with(|| self.live.news());
            standing = match step {
                Step::InLine(waiting) if is_new => Standing::InLine(waiting),
                Step::InLine(waiting) => {
                    self.stand_in_line(&mut arrival, newcomer, waiting, (news, wait))
                        .await?
                }
                Step::Ask(heir) => self.ask(&arrival, newcomer, heir, (news, wait)).await?,
                Step::Entered(_) => Standing::Outside,
            };
        }
    }

    /// Looks who decides, and enters a client that is let in in the same moment.
    fn look<N: Newcomer>(
        &self,
        arrival: &Arrival<'_>,
        standing: Standing,
        newcomer: &mut Option<N>,
    ) -> Result<Step<N::Entered>, Rejection> {
        let mut enter = |admission| {
            let newcomer = newcomer.take().ok_or(Rejection::Lapsed)?;
            Ok(Step::Entered(newcomer.enter(admission)))
        };
        let limiter = self.balancer.limiter();
        let heir = self.live.heir();
        let admission = match (&*heir, standing) {
            (Some(heir), Standing::AdmittedBy(by)) if Arc::ptr_eq(heir, &by) => {
                let entered = enter(limiter.adopt(arrival.client));
                if by.has_entered(arrival.connection) {
                    // That process has denied it meanwhile.
                    self.live.cut_entered(arrival.connection);
                }
                return entered;
            }
            // Whoever stood in line here leaves it.
            (Some(heir), _) => return Ok(Step::Ask(Arc::clone(heir))),
            (None, Standing::InLine(waiting)) => return Ok(Step::InLine(waiting)),
            (None, Standing::Placed(admission)) => admission,
            (None, Standing::Outside | Standing::AdmittedBy(_)) => {
                // Nobody begins to wait in a gateway that ends.
                let since = arrival.since.filter(|_| !self.drain.is_begun());
                let mut limits = arrival.limits;
                if since.is_none() {
                    limits.wait = Duration::ZERO;
                }
                let since = since.unwrap_or_else(Instant::now);
                let place = limiter.admit_or_wait(arrival.client, &limits, since);
                match place.map_err(Rejection::Limited)? {
                    Place::Free(admission) => admission,
                    Place::Taken(waiting) => {
                        let connection = arrival.connection;
                        tracing::debug!(
                            connection,
                            "a client waits for one of its connections to end"
                        );
                        return Ok(Step::InLine(waiting));
                    }
                }
            }
        };
        enter(
            limiter
                .in_time(admission, &arrival.limits)
                .map_err(Rejection::Limited)?,
        )
    }

    /// Waits for a place here, or for news.
    async fn stand_in_line<N: Newcomer>(
        &self,
        arrival: &mut Arrival<'_>,
        newcomer: &N,
        mut waiting: Waiting,
        (news, wait): (&mut watch::Receiver<()>, &mut Wait),
    ) -> Result<Standing, Rejection> {
        news.mark_unchanged();
        if self.live.heir().is_some() {
            return Ok(Standing::Outside);
        }
        let limits = newcomer.limits(&self.running()).ok_or(Rejection::Lapsed)?;
        if limits != arrival.limits {
            waiting.limit(limits.connections);
            arrival.limits = limits;
        }
        let since = arrival.since.unwrap_or_else(Instant::now);
        wait.begin(since);
        let limit = limits.connections;
        tokio::select! {
            biased;
            admission = waiting.place() => Ok(Standing::Placed(admission)),
            _ = news.changed() => Ok(Standing::InLine(waiting)),
            () = self.drain.begun() => Err(full(limit)),
            () = sleep_until(since + limits.wait) => Err(full(limit)),
        }
    }

    /// Asks the process that decides, which has the client wait if it is to.
    async fn ask<N: Newcomer>(
        &self,
        arrival: &Arrival<'_>,
        newcomer: &N,
        heir: Arc<Heir>,
        (news, wait): (&mut watch::Receiver<()>, &mut Wait),
    ) -> Result<Standing, Rejection> {
        let asked = Carried {
            connection: arrival.connection,
            client: arrival.client.to_string(),
            group: arrival.group.to_owned(),
            upstream: None,
            shown: newcomer.shown(),
        };
        let waited = arrival.since.map(|since| since.elapsed());
        let mut asking = pin!(heir.ask(asked, waited));
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut asking => break answer,
                _ = news.changed() => {
                    // Whoever is denied here takes the question back.
                    newcomer.limits(&self.running()).ok_or(Rejection::Lapsed)?;
                }
            }
        };
        let Some(answer) = answer else {
            // Nobody counts there any more, and soon it is said who does.
            tokio::task::yield_now().await;
            return Ok(Standing::Outside);
        };
        if let Some(time) = answer.waited {
            wait.took(time);
        }
        answer.verdict.into_result()?;
        Ok(Standing::AdmittedBy(Arc::clone(&heir)))
    }
}

fn full(limit: lb::Limit) -> Rejection {
    Rejection::Limited(Denied::ClientConnections { limit })
}

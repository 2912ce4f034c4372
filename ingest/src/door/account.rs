//! An account: what one tenant, or all together, take of the door, counted by all workers.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use hashbrown::HashMap;
use zeugma_schemas::{id::is_id, topic::PREFIX};

use super::limits::{IN_FLIGHT_BYTES_MAX, LARGE_BYTES_MAX, Limits};

/// A second's worth may come at once.
const BURST_NS: i64 = 1_000_000_000;

/// Nobody is made to wait longer than this, whatever the clock does.
const DEBT_NS_MAX: i64 = 10_000_000_000;

/// Connections that have not spoken yet and are served with each one of a tenant.
const NEWCOMERS_PER_TURN: u64 = 16;

/// Accounts that are kept before those without a use are looked for.
const ACCOUNTS_KEPT: usize = 1_024;

/// One account.
#[derive(Debug)]
pub(super) struct Account {
    /// The tenant's; empty where it is of nobody or of all.
    pub name: Arc<str>,
    rate_bytes: u64,
    connections_max: usize,
    in_flight_bytes_max: usize,
    large_bytes_max: usize,
    connections: AtomicUsize,
    in_flight_bytes: AtomicUsize,
    large_bytes: AtomicUsize,
    /// Until when the rate is used up.
    spent_until_ns: AtomicI64,
    /// The last ticket it was given.
    ticket: AtomicU64,
}

impl Account {
    /// That of all together.
    fn of_all(limits: &Limits) -> Account {
        Account::new(
            Arc::default(),
            limits.rate_bytes,
            limits.connections,
            IN_FLIGHT_BYTES_MAX,
            LARGE_BYTES_MAX,
        )
    }

    /// That of one tenant.
    fn of_tenant(name: Arc<str>, limits: &Limits) -> Account {
        let Limits { tenant_rate_bytes, tenant_connections, .. } = *limits;
        Account::new(
            name,
            tenant_rate_bytes,
            tenant_connections,
            limits.tenant_in_flight_bytes,
            limits.tenant_large_bytes,
        )
    }

    fn new(
        name: Arc<str>,
        rate_bytes: u64,
        connections_max: usize,
        in_flight_bytes_max: usize,
        large_bytes_max: usize,
    ) -> Account {
        Account {
            name,
            rate_bytes,
            connections_max,
            in_flight_bytes_max,
            large_bytes_max,
            connections: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
            large_bytes: AtomicUsize::new(0),
            spent_until_ns: AtomicI64::new(0),
            ticket: AtomicU64::new(0),
        }
    }

    /// Counts bytes at a moment; answers when the next may come, microseconds, in order of asking.
    pub fn charge(&self, bytes: usize, now_us: i64) -> i64 {
        if self.rate_bytes == 0 {
            return 0;
        }
        let cost_ns =
            (bytes as u128 * 1_000_000_000 / u128::from(self.rate_bytes)).min(DEBT_NS_MAX as u128) as i64;
        let now_ns = now_us.saturating_mul(1_000);
        // A clock that was set back would otherwise be waited for.
        let after =
            |spent: i64| spent.max(now_ns).saturating_add(cost_ns).min(now_ns.saturating_add(DEBT_NS_MAX));
        let before = self.spent_until_ns.fetch_update(Relaxed, Relaxed, |spent| Some(after(spent)));
        // Always written, so that the error cannot be.
        let spent = after(before.unwrap_or_else(|spent| spent));
        (spent - BURST_NS) / 1_000
    }

    /// Counts one connection more, if there is room.
    pub fn enter(&self) -> bool {
        add_below(&self.connections, 1, self.connections_max)
    }

    /// Counts one connection more, room or not.
    pub fn enter_anyway(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// Counts one connection less.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Whether more may wait for its sync.
    pub fn has_room(&self) -> bool {
        self.in_flight_bytes.load(Relaxed) < self.in_flight_bytes_max
    }

    /// Counts what waits for its sync, room or not.
    pub fn hold(&self, bytes: usize) {
        self.in_flight_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts what does not wait any more.
    pub fn release(&self, bytes: usize) {
        self.in_flight_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Counts a payload that comes in pieces, if there is room.
    fn reserve(&self, bytes: usize) -> bool {
        add_below(&self.large_bytes, bytes, self.large_bytes_max)
    }

    /// The next ticket, this much behind its last one or behind those that are served now.
    fn next_ticket(&self, served: u64, step: u64) -> u64 {
        let after = |ticket: u64| ticket.max(served) + step;
        // Always written, so that the error cannot be.
        after(
            self.ticket
                .fetch_update(Relaxed, Relaxed, |ticket| Some(after(ticket)))
                .unwrap_or_else(|last| last),
        )
    }

    fn is_idle(self: &Arc<Account>, now_us: i64) -> bool {
        Arc::strong_count(self) == 1 && self.spent_until_ns.load(Relaxed) <= now_us.saturating_mul(1_000)
    }
}

/// Whether a moment that [`Account::charge`] named has come.
pub(super) fn has_come(due_us: i64, now_us: i64) -> bool {
    now_us >= due_us || due_us - now_us > DEBT_NS_MAX / 1_000
}

/// Adds where the sum stays within the limit.
fn add_below(count: &AtomicUsize, more: usize, max: usize) -> bool {
    let added = |sum: usize| sum.checked_add(more).filter(|sum| *sum <= max);
    count.fetch_update(Relaxed, Relaxed, added).is_ok()
}

/// The accounts of a door.
#[derive(Debug)]
pub(super) struct Accounts {
    limits: Limits,
    /// That of all together.
    pub all: Account,
    /// That of topics that name no tenant.
    nobody: Arc<Account>,
    /// That of those who have not said who they are of.
    newcomers: Account,
    tenants: Mutex<Tenants>,
    /// The highest ticket that was served.
    served: AtomicU64,
}

#[derive(Debug)]
struct Tenants {
    accounts: HashMap<Arc<str>, Arc<Account>>,
    prune_at: usize,
}

impl Accounts {
    /// With nothing counted yet.
    pub fn new(limits: &Limits) -> Accounts {
        Accounts {
            limits: limits.clone(),
            all: Account::of_all(limits),
            nobody: Arc::new(Account::of_tenant(Arc::default(), limits)),
            newcomers: Account::of_all(limits),
            served: AtomicU64::new(0),
            tenants: Mutex::new(Tenants { accounts: HashMap::new(), prune_at: ACCOUNTS_KEPT }),
        }
    }

    /// A tenant's account. Names come from outside: those that nobody uses are forgotten, but not their debts.
    pub fn of(&self, tenant: &str, now_us: i64) -> Arc<Account> {
        if !is_id(tenant) {
            return self.nobody.clone();
        }
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = tenants.accounts.get(tenant) {
            return account.clone();
        }
        if tenants.accounts.len() >= tenants.prune_at {
            tenants.accounts.retain(|_, account| !account.is_idle(now_us));
            tenants.prune_at = (tenants.accounts.len() * 2).max(ACCOUNTS_KEPT);
        }
        let name: Arc<str> = tenant.into();
        let account = Arc::new(Account::of_tenant(name.clone(), &self.limits));
        tenants.accounts.insert(name, account.clone());
        account
    }

    /// A place in line: by these, one connection of each tenant after the other is served, and a few
    /// newcomers with them, so that a tenant of many does not keep back one of few.
    pub fn ticket(&self, tenant: Option<&Account>) -> u64 {
        let served = self.served.load(Relaxed);
        match tenant {
            Some(tenant) => tenant.next_ticket(served, NEWCOMERS_PER_TURN),
            None => self.newcomers.next_ticket(served, 1),
        }
    }

    /// Notes that a ticket was served.
    pub fn serve(&self, ticket: u64) {
        self.served.fetch_max(ticket, Relaxed);
    }

    /// Makes room for a payload that comes in pieces, until the answer is dropped.
    pub fn reserve(self: &Arc<Accounts>, tenant: &Arc<Account>, bytes: usize) -> Option<Reserved> {
        if !tenant.reserve(bytes) {
            return None;
        }
        if !self.all.reserve(bytes) {
            tenant.large_bytes.fetch_sub(bytes, Relaxed);
            return None;
        }
        Some(Reserved { accounts: self.clone(), tenant: tenant.clone(), bytes })
    }
}

/// The tenant that a topic names, whatever stands there; empty where it is none of our topics.
pub(super) fn tenant_of(topic: &str) -> &str {
    topic.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// The accounts of tenants that one worker has met: it need not share a lock with the others for every payload.
#[derive(Debug, Default)]
pub(super) struct Met {
    accounts: HashMap<Arc<str>, Arc<Account>>,
}

impl Met {
    /// A tenant's account, as [`Accounts::of`].
    pub fn of(&mut self, tenant: &str, all: &Accounts, now_us: i64) -> Arc<Account> {
        if let Some(account) = self.accounts.get(tenant) {
            return account.clone();
        }
        let account = all.of(tenant, now_us);
        // What is kept here counts as used there.
        if self.accounts.len() >= ACCOUNTS_KEPT {
            self.accounts.clear();
        }
        self.accounts.insert(account.name.clone(), account.clone());
        account
    }
}

/// See [`Accounts::reserve`].
pub(super) struct Reserved {
    accounts: Arc<Accounts>,
    tenant: Arc<Account>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.tenant.large_bytes.fetch_sub(self.bytes, Relaxed);
        self.accounts.all.large_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests;

//! `/api/v1/live?domain=fleet,parking`: readings as they are accepted, as server-sent events (HTML standard, 9.2).
//!
//! Each event `reading` holds one reading as JSON, with its domain. The last id says how far each domain has come, so
//! that a browser that lost the connection gets what came meanwhile, as long as that is not in the lake alone;
//! an event `missed` says that something was left out, and that `/latest` should be asked again. No reading is left
//! out without it, and one may come twice around a lost connection: tenant, device and time tell.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    json::LineDelimitedWriter,
};
use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde_json::json;
use zeugma_lake::{
    Position, layout,
    seam::{News, Tail, TailBatch},
};

use super::{
    App,
    params::{Params, invalid},
    tail::read_sealed,
};
use crate::{Error, Grant, problem::Problem};

/// Streams that are open at once; each is a connection and a place among those who follow.
pub const STREAMS_MAX: usize = 1_000;

/// Readings of a domain, of all tenants, that are looked through for somebody who lost the connection: those of ten
/// seconds at 10,000 a second. Whoever was away for longer is told to ask `/latest` again.
const RESUME_ROWS_MAX: usize = 100_000;

/// A browser that lost the connection waits so long.
const RETRY: Duration = Duration::from_secs(2);

/// How far a stream has come is told as often where none of what comes is wanted.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Proxies close what is silent for longer.
const ALIVE: Duration = Duration::from_secs(15);

/// Which readings somebody wants, and how far they have come.
struct Live {
    grant: Grant,
    tenants: Vec<String>,
    devices: Vec<String>,
    come: Come,
    /// When that was told the last time.
    told: Instant,
}

/// What is told, or why it is not.
type Told = Result<News, Error>;

/// The journal, and the position through which everything of a domain was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Come {
    source: String,
    through: BTreeMap<String, Position>,
}

/// Readings of some domains from now on, or from where the last connection ended.
pub async fn live(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["domain", "tenant", "device"])?;
    let domains = domains(&app, &params).await?;
    let no_tail = || Error::NotFound("there are no readings to follow here: the lake alone is asked".into());
    let tail = app.query.tail().cloned().ok_or_else(no_tail)?;
    let busy = |_| Error::Busy(format!("{STREAMS_MAX} streams are open; close one, or ask again later"));
    let place = app.streams.clone().try_acquire_owned().map_err(busy)?;
    let own = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
    let come = headers.get("last-event-id").and_then(|id| Come::read(id.to_str().ok()?));
    let feed = tail.follow(&domains).await.map_err(Error::from)?.map_err(Error::from);
    let mut before = Vec::new();
    if let Some(come) = &come {
        for domain in &domains {
            before.push(meanwhile(tail.as_ref(), domain, come).await?);
        }
    }
    let mut live = Live {
        grant: app.grant(&headers),
        tenants: own(params.ids("tenant")?),
        devices: own(params.ids("device")?),
        come: come.unwrap_or_default(),
        told: Instant::now(),
    };
    let feed = stream::iter(before).flatten().chain(feed);
    let events = feed.take_until(app.stopping.clone().cancelled_owned()).map(move |news| {
        let _place = &place;
        match news.and_then(|news| live.events(&news)) {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "a stream of readings has a gap");
                vec![missed()]
            }
        }
    });
    let begin = stream::iter([Event::default().retry(RETRY).comment("readings as they are accepted")]);
    let events = begin.chain(events.flat_map(stream::iter)).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

async fn domains(app: &App, params: &Params) -> Result<Vec<String>, Error> {
    let domains: Vec<String> = params.list("domain").into_iter().map(str::to_owned).collect();
    if domains.is_empty() {
        return Err(invalid("`domain` is missing: ask as /api/v1/live?domain=fleet,parking"));
    }
    for domain in &domains {
        let missing = || Error::NotFound(format!("there is no domain `{domain}`"));
        app.query.known(domain).await?.domains.get(domain).ok_or_else(missing)?;
    }
    Ok(domains)
}

/// What came in a domain since the last connection and is still in the tail. The feed was begun before, so what came
/// since stands there.
async fn meanwhile(tail: &dyn Tail, domain: &str, come: &Come) -> Result<BoxStream<'static, Told>, Error> {
    let view = match tail.view(domain).await {
        Ok(view) => view,
        Err(zeugma_lake::Error::NoTable { .. }) => return Ok(stream::empty().boxed()),
        Err(error) => return Err(error.into()),
    };
    let missed = || stream::iter([Ok(News::Missed)]).boxed();
    let known = come.through.get(domain).filter(|_| come.source == view.source);
    let Some(after) = known.copied().filter(|after| *after >= view.released_through) else {
        return Ok(missed());
    };
    let sealed: Vec<_> = view.sealed.into_iter().filter(|sealed| *sealed.positions().end() > after).collect();
    let in_memory: Vec<_> = view.batches.into_iter().filter_map(|batch| batch.split(after).1).collect();
    let rows: usize = sealed.iter().map(|sealed| sealed.rows()).sum();
    if rows + in_memory.iter().map(|batch| batch.rows.num_rows()).sum::<usize>() > RESUME_ROWS_MAX {
        return Ok(missed());
    }
    let (table, source) = (domain.to_owned(), view.source);
    let sealed =
        stream::iter(sealed).flat_map(|sealed| read_sealed(sealed.clone(), sealed.columns().clone()));
    // Where this is broken off it begins anew, so nobody has come any further before its end.
    let rows =
        move |batch| News::Rows { table: table.clone(), source: source.clone(), batch, through: after };
    Ok(sealed.chain(stream::iter(in_memory).map(Ok)).map_ok(rows).boxed())
}

impl Live {
    fn events(&mut self, news: &News) -> Result<Vec<Event>, Error> {
        match news {
            News::Missed => Ok(vec![missed()]),
            News::Begin { table, source, through } => {
                self.come.reach(source, table, *through);
                Ok(vec![self.come()])
            }
            News::Rows { table, source, batch, through } => self.readings(table, source, batch, *through),
        }
    }

    fn readings(
        &mut self,
        table: &str,
        source: &str,
        batch: &TailBatch,
        through: Position,
    ) -> Result<Vec<Event>, Error> {
        let kept = self.kept(&batch.rows)?;
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write(&layout::without_date(&filter_record_batch(&batch.rows, &kept)?)?)?;
        let lines = lines.into_inner();
        let lines = String::from_utf8_lossy(&lines);
        let positions = batch.positions.iter().zip(&kept).filter(|(_, kept)| *kept == Some(true));
        let positions: Vec<Position> = positions.map(|(position, _)| *position).collect();
        let domain = json!(table).to_string();
        let mut events = Vec::with_capacity(positions.len());
        for (row, line) in lines.lines().enumerate() {
            // Readings of one payload have one position, which is reached with the last of them.
            if positions.get(row + 1) != Some(&positions[row]) {
                self.come.reach(source, table, positions[row].min(through));
            }
            let data = format!("{{\"domain\":{domain},{}", &line[1..]);
            events.push(Event::default().event("reading").id(self.come.to_string()).data(data));
        }
        if let Some(last) = batch.positions.last() {
            self.come.reach(source, table, through.min(*last));
        }
        if events.is_empty() && self.told.elapsed() >= TELL_AGAIN {
            events.push(self.come());
        }
        if !events.is_empty() {
            self.told = Instant::now();
        }
        Ok(events)
    }

    /// How far it has come. Without data it is no event; a browser remembers the id.
    fn come(&self) -> Event {
        Event::default().id(self.come.to_string())
    }

    /// Which rows are granted and wanted.
    fn kept(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let text = |name: &str| {
            let column = rows.column_by_name(name).and_then(|column| column.as_string_view_opt());
            column.ok_or_else(|| Error::Internal(format!("readings without `{name}`")))
        };
        let (tenants, devices) = (text("tenant")?, text("device")?);
        let wanted =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
        let kept = (0..rows.num_rows()).map(|row| {
            let tenant = tenants.value(row);
            Some(
                self.grant.allows(tenant)
                    && wanted(&self.tenants, tenant)
                    && wanted(&self.devices, devices.value(row)),
            )
        });
        Ok(kept.collect())
    }
}

impl Come {
    /// Reads an event's id: `SOURCE:fleet=17,parking=12`.
    fn read(id: &str) -> Option<Come> {
        let (source, through) = id.split_once(':')?;
        let place = |part: &str| {
            let (domain, position) = part.split_once('=')?;
            Some((domain.to_owned(), position.parse().ok()?))
        };
        let through = through.split(',').map(place).collect::<Option<_>>()?;
        Some(Come { source: source.to_owned(), through })
    }

    /// Late readings come with lower positions; what was reached of a journal stays reached.
    fn reach(&mut self, source: &str, domain: &str, position: Position) {
        if self.source != source {
            *self = Come { source: source.to_owned(), ..Come::default() };
        }
        let through = self.through.entry(domain.to_owned()).or_default();
        *through = position.max(*through);
    }
}

impl std::fmt::Display for Come {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let through: Vec<String> =
            self.through.iter().map(|(domain, position)| format!("{domain}={position}")).collect();
        write!(f, "{}:{}", self.source, through.join(","))
    }
}

fn missed() -> Event {
    Event::default().event("missed").data("{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_says_how_far_each_domain_has_come() {
        let mut come = Come::default();
        come.reach("a-b", "fleet", 17);
        come.reach("a-b", "parking", 12);
        come.reach("a-b", "fleet", 9);
        assert_eq!(come.to_string(), "a-b:fleet=17,parking=12");
        assert_eq!(Come::read(&come.to_string()), Some(come.clone()));
        come.reach("c", "fleet", 3);
        assert_eq!(come.to_string(), "c:fleet=3");
        for id in ["", "a-b", "a-b:", "a-b:fleet", "a-b:fleet=x"] {
            assert_eq!(Come::read(id), None, "{id}");
        }
    }
}

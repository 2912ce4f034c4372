//! `/api/v1/live?domain=fleet,parking`: readings as they are accepted, as server-sent events (HTML standard, 9.2).
//!
//! Each event `reading` holds one reading as JSON, with its domain. Its id says how far each domain has come, so
//! that a browser that lost the connection gets what came meanwhile, as long as that is not in the lake alone;
//! an event `missed` says that something was left out, and that `/latest` should be asked again.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

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
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::json;
use zeugma_lake::{
    Position, find, layout,
    seam::{Feed, News, Tail, TailBatch},
};

use super::{
    App,
    params::{Params, invalid},
};
use crate::{Error, Grant, problem::Problem};

/// Streams that are open at once; each is a connection and a place among those who follow.
pub const STREAMS_MAX: usize = 1_000;

/// A browser that lost the connection waits so long.
const RETRY: Duration = Duration::from_secs(2);

/// Proxies close what is silent for longer.
const ALIVE: Duration = Duration::from_secs(15);

/// Which readings somebody wants, and how far they have come.
struct Live {
    grant: Grant,
    tenants: Vec<String>,
    devices: Vec<String>,
    come: Come,
}

/// The journal, and the last position of each domain that was sent.
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
    let mut feed = tail.follow(&domains).await.map_err(Error::from)?;
    let before = match &come {
        Some(come) => resume(tail.as_ref(), &domains, come, &mut feed).await?,
        None => Vec::new(),
    };
    let mut live = Live {
        grant: app.grant(&headers),
        tenants: own(params.ids("tenant")?),
        devices: own(params.ids("device")?),
        come: come.unwrap_or_default(),
    };
    let feed = stream::iter(before).map(Ok).chain(feed).take_until(app.stopping.clone().cancelled_owned());
    let events = feed.map(move |news| {
        let _place = &place;
        match news.map_err(Error::from).and_then(|news| live.events(&news)) {
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

/// What came since the last connection and is still in the tail; the feed goes on behind it.
async fn resume(
    tail: &dyn Tail,
    domains: &[String],
    come: &Come,
    feed: &mut Feed,
) -> Result<Vec<News>, Error> {
    let (mut news, mut seen) = (Vec::new(), BTreeMap::new());
    for domain in domains {
        let view = match tail.view(domain).await {
            Ok(view) => view,
            Err(zeugma_lake::Error::NoTable { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let known = come.through.get(domain).filter(|_| come.source == view.source);
        let parted = known.is_some_and(|after| {
            *after < view.released_through || view.sealed.iter().any(|sealed| sealed.is_parted_by(*after))
        });
        if parted || come.source != view.source {
            news.push(News::Missed);
        }
        let after = known.copied().unwrap_or(0).max(view.released_through);
        let rows = |batch| News::Rows { table: domain.clone(), source: view.source.clone(), batch };
        for sealed in view.sealed.iter().filter(|sealed| sealed.lies_beyond(after)) {
            for file in sealed.files() {
                let mut read = std::pin::pin!(find::read(&sealed.store(), file, sealed.columns()).await?);
                while let Some(batch) = read.try_next().await? {
                    let positions = vec![*sealed.positions().end(); batch.num_rows()].into();
                    news.push(rows(TailBatch { rows: batch, positions }));
                }
            }
        }
        news.extend(view.batches.iter().filter_map(|batch| batch.clone().split(after).1).map(rows));
        let last = view.batches.iter().filter_map(|batch| batch.positions.last().copied());
        seen.insert(domain.clone(), last.max().unwrap_or(0));
    }
    // What was fed before the views were taken stands in them.
    while let Some(Some(fed)) = feed.next().now_or_never() {
        match fed? {
            News::Rows { table, source, batch } => {
                let beyond = batch.split(seen.get(&table).copied().unwrap_or(0)).1;
                news.extend(beyond.map(|batch| News::Rows { table, source, batch }));
            }
            News::Missed => news.push(News::Missed),
        }
    }
    Ok(news)
}

impl Live {
    fn events(&mut self, news: &News) -> Result<Vec<Event>, Error> {
        let News::Rows { table, source, batch } = news else { return Ok(vec![missed()]) };
        if self.come.source != *source {
            self.come = Come { source: source.clone(), ..Come::default() };
        }
        let kept = self.kept(&batch.rows)?;
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write(&layout::without_date(&filter_record_batch(&batch.rows, &kept)?)?)?;
        let lines = lines.into_inner();
        let lines = String::from_utf8_lossy(&lines);
        let positions = batch.positions.iter().zip(&kept).filter(|(_, kept)| *kept == Some(true));
        let domain = json!(table).to_string();
        let mut events = Vec::with_capacity(batch.positions.len());
        for (line, (position, _)) in lines.lines().zip(positions) {
            self.come.reach(table, *position);
            let data = format!("{{\"domain\":{domain},{}", &line[1..]);
            events.push(Event::default().event("reading").id(self.come.to_string()).data(data));
        }
        Ok(events)
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

    /// Late readings come with lower positions; what was reached stays reached.
    fn reach(&mut self, domain: &str, position: Position) {
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
        let mut come = Come { source: "a-b".into(), ..Come::default() };
        come.reach("fleet", 17);
        come.reach("parking", 12);
        come.reach("fleet", 9);
        assert_eq!(come.to_string(), "a-b:fleet=17,parking=12");
        assert_eq!(Come::read(&come.to_string()), Some(come));
        for id in ["", "a-b", "a-b:", "a-b:fleet", "a-b:fleet=x"] {
            assert_eq!(Come::read(id), None, "{id}");
        }
    }
}

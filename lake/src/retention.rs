//! How long rows are kept, by tenant and table, as the lake notes it: `_zeugma/retention.json`.
//!
//! A rule may leave its tenant out, its table, or both; for rows of a tenant in a table the closest one holds: that
//! of both, else that of the tenant, else that of the table, else that of everything. Without any they are kept
//! for ever.

use serde::{Deserialize, Serialize};
use zeugma_schemas::batch::DAY_US;

use crate::{Error, Lake, gone::Expiry};

const FILE: &str = "_zeugma/retention.json";

/// Longer than this is for ever: a hundred years.
pub const KEEP_DAYS_MAX: u32 = 36_500;

/// A clock that has moved on by more days since the last time is not believed.
const DAYS_AHEAD_MAX: i32 = 35;

/// How long some rows are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Whose rows; none for everybody's.
    pub tenant: Option<String>,
    /// In which table; none for all.
    pub table: Option<String>,
    /// Days after their time; none for ever.
    pub keep_days: Option<u32>,
}

/// All rules; one at most for each tenant and table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The rules.
    pub rules: Vec<Rule>,
    /// The last date, days since 1970, by which rows went; none since a rule was changed.
    #[serde(default)]
    pub applied: Option<i32>,
}

impl Rule {
    fn is_about(&self, tenant: Option<&str>, table: Option<&str>) -> bool {
        self.tenant.as_deref() == tenant && self.table.as_deref() == table
    }
}

impl Rules {
    /// Adds a rule, instead of one for the same tenant and table.
    pub fn set(&mut self, rule: Rule) {
        self.unset(rule.tenant.as_deref(), rule.table.as_deref());
        self.applied = None;
        self.rules.push(rule);
        self.rules.sort_by(|one, other| (&one.tenant, &one.table).cmp(&(&other.tenant, &other.table)));
    }

    /// Drops the rule for exactly this tenant and table; says whether there was one.
    pub fn unset(&mut self, tenant: Option<&str>, table: Option<&str>) -> bool {
        let before = self.rules.len();
        self.rules.retain(|rule| !rule.is_about(tenant, table));
        self.rules.len() < before
    }

    /// Whether the clock may be right that says it is this date: one that is years ahead would let everything go.
    pub fn believes(&self, today: i32) -> bool {
        self.applied.is_none_or(|applied| today <= applied.saturating_add(DAYS_AHEAD_MAX))
    }

    /// Since when rows of a table are kept, today being this date (days since 1970).
    pub fn expiry(&self, table: &str, today: i32) -> Expiry {
        let rule = |tenant, table| self.rules.iter().find(|rule| rule.is_about(tenant, table));
        let since_us = |rule: Option<&Rule>| match rule.and_then(|rule| rule.keep_days) {
            Some(days) => (i64::from(today) - i64::from(days)).saturating_mul(DAY_US),
            None => i64::MIN,
        };
        let others = rule(None, Some(table)).or(rule(None, None));
        let tenants = self.rules.iter().filter_map(|rule| rule.tenant.as_deref()).map(|tenant| {
            let closest = rule(Some(tenant), Some(table)).or(rule(Some(tenant), None)).or(others);
            (tenant.to_owned(), since_us(closest))
        });
        Expiry { tenants: tenants.collect(), others: since_us(others) }
    }
}

impl Lake {
    /// The rules in force.
    pub async fn retention(&self) -> Result<Rules, Error> {
        self.store().get_json(FILE).await.map(Option::unwrap_or_default)
    }

    /// Notes other rules.
    pub async fn keep_retention(&self, rules: &Rules) -> Result<(), Error> {
        self.store().put_json(FILE, rules).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tenant: Option<&str>, table: Option<&str>, keep_days: Option<u32>) -> Rule {
        Rule { tenant: tenant.map(str::to_owned), table: table.map(str::to_owned), keep_days }
    }

    #[test]
    fn closest_rule_holds() {
        let mut rules = Rules::default();
        assert_eq!(rules.expiry("fleet", 1_000), Expiry::never());
        rules.set(rule(None, None, Some(900)));
        rules.set(rule(None, Some("fleet"), Some(60)));
        rules.set(rule(Some("lamia"), None, Some(30)));
        rules.set(rule(Some("lamia"), Some("fleet"), None));
        rules.set(rule(Some("argos"), Some("energy"), Some(700)));
        let days = |table: &str| {
            let Expiry { tenants, others } = rules.expiry(table, 1_000);
            let day = |us: i64| if us == i64::MIN { -1 } else { us / DAY_US };
            (day(tenants["argos"]), day(tenants["lamia"]), day(others))
        };
        assert_eq!(days("fleet"), (940, -1, 940));
        assert_eq!(days("energy"), (300, 970, 100));
        assert_eq!(days("parking"), (100, 970, 100));
    }

    #[test]
    fn very_long_is_not_nothing() {
        let mut rules = Rules::default();
        rules.set(rule(None, None, Some(u32::MAX)));
        assert!(rules.expiry("fleet", 20_000).others < -1_000_000 * DAY_US);
    }

    #[test]
    fn clock_that_leaps_ahead_is_not_believed_until_a_rule_is_set_again() {
        let mut rules = Rules { applied: Some(20_000), ..Rules::default() };
        assert!(rules.believes(19_000) && rules.believes(20_035));
        assert!(!rules.believes(20_036));
        rules.set(rule(None, None, Some(60)));
        assert!(rules.believes(30_000));
    }

    #[test]
    fn rule_for_the_same_rows_takes_the_place_of_the_one_before() {
        let mut rules = Rules::default();
        rules.set(rule(Some("lamia"), Some("fleet"), Some(60)));
        rules.set(rule(Some("lamia"), Some("fleet"), Some(30)));
        assert_eq!(rules.rules, [rule(Some("lamia"), Some("fleet"), Some(30))]);
        assert!(!rules.unset(Some("lamia"), None));
        assert!(rules.unset(Some("lamia"), Some("fleet")));
        assert_eq!(rules, Rules::default());
    }
}

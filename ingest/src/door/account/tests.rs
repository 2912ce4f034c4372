//! What an account counts, without a network or a clock.

use super::*;

const SECOND_US: i64 = 1_000_000;
const NOW_US: i64 = 1_700_000_000 * SECOND_US;

fn accounts(change: impl FnOnce(&mut Limits)) -> Arc<Accounts> {
    let mut limits = Limits::default();
    change(&mut limits);
    Arc::new(Accounts::new(&limits))
}

#[test]
fn a_second_comes_at_once_and_the_rest_at_the_rate_in_order_of_asking() {
    let accounts = accounts(|limits| limits.tenant_rate_bytes = 1_000);
    let tenant = accounts.of("lamia", NOW_US);
    assert!(tenant.charge(1_000, NOW_US) <= NOW_US);
    let due: Vec<_> = (0..3).map(|_| tenant.charge(500, NOW_US) - NOW_US).collect();
    assert_eq!(due, [SECOND_US / 2, SECOND_US, SECOND_US * 3 / 2]);
    // Two seconds later half a second's worth is free again.
    assert!(tenant.charge(500, NOW_US + 2 * SECOND_US) <= NOW_US + 2 * SECOND_US);
    // Its neighbour never noticed.
    assert!(accounts.of("szeged", NOW_US).charge(1_000, NOW_US) <= NOW_US);
}

#[test]
fn nobody_waits_longer_than_ten_seconds_even_if_the_clock_is_set_back() {
    let tenant = accounts(|limits| limits.tenant_rate_bytes = 10).of("lamia", NOW_US);
    assert_eq!(tenant.charge(usize::MAX, NOW_US) - NOW_US, 9 * SECOND_US);
    let earlier_us = NOW_US - 3_600 * SECOND_US;
    assert_eq!(tenant.charge(1, earlier_us) - earlier_us, 9 * SECOND_US);
}

#[test]
fn rate_of_zero_is_no_limit() {
    let tenant = accounts(|limits| limits.tenant_rate_bytes = 0).of("lamia", NOW_US);
    assert!((0..1_000).all(|_| tenant.charge(usize::MAX, NOW_US) <= NOW_US));
}

#[test]
fn names_that_nobody_uses_are_forgotten_but_not_their_debts() {
    let accounts = accounts(|limits| limits.tenant_rate_bytes = 1_000);
    let used = accounts.of("used", NOW_US);
    accounts.of("indebted", NOW_US).charge(5_000, NOW_US);
    (0..10 * ACCOUNTS_KEPT).for_each(|number| drop(accounts.of(&format!("tenant-{number}"), NOW_US)));
    let kept = accounts.tenants.lock().unwrap().accounts.len();
    assert!(kept <= ACCOUNTS_KEPT, "{kept}");
    assert!(Arc::ptr_eq(&used, &accounts.of("used", NOW_US)));
    assert!(accounts.of("indebted", NOW_US).charge(1, NOW_US) > NOW_US + 3 * SECOND_US);
}

#[test]
fn workers_meet_the_same_account_and_forget_strangers_too() {
    let accounts = accounts(|_| ());
    let (mut one, mut other) = (Met::default(), Met::default());
    let lamia = one.of("lamia", &accounts, NOW_US);
    assert!(Arc::ptr_eq(&lamia, &other.of("lamia", &accounts, NOW_US)));
    assert!(Arc::ptr_eq(&lamia, &one.of("lamia", &accounts, NOW_US)));
    let malformed = ["", "La mia"].map(|name| one.of(name, &accounts, NOW_US));
    assert!(malformed.iter().all(|account| Arc::ptr_eq(account, &accounts.nobody)));
    for number in 0..10 * ACCOUNTS_KEPT {
        drop(one.of(&format!("tenant-{number}"), &accounts, NOW_US));
        assert!(one.accounts.len() <= ACCOUNTS_KEPT);
    }
    let kept = accounts.tenants.lock().unwrap().accounts.len();
    assert!(kept <= 4 * ACCOUNTS_KEPT, "{kept}");
    assert!(Arc::ptr_eq(&lamia, &one.of("lamia", &accounts, NOW_US)));
}

#[test]
fn payloads_in_pieces_are_counted_for_the_tenant_and_in_all() {
    let accounts = accounts(|limits| limits.tenant_large_bytes = LARGE_BYTES_MAX - 10);
    let (one, other) = (accounts.of("lamia", NOW_US), accounts.of("szeged", NOW_US));
    assert!(accounts.reserve(&one, LARGE_BYTES_MAX - 9).is_none());
    let held = accounts.reserve(&one, LARGE_BYTES_MAX - 10).expect("room");
    assert!(accounts.reserve(&one, 1).is_none());
    assert!(accounts.reserve(&other, 11).is_none());
    let small = accounts.reserve(&other, 10).expect("room");
    drop((held, small));
    assert!(accounts.reserve(&other, LARGE_BYTES_MAX - 10).is_some());
}

#[test]
fn topic_names_its_tenant_even_if_it_is_malformed_further_on() {
    for (topic, tenant) in [
        ("city/v1/lamia/fleet/bus-1", "lamia"),
        ("city/v1/lamia", "lamia"),
        ("city/v1//fleet/x", ""),
        ("city/v2/lamia/fleet/x", ""),
        ("", ""),
    ] {
        assert_eq!(tenant_of(topic), tenant, "{topic}");
    }
}

#[test]
fn tenants_are_served_in_turn_and_newcomers_with_them() {
    let accounts = accounts(|_| ());
    let (many, few) = (accounts.of("lamia", NOW_US), accounts.of("szeged", NOW_US));
    let mut line: Vec<_> = (0..4).map(|_| (accounts.ticket(Some(&many)), "many")).collect();
    line.extend((0..40).map(|_| (accounts.ticket(None), "new")));
    line.push((accounts.ticket(Some(&few)), "few"));
    line.sort_by_key(|(ticket, _)| *ticket);
    let at = |who: &str| line.iter().position(|(_, one)| *one == who).unwrap();
    assert!(at("few") < 20, "{line:?}");
    let last = |who: &str| line.iter().rposition(|(_, one)| *one == who).unwrap();
    assert!(last("new") < last("many"), "{line:?}");
    // Whoever was not there is not ahead of those who wait by what it did not use.
    accounts.serve(line[line.len() - 1].0);
    assert!(accounts.ticket(Some(&few)) > line[line.len() - 1].0);
}

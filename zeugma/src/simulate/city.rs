//! The towns of the simulation: where they lie and which clock they keep.

use chrono_tz::Tz;
use zeugma_firmware::simulated::fleet::Place;

/// One tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Town {
    /// The tenant's id.
    pub name: String,
    /// Its centre.
    pub centre: Place,
    /// Its clock.
    pub zone: Tz,
}

const TOWNS: [(&str, f64, f64, Tz); 12] = [
    ("lamia", 38.899, 22.434, Tz::Europe__Athens),
    ("ostrava", 49.835, 18.292, Tz::Europe__Prague),
    ("szeged", 46.253, 20.148, Tz::Europe__Budapest),
    ("volos", 39.362, 22.942, Tz::Europe__Athens),
    ("brno", 49.195, 16.608, Tz::Europe__Prague),
    ("pecs", 46.073, 18.228, Tz::Europe__Budapest),
    ("larissa", 39.639, 22.419, Tz::Europe__Athens),
    ("plzen", 49.747, 13.378, Tz::Europe__Prague),
    ("gyor", 47.687, 17.634, Tz::Europe__Budapest),
    ("graz", 47.071, 15.438, Tz::Europe__Vienna),
    ("maribor", 46.557, 15.646, Tz::Europe__Ljubljana),
    ("torino", 45.070, 7.687, Tz::Europe__Rome),
];

/// The town with this number; beyond the list they are made up, around the listed ones.
pub fn town(number: usize) -> Town {
    let (name, latitude, longitude, zone) = TOWNS[number % TOWNS.len()];
    let ring = number / TOWNS.len();
    if ring == 0 {
        return Town { name: name.into(), centre: Place { latitude, longitude }, zone };
    }
    // A new village about every 20 km, on a spiral that stays within a degree of the town.
    let angle = ring as f64 * 2.4;
    let degrees = 0.2 + 0.8 * (ring as f64 / 100.0).fract();
    let centre =
        Place { latitude: latitude + degrees * angle.sin(), longitude: longitude + degrees * angle.cos() };
    Town { name: format!("{name}-{ring}"), centre, zone }
}

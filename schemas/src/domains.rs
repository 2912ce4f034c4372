//! One plain struct for each domain that devices of ours publish; each names its fields once, for any encoding.
//!
//! Fields stand in the order of the domain's `.avsc` file, which says what each means and in which unit.
//! A fingerprint here is a constant that a test checks against that file.

use crate::{
    avro::{self, Full},
    json,
};

/// What a device measured, without the moment it did so.
pub trait Measurement {
    /// The domain, as it stands in the topic.
    const DOMAIN: &'static str;
    /// CRC-64-AVRO of the schema's canonical form.
    const FINGERPRINT: u64;

    /// Names the fields after `time` and `seq`, in the schema's order.
    fn fields(&self, out: &mut impl Fields);

    /// Encodes a whole reading as an Avro single-object frame; answers its length in bytes.
    fn encode_avro(&self, time_us: i64, seq: i64, buf: &mut [u8]) -> Result<usize, Full> {
        let head = avro_head(Self::FINGERPRINT, time_us, seq, buf)?;
        Ok(head + self.encode_avro_fields(&mut buf[head..])?)
    }

    /// Encodes a whole reading as a JSON object without the fields that are absent; answers its length in bytes.
    fn encode_json(&self, time_us: i64, seq: i64, buf: &mut [u8]) -> Result<usize, Full> {
        let head = json_head(time_us, seq, buf)?;
        Ok(head + self.encode_json_fields(&mut buf[head..])?)
    }

    /// Encodes what follows [`avro_head`]; answers its length in bytes.
    fn encode_avro_fields(&self, buf: &mut [u8]) -> Result<usize, Full> {
        let mut writer = avro::Writer::body(buf);
        self.fields(&mut writer);
        writer.finish()
    }

    /// Encodes what follows [`json_head`]; answers its length in bytes.
    fn encode_json_fields(&self, buf: &mut [u8]) -> Result<usize, Full> {
        let mut writer = json::Writer::rest_of_object(buf);
        self.fields(&mut writer);
        writer.finish()
    }
}

/// Begins the single-object frame of a reading: all before its fields. Answers its length in bytes.
///
/// A device that fixes time and number later than the values keeps the encoded fields alone.
pub fn avro_head(fingerprint: u64, time_us: i64, seq: i64, buf: &mut [u8]) -> Result<usize, Full> {
    let mut writer = avro::Writer::frame(buf, fingerprint);
    writer.long("time", time_us);
    writer.optional_long("seq", Some(seq));
    writer.finish()
}

/// Begins the JSON object of a reading: all before its fields. Answers its length in bytes.
pub fn json_head(time_us: i64, seq: i64, buf: &mut [u8]) -> Result<usize, Full> {
    let mut writer = json::Writer::object(buf);
    writer.long("time", time_us);
    writer.optional_long("seq", Some(seq));
    writer.pause()
}

/// What an encoding does with each field, told in the schema's order.
pub trait Fields {
    /// An `int` or `long` that is always there.
    fn long(&mut self, name: &str, value: i64);
    /// A `double` that is always there.
    fn double(&mut self, name: &str, value: f64);
    /// A `boolean` that is always there.
    fn boolean(&mut self, name: &str, value: bool);
    /// A `["null", "int"]` or `["null", "long"]`.
    fn optional_long(&mut self, name: &str, value: Option<i64>);
    /// A `["null", "double"]`.
    fn optional_double(&mut self, name: &str, value: Option<f64>);
    /// A `["null", "boolean"]`.
    fn optional_boolean(&mut self, name: &str, value: Option<bool>);
    /// A `["null", "string"]`.
    fn optional_string(&mut self, name: &str, value: Option<&str>);
}

/// `energy.avsc`: electricity at one metering point.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Energy {
    pub active_power_w: Option<f64>,
    pub reactive_power_var: Option<f64>,
    pub energy_import_wh: Option<f64>,
    pub energy_export_wh: Option<f64>,
    pub voltage_v: Option<f64>,
    pub current_a: Option<f64>,
    pub voltage_l1_v: Option<f64>,
    pub voltage_l2_v: Option<f64>,
    pub voltage_l3_v: Option<f64>,
    pub current_l1_a: Option<f64>,
    pub current_l2_a: Option<f64>,
    pub current_l3_a: Option<f64>,
    pub power_factor: Option<f64>,
    pub frequency_hz: Option<f64>,
}

impl Measurement for Energy {
    const DOMAIN: &'static str = "energy";
    const FINGERPRINT: u64 = 0xee63_6011_840f_3fae;

    fn fields(&self, out: &mut impl Fields) {
        out.optional_double("active_power_w", self.active_power_w);
        out.optional_double("reactive_power_var", self.reactive_power_var);
        out.optional_double("energy_import_wh", self.energy_import_wh);
        out.optional_double("energy_export_wh", self.energy_export_wh);
        out.optional_double("voltage_v", self.voltage_v);
        out.optional_double("current_a", self.current_a);
        out.optional_double("voltage_l1_v", self.voltage_l1_v);
        out.optional_double("voltage_l2_v", self.voltage_l2_v);
        out.optional_double("voltage_l3_v", self.voltage_l3_v);
        out.optional_double("current_l1_a", self.current_l1_a);
        out.optional_double("current_l2_a", self.current_l2_a);
        out.optional_double("current_l3_a", self.current_l3_a);
        out.optional_double("power_factor", self.power_factor);
        out.optional_double("frequency_hz", self.frequency_hz);
    }
}

/// `parking.avsc`: occupancy of a car park, a zone or a bay.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Parking {
    pub occupied_spaces: i32,
    pub total_spaces: Option<i32>,
    pub temperature_c: Option<f64>,
}

impl Measurement for Parking {
    const DOMAIN: &'static str = "parking";
    const FINGERPRINT: u64 = 0xfcdc_adfe_a212_3574;

    fn fields(&self, out: &mut impl Fields) {
        out.long("occupied_spaces", self.occupied_spaces.into());
        out.optional_long("total_spaces", self.total_spaces.map(i64::from));
        out.optional_double("temperature_c", self.temperature_c);
    }
}

/// `fleet.avsc`: position and state of a vehicle.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Fleet {
    pub latitude: f64,
    pub longitude: f64,
    pub altitude_m: Option<f64>,
    pub speed_kmh: Option<f64>,
    pub heading_deg: Option<f64>,
    pub ignition: Option<bool>,
    pub odometer_m: Option<f64>,
    pub fuel_pct: Option<f64>,
    pub soc_pct: Option<f64>,
    pub satellites: Option<i32>,
    pub hdop: Option<f64>,
}

impl Measurement for Fleet {
    const DOMAIN: &'static str = "fleet";
    const FINGERPRINT: u64 = 0x8a3f_9eb4_2218_5f35;

    fn fields(&self, out: &mut impl Fields) {
        out.double("latitude", self.latitude);
        out.double("longitude", self.longitude);
        out.optional_double("altitude_m", self.altitude_m);
        out.optional_double("speed_kmh", self.speed_kmh);
        out.optional_double("heading_deg", self.heading_deg);
        out.optional_boolean("ignition", self.ignition);
        out.optional_double("odometer_m", self.odometer_m);
        out.optional_double("fuel_pct", self.fuel_pct);
        out.optional_double("soc_pct", self.soc_pct);
        out.optional_long("satellites", self.satellites.map(i64::from));
        out.optional_double("hdop", self.hdop);
    }
}

/// `connectivity.avsc`: state of a hotspot or of a building's link.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Connectivity {
    pub up: bool,
    pub clients: Option<i32>,
    pub rx_bytes: Option<i64>,
    pub tx_bytes: Option<i64>,
    pub latency_ms: Option<f64>,
    pub loss_pct: Option<f64>,
}

impl Measurement for Connectivity {
    const DOMAIN: &'static str = "connectivity";
    const FINGERPRINT: u64 = 0xd172_7ece_2f03_dd61;

    fn fields(&self, out: &mut impl Fields) {
        out.boolean("up", self.up);
        out.optional_long("clients", self.clients.map(i64::from));
        out.optional_long("rx_bytes", self.rx_bytes);
        out.optional_long("tx_bytes", self.tx_bytes);
        out.optional_double("latency_ms", self.latency_ms);
        out.optional_double("loss_pct", self.loss_pct);
    }
}

/// `device_health.avsc`: state of the publishing device itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct DeviceHealth {
    pub boot: Option<i64>,
    pub uptime_s: Option<i64>,
    pub battery_v: Option<f64>,
    pub rssi_dbm: Option<i32>,
    pub firmware: Option<&'static str>,
    pub outbox_len: Option<i32>,
    pub dropped: Option<i64>,
}

impl Measurement for DeviceHealth {
    const DOMAIN: &'static str = "device_health";
    const FINGERPRINT: u64 = 0xc861_3372_dbd0_bf65;

    fn fields(&self, out: &mut impl Fields) {
        out.optional_long("boot", self.boot);
        out.optional_long("uptime_s", self.uptime_s);
        out.optional_double("battery_v", self.battery_v);
        out.optional_long("rssi_dbm", self.rssi_dbm.map(i64::from));
        out.optional_string("firmware", self.firmware);
        out.optional_long("outbox_len", self.outbox_len.map(i64::from));
        out.optional_long("dropped", self.dropped);
    }
}

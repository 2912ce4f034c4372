use std::path::Path;

use super::*;

const FILE: &str = r#"
    tenant = "lamia"
    device = "meter-001"
    broker = "192.0.2.10:1883"
    address = "192.0.2.77/24"
    gateway = "192.0.2.1"
    report_every = "60s"
    health_every = "1h"
"#;

async fn read(flash: &Path) -> settings::Found {
    let mut flash = FlashFile::open(flash, 64).unwrap();
    settings::read(&mut flash, 4096).await.unwrap()
}

async fn provision_with(flash: &Path, text: &str) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let args = ProvisionArgs { flash: flash.to_owned(), flash_kib: 64, settings: file.path().to_owned() };
    provision(&args).await
}

#[tokio::test]
async fn provisioned_device_knows_its_place_and_newer_settings_hold() {
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash");
    for (device, login) in [("meter-001", ""), ("meter-002", "user = 'a'\npassword = 'b'")] {
        provision_with(&flash, &format!("{}{login}", FILE.replace("meter-001", device))).await.unwrap();
        let found = read(&flash).await;
        let settings = found.settings.unwrap();
        assert_eq!((settings.device.as_str(), settings.login.is_some()), (device, !login.is_empty()));
        assert_eq!((settings.report_every_ms, settings.health_every_ms), (60_000, 3_600_000));
        assert_eq!(found.passed_over, None);
    }
    assert_eq!(std::fs::metadata(&flash).unwrap().len(), 64 * 1024);
}

#[tokio::test]
async fn provisioned_device_knows_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash");
    let text = format!("{FILE}psk_identity = 'meter-001'\npsk = '{}'", "0a".repeat(32));
    provision_with(&flash, &text).await.unwrap();
    let key = read(&flash).await.settings.unwrap().key.unwrap();
    assert_eq!((key.identity.as_str(), &key.secret[..]), ("meter-001", &[10; 32][..]));
}

#[tokio::test]
async fn settings_that_are_damaged_are_passed_over_for_the_last_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash");
    for device in ["meter-001", "meter-002"] {
        provision_with(&flash, &FILE.replace("meter-001", device)).await.unwrap();
    }
    let mut bytes = std::fs::read(&flash).unwrap();
    // The second ones went into the second page.
    bytes[4096 + 20] ^= 1;
    std::fs::write(&flash, &bytes).unwrap();
    let found = read(&flash).await;
    assert_eq!(found.settings.unwrap().device.as_str(), "meter-001");
    assert_eq!(found.passed_over, Some(settings::Invalid::Damaged));
    provision_with(&flash, &FILE.replace("meter-001", "meter-003")).await.unwrap();
    assert_eq!(read(&flash).await.settings.unwrap().device.as_str(), "meter-003");
}

#[tokio::test]
async fn wrong_settings_are_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash");
    for (text, says) in [
        (FILE.replace("meter-001", "meter/1"), "tenant and device"),
        (FILE.replace("60s", "0s"), "at least 100 ms"),
        (FILE.replace("60s", "soon"), "no time"),
        (FILE.replace("/24", ""), "192.0.2.77/24"),
        (format!("{FILE}user = 'a'"), "go together"),
        (format!("{FILE}psk = '00'"), "go together"),
        (format!("{FILE}psk_identity = 'a'\npsk = 'secret'"), "in hexadecimal"),
        (format!("{FILE}psk_identity = 'a'\npsk = '0011'"), "16 to 32 bytes"),
        (format!("{FILE}colour = 'red'"), "unknown field `colour`"),
    ] {
        let error = provision_with(&flash, &text).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(!flash.exists(), "nothing is written");
}

// SPDX-License-Identifier: Apache-2.0
//! What is stored about silent devices: one JSON object, `{"NAME":[SILENT,TOLD,LAST,SINCE],…}`, with seconds, a flag,
//! and seconds since 1970 or null. There is no file while there is nothing to store.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Record, Records};
use crate::config::Relay;
use crate::system::json::json;
use crate::system::publish;

/// Its name.
const FILE: &str = "silent_devices";
/// The size limit of a valid file in bytes.
const LIMIT: u64 = 256 << 10;

/// Where it is: where it outlives a reboot, if there is such a place.
pub fn path(relay: &Relay) -> PathBuf {
    let lasting = relay.safe_spool.as_ref().or_else(|| Some(&relay.secrets).filter(|directory| directory.is_dir()));
    lasting.unwrap_or(&relay.spool).join(FILE)
}

/// What is stored; nothing, if that is not ours.
pub fn read(path: &Path) -> Records {
    let small = fs::metadata(path).is_ok_and(|file| file.len() <= LIMIT);
    let text = small.then(|| fs::read_to_string(path).ok()).flatten().unwrap_or_default();
    decode(&text)
}

/// Stores `records`, or removes the file if there are none. Blocks.
///
/// # Errors
/// Those of the disk.
pub fn write(path: &Path, records: &Records) -> io::Result<()> {
    if records.is_empty() {
        return remove(path);
    }
    publish::replace(path, encode(records).as_bytes(), 0o600)
}

/// Removes the file so that a power cut does not bring it back, with a silence that is over.
fn remove(path: &Path) -> io::Result<()> {
    let _kept_until_synced = publish::Blocks::of(path);
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let directory = path.parent().map(File::open).transpose()?;
    directory.map_or(Ok(()), |directory| publish::for_good(&directory, File::sync_all))
}

fn encode(records: &Records) -> String {
    let mut object = Map::new();
    for (name, Record { silent, told, last, since }) in records {
        object.insert(name.clone(), json!([silent.as_secs(), told, last, since]));
    }
    Value::Object(object).to_string()
}

fn decode(text: &str) -> Records {
    let Ok(Value::Object(found)) = serde_json::from_str(text) else { return Records::new() };
    found.into_iter().filter_map(|(name, values)| Some((name, record(&values)?))).collect()
}

fn record(values: &Value) -> Option<Record> {
    Some(Record {
        silent: Duration::from_secs(values.get(0)?.as_u64()?),
        told: values.get(1)?.as_bool()?,
        last: values.get(2).and_then(Value::as_i64),
        since: values.get(3).and_then(Value::as_i64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_take_records_is_no_file_and_what_is_not_ours_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(read(&file), Records::new());
        write(&file, &Records::new()).unwrap();
        let silent = Record { silent: Duration::from_secs(7), told: true, last: Some(1_803_902_400), since: None };
        let records: Records = vec![("pump".into(), silent)];
        write(&file, &records).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"pump":[7,true,1803902400,null]}"#);
        assert_eq!(read(&file), records);
        write(&file, &Records::new()).unwrap();
        assert!(!file.exists());
        for wrong in ["", "{", "[1]", r#"{"a":7,"b":[-1,true],"c":["1",true],"d":[1]}"#] {
            assert_eq!(decode(wrong), Records::new(), "{wrong}");
        }
    }

    #[test]
    fn it_is_where_it_outlives_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let [safe, secrets, spool] = ["safe", "secrets", "spool"].map(|name| dir.path().join(name));
        let relay = Relay { secrets: secrets.clone(), spool: spool.clone(), ..Relay::default() };
        assert_eq!(path(&relay), spool.join(FILE));
        fs::create_dir(&secrets).unwrap();
        assert_eq!(path(&relay), secrets.join(FILE));
        assert_eq!(path(&Relay { safe_spool: Some(safe.clone()), ..relay }), safe.join(FILE));
    }

    proptest! {
        #[test]
        fn it_reads_back(names in prop::collection::btree_map("[a-z_0-9]{1,12}", any::<(u32, bool, Option<i64>, Option<i64>)>(), 0..9)) {
            let record = |(silent, told, last, since): (u32, bool, Option<i64>, Option<i64>)| Record { silent: Duration::from_secs(silent.into()), told, last, since };
            let records: Records = names.into_iter().map(|(name, values)| (name, record(values))).collect();
            prop_assert_eq!(decode(&encode(&records)), records);
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,60}") {
            decode(&text);
        }
    }
}

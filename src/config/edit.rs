// SPDX-License-Identifier: Apache-2.0
//! Changes a settings file and leaves everything else in it as it is: order, comments, other sections.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use super::uci;

/// Which section is changed; one that is missing is added at the end.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// The first one of this kind; a new one gets this name.
    First(&'a str, &'a str),
    /// The one of this kind with this name.
    Named(&'a str, &'a str),
}

/// `text` with these options in one section. An option with an empty value is removed.
///
/// # Errors
/// If the text cannot be parsed.
pub fn set(text: &str, place: Place<'_>, options: &[(&str, &str)]) -> Result<String, String> {
    let package = uci::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let (kind, name) = match place {
        Place::First(kind, name) | Place::Named(kind, name) => (kind, name),
    };
    let is_meant = |section: &&uci::Section| match place {
        Place::First(..) => section.kind == kind,
        Place::Named(..) => section.kind == kind && section.name.as_deref() == Some(name),
    };
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let index = |line: u32| usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let (mut end, old) = match package.sections.iter().find(is_meant) {
        Some(section) => {
            let next = package.sections.iter().map(|other| index(other.line)).filter(|at| *at > index(section.line));
            (next.min().unwrap_or(lines.len()), section.options.as_slice())
        }
        None => {
            lines.extend([String::new(), format!("config {kind} {}", quoted(name))]);
            (lines.len(), &[][..])
        }
    };
    // New options come before what separates the section from the next one: blank lines and its comments.
    let separates = |line: &String| line.trim().is_empty() || line.trim_start().starts_with('#');
    while end > 0 && lines.get(end - 1).is_some_and(separates) {
        end -= 1;
    }
    let mut removed = Vec::new();
    for (option, value) in options {
        let written = format!("\toption {option} {}", quoted(value));
        let at = old.iter().find(|known| known.name == *option).map(|known| index(known.line));
        match at.and_then(|at| Some((at, lines.get_mut(at)?))) {
            // A value over several lines is not ours.
            Some((_, line)) if uci::parse(format!("config x\n{line}\n").as_bytes()).is_err() => {
                return Err(format!("option {option} has a value over several lines: change it by hand"));
            }
            Some((at, _)) if value.is_empty() => removed.push(at),
            Some((_, line)) => *line = written,
            None if value.is_empty() => {}
            None => {
                lines.insert(end.min(lines.len()), written);
                end += 1;
            }
        }
    }
    removed.sort_unstable();
    removed.into_iter().rev().for_each(|at| _ = lines.remove(at));
    Ok(lines.join("\n") + "\n")
}

/// As `uci export` quotes.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Replaces `file` as a whole: whoever reads it sees the old text or the new one. Owner and mode stay.
///
/// # Errors
/// Those of the file system.
pub fn replace(file: &Path, text: &str) -> io::Result<()> {
    let before = fs::metadata(file).ok();
    let mode = before.as_ref().map_or(0o600, |before| before.mode() & 0o7777);
    let new = file.with_extension("smtprelay-new");
    let written = (|| {
        // What a crash left behind is of no use.
        let _ = fs::remove_file(&new);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        out.write_all(text.as_bytes())?;
        if let Some(before) = &before {
            chown(&new, Some(before.uid()), Some(before.gid()))?;
        }
        out.set_permissions(Permissions::from_mode(mode))?;
        out.sync_all()?;
        fs::rename(&new, file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = "\nconfig relay 'main'\n\toption enabled '0'\n\n# devices\nconfig listener 'lan'\n\tlist interface 'lan'\n\nconfig account 'provider'\n\toption provider 'custom'\n";

    #[test]
    fn an_option_is_replaced_added_or_removed_and_the_rest_stays() {
        let text = set(SHIPPED, Place::First("relay", "main"), &[("enabled", "1"), ("admin", "it's me")]).unwrap();
        let wanted =
            "\nconfig relay 'main'\n\toption enabled '1'\n\toption admin 'it'\\''s me'\n\n# devices\nconfig listener";
        assert!(text.starts_with(wanted), "{text}");
        let text = set(&text, Place::Named("account", "provider"), &[("provider", ""), ("host", "h")]).unwrap();
        assert!(text.ends_with("config account 'provider'\n\toption host 'h'\n"), "{text}");
        let text = set(&text, Place::Named("account", "second"), &[("host", "i")]).unwrap();
        assert!(text.ends_with("\toption host 'h'\n\nconfig account 'second'\n\toption host 'i'\n"), "{text}");
        let package = uci::parse(text.as_bytes()).unwrap();
        assert_eq!(package.sections.len(), 4);
        assert!(
            set("config relay\n\toption admin 'a\nb'\n", Place::First("relay", "main"), &[("admin", "c")]).is_err()
        );
        assert!(set("option x\n", Place::First("relay", "main"), &[]).is_err());
    }

    #[test]
    fn a_file_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("smtprelay");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        replace(&file, "new\n").unwrap();
        assert_eq!(
            (fs::read_to_string(&file).unwrap().as_str(), fs::metadata(&file).unwrap().mode() & 0o777),
            ("new\n", 0o640)
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("no/smtprelay"), "x").is_err());
    }
}

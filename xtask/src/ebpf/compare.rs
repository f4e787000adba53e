//! Whether two kernel objects do the same. Pure: bytes in, verdict out.
//!
//! Line information for the verifier's log moves with every comment in the source, so it may differ; code, its
//! relocations, maps, read-only data and types may not.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

/// How two objects relate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every byte.
    Identical,
    /// All that acts; line information differs.
    SameCode,
    /// A sentence for each difference.
    Different(Vec<String>),
}

/// What of a section acts: its bytes, and where they refer to what.
#[derive(Debug, PartialEq, Eq)]
struct Section {
    data: Vec<u8>,
    relocations: Vec<String>,
}

/// Compares a committed and a rebuilt object.
pub(crate) fn objects(committed: &[u8], rebuilt: &[u8]) -> Result<Verdict> {
    if committed == rebuilt {
        return Ok(Verdict::Identical);
    }
    let before = sections(committed).context("reading the committed object")?;
    let after = sections(rebuilt).context("reading the rebuilt object")?;
    let differences = differences(&before, &after);
    Ok(if differences.is_empty() {
        Verdict::SameCode
    } else {
        Verdict::Different(differences)
    })
}

/// Names of sections that only a reader of logs or a debugger uses.
fn is_commentary(name: &str) -> bool {
    let name = name.trim_start_matches(".rel");
    name.starts_with(".debug") || [".BTF.ext", ".strtab", ".symtab", ".llvm_addrsig", ""].contains(&name)
}

fn sections(bytes: &[u8]) -> Result<BTreeMap<String, Section>> {
    let file = object::File::parse(bytes)?;
    let mut found = BTreeMap::new();
    for section in file.sections() {
        let name = section.name()?.to_owned();
        // Relocation sections are read through the section they belong to.
        if is_commentary(&name) || name.starts_with(".rel") {
            continue;
        }
        let mut relocations = Vec::new();
        for (offset, relocation) in section.relocations() {
            relocations.push(format!(
                "{offset:#x} {:?} {}",
                relocation.flags(),
                target(&file, relocation.target())?
            ));
        }
        found.insert(
            name,
            Section {
                data: section.data()?.to_vec(),
                relocations,
            },
        );
    }
    Ok(found)
}

fn target(file: &object::File<'_>, target: RelocationTarget) -> Result<String> {
    let RelocationTarget::Symbol(index) = target else {
        return Ok(format!("{target:?}"));
    };
    let symbol = file.symbol_by_index(index)?;
    let section = match symbol.section_index() {
        Some(index) => file.section_by_index(index)?.name()?.to_owned(),
        None => String::new(),
    };
    Ok(format!("{section} {} {:#x}", symbol.name()?, symbol.address()))
}

fn differences(before: &BTreeMap<String, Section>, after: &BTreeMap<String, Section>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, old) in before {
        match after.get(name) {
            None => found.push(format!("{name} is only in the committed object")),
            Some(new) if old.data != new.data => {
                found.push(format!(
                    "{name} differs: {} bytes committed, {} rebuilt",
                    old.data.len(),
                    new.data.len()
                ));
            }
            Some(new) if old.relocations != new.relocations => {
                found.push(format!("{name} refers to other symbols"));
            }
            Some(_) => {}
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        found.push(format!("{name} is only in the rebuilt object"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, data: &[u8], relocations: &[&str]) -> BTreeMap<String, Section> {
        let relocations = relocations.iter().map(|text| (*text).to_owned()).collect();
        BTreeMap::from([(
            name.to_owned(),
            Section {
                data: data.to_vec(),
                relocations,
            },
        )])
    }

    #[test]
    fn code_relocations_and_missing_programs_are_differences() {
        let base = one("tp_btf/x", b"abc", &["0x0 maps RECORDS"]);
        assert!(differences(&base, &one("tp_btf/x", b"abc", &["0x0 maps RECORDS"])).is_empty());
        assert_eq!(
            differences(&base, &one("tp_btf/x", b"abd", &["0x0 maps RECORDS"])).len(),
            1
        );
        assert_eq!(
            differences(&base, &one("tp_btf/x", b"abc", &["0x0 maps OTHER"])).len(),
            1
        );
        assert_eq!(
            differences(&base, &one("tp_btf/y", b"abc", &["0x0 maps RECORDS"])).len(),
            2
        );
    }

    #[test]
    fn line_information_is_commentary_and_types_are_not() {
        for name in [
            ".debug_line",
            ".rel.debug_info",
            ".BTF.ext",
            ".rel.BTF.ext",
            ".strtab",
        ] {
            assert!(is_commentary(name), "{name}");
        }
        for name in [
            ".BTF",
            ".text",
            "maps",
            ".maps",
            ".rodata",
            "iter/task",
            "license",
        ] {
            assert!(!is_commentary(name), "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_object_are_an_error_unless_equal() {
        assert_eq!(objects(b"x", b"x").unwrap(), Verdict::Identical);
        assert!(objects(b"x", b"y").is_err());
    }
}

//! Files of the repository that follow from the types, or that the types must be able to read.

use std::path::{Path, PathBuf};

use super::super::{load, schema};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_shipped_schema_is_the_one_the_types_give() {
    let path = root().join("docs/generated/governor.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == text,
        "{} is stale; run this test with UPDATE_GENERATED=1",
        path.display()
    );
}

#[test]
fn the_schema_forbids_unknown_keys_and_describes_every_key() {
    fn check(at: &str, schema: &serde_json::Value, objects: &mut usize) {
        if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
            *objects += 1;
            assert_eq!(schema["additionalProperties"], false, "{at}");
            for (key, value) in properties {
                assert!(
                    value.get("description").is_some(),
                    "{at}.{key} has no description"
                );
            }
        }
    }
    let schema = schema();
    let mut objects = 0;
    check("top", &schema, &mut objects);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        check(name, definition, &mut objects);
    }
    assert_eq!(objects, 13);
}

#[test]
fn every_example_is_accepted() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(root().join("deploy/examples")).unwrap() {
        let path = entry.unwrap().path();
        let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(!config.rules.is_empty(), "{}", path.display());
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    seen.sort();
    assert_eq!(
        seen,
        ["edge.yaml", "research.yaml", "studio.yaml", "watch-config.yaml"]
    );
}

//! The committed seeds of the fuzz targets. Each is named after its result, so that none becomes outdated unnoticed.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{checks::SUBJECTS, generate::seeds};

#[test]
fn every_seed_comes_to_what_its_name_says() {
    for (subject, input) in SUBJECTS {
        let mut reached = BTreeSet::new();
        for (name, bytes) in seeds(subject) {
            let label = input(&bytes);
            let rest = name.strip_prefix(label).unwrap_or_else(|| panic!("corpus/{subject}/{name} gives {label}"));
            assert!(rest.is_empty() || rest.starts_with(['-', '.']), "corpus/{subject}/{name} gives {label}");
            assert!(bytes.len() <= 4096, "corpus/{subject}/{name} is larger than 4096 bytes");
            reached.insert(label);
        }
        assert!(reached.len() >= 2, "the seeds of {subject} all give {reached:?}");
    }
}

#[test]
fn every_subject_has_its_fuzz_target_and_every_target_its_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |directory: &str, ending: &str| -> BTreeSet<String> {
        let listed = fs::read_dir(fuzz.join(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"));
        let names = listed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
    };
    let subjects: BTreeSet<_> = SUBJECTS.iter().map(|(subject, _)| (*subject).to_owned()).collect();
    assert_eq!(names("fuzz_targets", ".rs"), subjects);
    assert_eq!(names("corpus", ""), subjects);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest");
    for subject in subjects {
        assert!(manifest.contains(&format!("name = \"{subject}\"")), "fuzz/Cargo.toml lacks {subject}");
    }
}

//! The files of `src/` import each other one way only.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

use super::{files_below, read};

/// The modules of `src/` by name, each with the modules that it imports. `a::b` names the file of module `b` in `a`.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports();
    assert!(imports.len() > 200, "only {} files were found", imports.len());
    assert!(imports["worker::deliver"].contains("worker::attempt"), "imports are recognized");
    let circles: Vec<_> = imports.keys().filter_map(|module| way_back(&imports, module)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_circle_is_found() {
    let imports = |pairs: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            imports.entry((*to).to_owned()).or_default();
        }
        imports
    };
    assert_eq!(way_back(&imports(&[("a", "b"), ("b", "c"), ("a", "c")]), "a"), None);
    let way = way_back(&imports(&[("a", "b"), ("b", "c"), ("c", "a")]), "a");
    assert_eq!(way.as_deref(), Some("a -> b -> c -> a"));
}

/// Returns the shortest way by which a module imports itself.
fn way_back(imports: &Imports, module: &str) -> Option<String> {
    let mut ways = vec![vec![module]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in &imports[*way.last().expect("a module")] {
                let way: Vec<&str> = way.iter().copied().chain([next.as_str()]).collect();
                if next == module {
                    return Some(way.join(" -> "));
                }
                if seen.insert(next.as_str()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

fn imports() -> Imports {
    let files: Vec<_> = files_below("src").into_iter().filter(|path| path.ends_with(".rs")).collect();
    let modules: BTreeMap<_, _> = files.iter().map(|path| (module_of(path), path)).collect();
    let is_test = |module: &str| module.contains("::tests") || module.starts_with("worker::model");
    let shipped = modules.iter().filter(|(module, _)| !module.is_empty() && !is_test(module));
    let of = |(module, path): (&String, &&String)| {
        let file = syn::parse_file(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut paths = Paths { module: module.split("::").map(str::to_owned).collect(), found: Vec::new() };
        paths.visit_file(&file);
        let owner = |path: &Vec<String>| {
            (1..=path.len()).rev().map(|length| path[..length].join("::")).find(|name| modules.contains_key(name))
        };
        let imported = paths.found.iter().filter_map(owner).filter(|other| other != module && !is_test(other));
        (module.clone(), imported.collect())
    };
    shipped.map(of).collect()
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`; `src/lib.rs` and `src/main.rs` are empty.
fn module_of(path: &str) -> String {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(path, "lib" | "main") { String::new() } else { path.replace('/', "::") }
}

/// Collects all paths of a file that begin with `crate`, `super` or `self`, from the root of the crate.
struct Paths {
    module: Vec<String>,
    found: Vec<Vec<String>>,
}

impl Paths {
    fn note(&mut self, path: Vec<String>) {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let base = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.module.clone(),
            Some("super") => self.module[..self.module.len().saturating_sub(supers)].to_vec(),
            _ => return,
        };
        let rest = path.into_iter().skip(supers.max(1)).filter(|part| part != "self");
        self.found.push(base.into_iter().chain(rest).collect());
    }

    fn note_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.note_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.note(with(&name.ident)),
            UseTree::Rename(rename) => self.note(with(&rename.ident)),
            UseTree::Glob(_) => self.note(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.note_tree(item, before)),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.note_tree(&item.tree, &[]);
        }
    }

    /// `pub(super)` and `pub(in ...)` import nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.note(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

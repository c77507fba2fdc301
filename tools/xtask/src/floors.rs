//! Which folder of a crate may name which: arrows point downward only.
//!
//! A name is what a `use` or a path says, resolved to the folder where it stands: groups are expanded, `self` and `super`
//! followed, and a re-export counts as a name of both its place and its source. Tests may name everything.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

use crate::step::{Failed, root};

/// A path inside a crate, from its root.
type Name = Vec<String>;

/// A crate whose folders are floors.
struct House {
    /// Its folder of sources.
    sources: &'static str,
    /// Its folders and files at the root, the highest first; those in one line do not name each other.
    floors: &'static [&'static [&'static str]],
    /// What a folder may name, where that is less than all below it.
    only: &'static [(&'static str, &'static [&'static str])],
    /// Today's breaches: a file, and the folder that it names. The list may only shrink.
    breaches: &'static [(&'static str, &'static str)],
}

const HOUSES: [House; 1] = [CLIENT];

/// A command may name the agent and what has no keys; the arrows into the rest are those that an agent has to replace.
const CLIENT: House = House {
    sources: "host/client/src",
    floors: &[
        &["cli"],
        &["agent"],
        &["vault", "relay"],
        &["token"],
        &["home", "transport"],
        &["model"],
        &["error"],
        &["os", "escape", "crash"],
    ],
    only: &[("cli", &["agent", "model", "error", "os", "escape", "crash"])],
    breaches: &[
        ("cli/output.rs", "token"),
        ("cli/context.rs", "home"),
        ("cli/context.rs", "token"),
        ("cli/context.rs", "transport"),
    ],
};

/// Breaches of the floors, as sentences.
pub(crate) fn check() -> Result<Vec<String>, Failed> {
    let mut wrong = Vec::new();
    for house in &HOUSES {
        let mut files = Vec::new();
        super::check::rust_files(&root().join(house.sources), &mut files)?;
        let mut texts = BTreeMap::new();
        for file in files {
            // Tests may name everything.
            if file
                .file_stem()
                .is_some_and(|name| name.to_string_lossy().ends_with("tests"))
            {
                continue;
            }
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Failed(format!("{}: {error}", file.display())))?;
            let place = file.strip_prefix(root().join(house.sources));
            let place = place.unwrap_or(&file).to_string_lossy().into_owned();
            texts.insert(place, text);
        }
        let arrows = arrows(&texts).map_err(Failed)?;
        wrong.extend(house.judge(&arrows));
    }
    Ok(wrong)
}

impl House {
    fn judge(&self, arrows: &BTreeSet<(String, String)>) -> Vec<String> {
        let floor = |folder: &str| self.floors.iter().position(|line| line.contains(&folder));
        let mut wrong = Vec::new();
        let mut found = BTreeSet::new();
        for (file, to) in arrows {
            let from = folder_of(file);
            let (Some(above), Some(below)) = (floor(from), floor(to)) else {
                let unknown = if floor(from).is_none() { from } else { to };
                wrong.push(format!("{}/{file}: no floor for `{unknown}`", self.sources));
                continue;
            };
            let limited = self.only.iter().find(|(folder, _)| *folder == from);
            let allowed = limited.is_none_or(|(_, names)| names.contains(&to.as_str()));
            if above < below && allowed {
                continue;
            }
            found.insert((file.as_str(), to.as_str()));
            if !self.breaches.contains(&(file, to)) {
                wrong.push(format!(
                    "{}/{file}: names `{to}`, which `{from}` may not",
                    self.sources
                ));
            }
        }
        let mended = self
            .breaches
            .iter()
            .filter(|breach| !found.contains(*breach));
        wrong.extend(mended.map(|(file, to)| {
            format!(
                "{}/{file}: does not name `{to}` any more: take it off the list of breaches",
                self.sources
            )
        }));
        wrong
    }
}

/// Files, each with a folder that it names and does not lie in; by their places inside the sources.
fn arrows(texts: &BTreeMap<String, String>) -> Result<BTreeSet<(String, String)>, String> {
    let mut modules = BTreeSet::from([Name::new()]);
    let mut parsed = Vec::new();
    for (place, text) in texts {
        let file = syn::parse_file(text).map_err(|error| format!("{place}: {error}"))?;
        let module = module_of(place);
        modules.insert(module.clone());
        parsed.push((place, module, file));
    }
    let mut seen = Vec::new();
    let mut exports = BTreeMap::new();
    for (place, module, file) in &parsed {
        let mut names = Names {
            modules: &modules,
            module: module.clone(),
            named: BTreeSet::new(),
            exports: &mut exports,
        };
        names.visit_file(file);
        seen.push((*place, names.named));
    }
    let mut arrows = BTreeSet::new();
    for (place, named) in seen {
        // The root is the front door: it may show every floor.
        let from = folder_of(place);
        if from == "lib" || from == "main" {
            continue;
        }
        for name in named {
            for folder in folders(&name, &exports) {
                if folder != from {
                    arrows.insert((place.clone(), folder));
                }
            }
        }
    }
    Ok(arrows)
}

/// The folders where a name stands, and where its re-exports lead.
fn folders(name: &Name, exports: &BTreeMap<Name, Name>) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    let mut names = vec![name.clone()];
    let mut followed = BTreeSet::new();
    while let Some(name) = names.pop() {
        if !followed.insert(name.clone()) {
            continue;
        }
        let prefixes = (1..=name.len()).filter_map(|length| name.get(..length));
        let exported = prefixes.filter_map(|prefix| {
            let rest = name.get(prefix.len()..).unwrap_or_default();
            // A module may show something of its own that is named as itself.
            let target = exports
                .get(prefix)
                .filter(|target| !target.starts_with(prefix))?;
            Some([target.as_slice(), rest].concat())
        });
        let exported: Vec<Name> = exported.collect();
        // At the root only what it shows is named.
        if name.len() > 1 || exported.is_empty() {
            folders.extend(name.first().cloned());
        }
        names.extend(exported);
    }
    folders
}

/// `cli/send.rs` lies in `cli`, `home.rs` in `home`.
fn folder_of(place: &str) -> &str {
    let first = place.split('/').next().unwrap_or(place);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// `cli/mod.rs` is the module `cli`, `cli/send.rs` is `cli::send`, `lib.rs` the root.
fn module_of(place: &str) -> Name {
    let place = place.strip_suffix(".rs").unwrap_or(place);
    let mut module: Name = place.split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && matches!(place, "lib" | "main");
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Collects what one file names.
struct Names<'a> {
    modules: &'a BTreeSet<Name>,
    module: Name,
    named: BTreeSet<Name>,
    exports: &'a mut BTreeMap<Name, Name>,
}

impl Names<'_> {
    /// A path from the root of the crate; `None` if it leads out of the crate, or to something in scope.
    fn resolve(&self, segments: &[String]) -> Option<Name> {
        let (first, mut rest) = segments.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Name::new(),
            "self" => self.module.clone(),
            "super" => self.parent(&self.module),
            _ => {
                let child = [self.module.as_slice(), std::slice::from_ref(first)].concat();
                return self
                    .modules
                    .contains(&child)
                    .then(|| [&child, rest].concat());
            }
        };
        while let Some((first, others)) = rest.split_first()
            && first == "super"
        {
            base = self.parent(&base);
            rest = others;
        }
        Some([base.as_slice(), rest].concat())
    }

    fn parent(&self, module: &Name) -> Name {
        module
            .split_last()
            .map_or_else(Name::new, |(_, parent)| parent.to_vec())
    }

    fn name(&mut self, segments: &[String]) {
        if let Some(name) = self.resolve(segments).filter(|name| !name.is_empty()) {
            self.named.insert(name);
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &[String], shown: bool) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        let (path, alias) = match tree {
            UseTree::Path(path) => return self.tree(&path.tree, &with(&path.ident), shown),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(tree, before, shown);
                }
                return;
            }
            UseTree::Glob(_) => return self.name(before),
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned())
            }
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
        };
        self.name(&path);
        if let (true, Some(alias), Some(target)) = (shown, alias, self.resolve(&path)) {
            let name = [self.module.as_slice(), &[alias]].concat();
            if name != target {
                self.exports.insert(name, target);
            }
        }
    }

    /// Paths in what is given to a macro, which nobody has parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut joins = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if joins != 2 {
                        self.name(&std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    joins = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => joins += 1,
                TokenTree::Group(group) => {
                    self.name(&std::mem::take(&mut path));
                    self.tokens(group.stream());
                    joins = 0;
                }
                _ => {
                    self.name(&std::mem::take(&mut path));
                    joins = 0;
                }
            }
        }
        self.name(&path);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let shown = !matches!(item.vis, Visibility::Inherited);
        self.tree(&item.tree, &[], shown);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

/// Whether an item is built for tests only.
fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Ident>()
            .is_ok_and(|ident| ident == "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let texts = files
            .iter()
            .map(|(place, text)| ((*place).into(), (*text).into()));
        arrows(&texts.collect()).unwrap().into_iter().collect()
    }

    const HOME: House = House {
        sources: "src",
        floors: &[&["top"], &["left", "right"], &["ground"]],
        only: &[("top", &["left", "right"])],
        breaches: &[("left/mod.rs", "top")],
    };

    #[test]
    fn an_arrow_is_seen_however_it_is_written() {
        let arrow = |text: &str| {
            seen(&[
                ("lib.rs", "mod top; mod ground; pub use ground::Stone;"),
                (
                    "top/mod.rs",
                    "mod inner; pub(super) use crate::ground::Deep;",
                ),
                ("top/inner.rs", text),
                ("ground.rs", ""),
            ])
            .contains(&("top/inner.rs".into(), "ground".into()))
        };
        for text in [
            "use crate::ground;",
            "use crate::{a, ground::{self, Earth}};",
            "use super::super::ground::Earth;",
            "use crate::ground::*;",
            "fn f() { crate::ground::dig() }",
            "fn f(x: &dyn crate::ground::Dig) {}",
            "fn f() { let x = <crate::ground::A as Default>::default(); }",
            "fn f() { println!(\"{}\", crate::ground::DEPTH) }",
            // By a re-export, of the folder above and of the root.
            "use super::Deep;",
            "use crate::Stone;",
            "mod a { use super::super::super::ground::Earth; }",
        ] {
            assert!(arrow(text), "{text}");
        }
        for text in [
            "// use crate::ground;",
            "const X: &str = \"crate::ground::Earth\";",
            "use other::ground::Earth;",
            "#[cfg(test)] mod tests { use crate::ground; }",
            "#[cfg(test)] use crate::ground::Earth;",
            "fn ground() {}",
        ] {
            assert!(!arrow(text), "{text}");
        }
    }

    #[test]
    fn what_a_folder_shows_of_itself_is_a_name_of_that_folder_only() {
        let files = [
            ("left/mod.rs", "mod deep; pub use deep::{Thing, deep};"),
            ("left/deep.rs", "pub struct Thing; pub fn deep() {}"),
            ("top.rs", "use crate::left::{Thing, deep::x};"),
        ];
        assert_eq!(seen(&files), [("top.rs".into(), "left".into())]);
    }

    #[test]
    fn a_house_has_its_arrows_down_and_its_breaches_on_the_list() {
        let judge = |arrows: &[(&str, &str)]| {
            let arrows = arrows
                .iter()
                .map(|(file, to)| ((*file).into(), (*to).into()));
            HOME.judge(&arrows.collect())
        };
        let kept = ("left/mod.rs", "top");
        assert_eq!(
            judge(&[kept, ("top.rs", "right"), ("left/a.rs", "ground")]),
            [""; 0]
        );
        for (arrow, told) in [
            (("left/a.rs", "top"), "names `top`"),
            (("left/a.rs", "right"), "names `right`"),
            (("top.rs", "ground"), "names `ground`"),
            (("ground.rs", "attic"), "no floor for `attic`"),
        ] {
            let wrong = judge(&[kept, arrow]);
            assert!(wrong.len() == 1 && wrong[0].contains(told), "{wrong:?}");
        }
        let wrong = judge(&[]);
        assert!(wrong[0].contains("take it off the list"), "{wrong:?}");
    }
}
